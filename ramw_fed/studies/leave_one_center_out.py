"""A center that nobody trained on: what a new hospital may expect, beside what it would have had as a member.

Everything that is chosen, rounds and tuned knobs, is chosen by the others' validation patients; the center held out is
opened once, at the end (``held_out.py``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ramw_fed.metrics.ranges import range_of
from ramw_fed.metrics.scopes import macro_entry
from ramw_fed.studies.results import Model, Results
from ramw_fed.studies.scores import less, within
from ramw_fed.studies.training import CENTRAL, Cell, Ground, federated, pooled

DESIGN = "leave-one-center-out"


def cells(ground: Ground) -> Iterator[Cell]:
    """Train on all but one and test there; the models of all centers are tested there for comparison."""
    for blank, sites in ground.settings():
        trainers, methods = sites.trainers[blank.task], ground.study.config.methods
        for held_out in sites.testers[blank.task]:
            others = tuple(center for center in trainers if center != held_out)
            outside = [*federated(blank, others, methods)]
            outside += [replace(blank, arm=CENTRAL, centers=others)] if len(others) > 1 else []
            inside = [*federated(blank, trainers, methods), *pooled(blank, sites)] if held_out in trainers else []
            for training in [*outside, *inside]:
                yield Cell(design=DESIGN, training=training, test_centers=(held_out,))


def analyse(results: Results, task: str, metric: str, study: Mapping[str, Any]) -> dict[str, Any]:
    """Return, by arm, the measure at each center held out, as a member, and what leaving it out costs."""
    found = {}
    for arm in (CENTRAL, *study["methods"]):
        models = results.models(design=DESIGN, task=task, arm=arm)
        if models:
            found[arm] = _arm(results, metric, models)
    return found


def _arm(results: Results, metric: str, models: list[Model]) -> dict[str, Any]:
    outside = results.by_center(metric, [model for model in models if not _is_member(model)])
    inside = results.by_center(metric, [model for model in models if _is_member(model)])
    centers = {center: results.entry(scores) for center, scores in outside.items()}
    losses = {center: less(inside[center], outside[center]) for center in sorted(set(inside) & set(outside))}
    known = {center: scores for center, scores in losses.items() if not np.isnan(scores.value())}
    nothing = {"value": None, "ci": None, "n": 0, "reason": "no center was tested both ways"}
    return {
        "centers": centers,
        "macro": macro_entry(list(centers.values()), *range_of(metric)),
        "inside": {center: results.entry(scores) for center, scores in inside.items()},
        "loss": results.entry_of_difference(within(known)) if known else nothing,
    }


def _is_member(model: Model) -> bool:
    return model.test_center in model.train_centers.split("+")
