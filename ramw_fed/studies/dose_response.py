"""A dial of the phantom turned up: how each arm bears what is known to differ between its centers."""

from collections.abc import Iterator, Mapping
from typing import Any

from ramw_fed.studies.matched_arms import every_arm
from ramw_fed.studies.results import Entry, Results, is_apart
from ramw_fed.studies.scores import within
from ramw_fed.studies.training import CENTRAL, LOCAL, Cell, Ground

DESIGN = "dose-response"


def cells(ground: Ground) -> Iterator[Cell]:
    """Train and test every arm anew on the cohort of each dose; a center alone is tested at itself."""
    for dose in ground.study.config.settings():
        yield from every_arm(ground, DESIGN, dose)


def analyse(results: Results, task: str, metric: str, study: Mapping[str, Any]) -> dict[str, dict[str, Entry]]:
    """Return, by arm and dose, the measure over all test patients (of ranks at centers alone: the mean of theirs)."""
    found: dict[str, dict[str, Entry]] = {}
    for arm in (LOCAL, CENTRAL, *study["methods"]):
        models = results.models(design=DESIGN, task=task, arm=arm)
        for dose in sorted({model.dose for model in models}, key=float):
            own = [model for model in models if model.dose == dose]
            if is_apart(arm, metric, study):
                scores = within(results.by_center(metric, own))
            else:
                scores = results.scores(metric, own)
            found.setdefault(arm, {})[dose] = results.entry(scores)
    return found
