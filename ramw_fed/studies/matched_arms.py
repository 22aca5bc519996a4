"""Local, central or federated, with the same training: does federating help, and whom?

Every arm sees each of its training radiographs equally often (rounds times local epochs), with a new optimizer each
round: a center alone takes as many steps as it takes within the federation, and pooled radiographs as many as all
centers together. Every arm searches the same grid with its own validation patients.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ramw_fed.comparison import better, reading
from ramw_fed.metrics.classification import CLASSIFICATION_METRICS, NEEDS_POSITIVES
from ramw_fed.metrics.segmentation_pairs import paired_entry
from ramw_fed.statistics.comparison import holm
from ramw_fed.studies.scores import Entry, Model, Results, within_centers
from ramw_fed.studies.training import CENTRAL, LOCAL, Cell, Ground, alone, federated, pooled

DESIGN = "matched-arms"


def cells(ground: Ground) -> Iterator[Cell]:
    """Test a center's own model at itself, all others wherever there is something to test."""
    for blank, sites in ground.settings():
        testers = sites.testers[blank.task]
        for training in alone(blank, sites):
            own = tuple(center for center in training.centers if center in testers)
            if own:
                yield Cell(design=DESIGN, training=training, test_centers=own)
        together = federated(blank, sites.trainers[blank.task], ground.study.config.methods)
        for training in [*pooled(blank, sites), *together]:
            yield Cell(design=DESIGN, training=training, test_centers=testers)


def analyse(results: Results, task: str, metric: str, study: Mapping[str, Any]) -> dict[str, Any]:
    """Return each arm's measures, the declared contrasts, and who gains or loses."""
    models = {
        arm: found
        for arm in (LOCAL, CENTRAL, *study["methods"])
        if (found := results.models(design=DESIGN, task=task, arm=arm))
    }
    arms = {arm: _scopes(results, metric, arm, found) for arm, found in models.items()}
    pairs = [(first, second) for first, second in study["contrasts"] if first in models and second in models]
    margin = study["margins"].get(metric)
    return {
        "arms": arms,
        "contrasts": [_contrast(results, metric, models, pair) for pair in pairs],
        "fairness": {arm: _fairness(scopes, arms.get(LOCAL), metric, margin) for arm, scopes in arms.items()},
    }


def adjust(tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Add Holm's p-values over all declared contrasts of all tasks and metrics, and what they mean."""
    family = [
        (metric, entry) for metrics in tasks.values() for metric, one in metrics.items() for entry in one["contrasts"]
    ]
    for (metric, entry), p in zip(family, holm([entry.get("p") for _, entry in family]), strict=True):
        if p is not None:
            said = reading(metric, entry["value"], p)
            names = {"A": entry["arms"][0], "B": entry["arms"][1]}
            entry |= {"p_holm": p, "reading": f"{names[said[0]]}{said[1:]}" if said[1:2] == " " else said}


def _scopes(results: Results, metric: str, arm: str, models: Sequence[Model]) -> dict[str, Any]:
    scopes = results.scopes(metric, models)
    if arm == LOCAL and metric in NEEDS_POSITIVES:
        reason = "each center has a model of its own, whose scores do not rank with the others'"
        scopes |= {"pooled": {"value": None, "ci": None, "n": scopes["pooled"]["n"], "reason": reason}}
        scopes |= {"seeds": {}, "seed_sd": None}
    return scopes


def _contrast(
    results: Results, metric: str, models: Mapping[str, Sequence[Model]], pair: tuple[str, str]
) -> dict[str, Any]:
    """Compare two arms over the centers that both were tested at."""
    first, second = (models[arm] for arm in pair)
    shared = {model.test_center for model in first} & {model.test_center for model in second}
    own = [[model for model in arm if model.test_center in shared] for arm in (first, second)]
    return {"arms": list(pair), "centers": sorted(shared), **_difference(results, metric, own, LOCAL in pair)}


def _difference(results: Results, metric: str, arms: Sequence[Sequence[Model]], is_by_center: bool) -> Entry:
    if metric in CLASSIFICATION_METRICS and is_by_center:
        one, other = (within_centers(results.by_center(metric, models)) for models in arms)
        return {"scope": "within centers", **results.difference(one, other)}
    one, other = (results.scores(metric, models) for models in arms)
    if one.values is None or other.values is None:
        return {"scope": "pooled", **results.difference(one, other)}
    return {"scope": "pooled", **paired_entry(one.values, other.values, len(one.patients))}


def _fairness(scopes: Mapping[str, Any], local: Mapping[str, Any] | None, metric: str, margin: float | None) -> Entry:
    """Worst center, distance to the best, spread, and centers that a model of their own would have served better."""
    known = {center: entry["value"] for center, entry in scopes["centers"].items() if entry["value"] is not None}
    if not known:
        return {"reason": "no center has a value"}
    sign = better(metric)
    worst = min(known, key=lambda center: (sign * known[center], center))
    found: Entry = {
        "worst_center": worst,
        "worst": known[worst],
        "gap": max(known.values()) - min(known.values()),
        "sd": float(np.std(list(known.values()), ddof=1)) if len(known) > 1 else None,
        "left_out": len(scopes["centers"]) - len(known),
        "margin": margin or 0.0,
    }
    if local is not None:
        own = {center: entry["value"] for center, entry in local["centers"].items() if entry["value"] is not None}
        both = sorted(set(own) & set(known))
        harmed = [center for center in both if sign * (known[center] - own[center]) < -(margin or 0.0)]
        found |= {"harmed": harmed, "compared": both}
    return found
