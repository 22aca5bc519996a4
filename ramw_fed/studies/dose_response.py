"""A dial of the phantom turned up: how each arm bears what is known to differ between its centers."""

from collections.abc import Iterator, Mapping
from typing import Any

from ramw_fed.studies.results import Entry, Results, is_apart
from ramw_fed.studies.scores import within
from ramw_fed.studies.training import CENTRAL, LOCAL, Cell, Ground, alone, federated, pooled

DESIGN = "dose-response"


def cells(ground: Ground) -> Iterator[Cell]:
    """Train and test every arm anew on the cohort of each dose; a center alone is tested at itself."""
    for dose in ground.study.config.settings():
        for blank, sites in ground.settings(dose=dose):
            testers = sites.testers[blank.task]
            for training in alone(blank, sites):
                own = tuple(center for center in training.centers if center in testers)
                if own:
                    yield Cell(design=DESIGN, training=training, test_centers=own)
            together = federated(blank, sites.trainers[blank.task], ground.study.config.methods)
            for training in [*pooled(blank, sites), *together]:
                yield Cell(design=DESIGN, training=training, test_centers=testers)


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
