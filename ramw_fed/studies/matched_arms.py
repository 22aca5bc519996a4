"""Local, central or federated, with the same training: does federating help, and whom?

Every arm sees each of its training radiographs equally often (rounds times local epochs), with a new optimizer each
round: a center alone takes as many steps as it takes within the federation, and pooled radiographs as many as all
centers together. Every arm searches the same grid with its own validation patients.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ramw_fed.comparison import better, reading
from ramw_fed.metrics.segmentation_pairs import paired_entry
from ramw_fed.statistics.comparison import holm
from ramw_fed.statistics.equivalence import equivalence_of_means, equivalence_of_replicates
from ramw_fed.statistics.fairness import CenterValue, fairness
from ramw_fed.statistics.mixed import mixed_contrasts
from ramw_fed.studies.results import Entry, Model, Results, is_apart
from ramw_fed.studies.scores import Scores, less, within
from ramw_fed.studies.training import CENTRAL, LOCAL, Cell, Ground, alone, federated, pooled

DESIGN = "matched-arms"


def cells(ground: Ground) -> Iterator[Cell]:
    """Test a center's own model at itself, all others wherever there is something to test."""
    yield from every_arm(ground, DESIGN)


def every_arm(ground: Ground, design: str, dose: str = "") -> Iterator[Cell]:
    """Train each center alone, all pooled and all federated, on the cohort of a dose."""
    for blank, sites in ground.settings(dose=dose):
        testers = sites.testers[blank.task]
        for training in alone(blank, sites):
            own = tuple(center for center in training.centers if center in testers)
            if own:
                yield Cell(design=design, training=training, test_centers=own)
        together = federated(blank, sites.trainers[blank.task], ground.study.config.methods)
        for training in [*pooled(blank, sites), *together]:
            yield Cell(design=design, training=training, test_centers=testers)


def analyse(results: Results, task: str, metric: str, study: Mapping[str, Any]) -> dict[str, Any]:
    """Return each arm's measures, the declared contrasts, and who gains or loses."""
    models = {
        arm: found
        for arm in (LOCAL, CENTRAL, *study["methods"])
        if (found := results.models(design=DESIGN, task=task, arm=arm))
    }
    apart = {arm for arm in models if is_apart(arm, metric, study)}
    arms = {arm: _scopes(results, metric, found, is_apart=arm in apart) for arm, found in models.items()}
    margin = study["margins"].get(metric)
    return {
        "arms": arms,
        "contrasts": [
            _contrast(results, metric, models, pair, bool(apart & set(pair)), margin) for pair in study["contrasts"]
        ],
        "fairness": {
            arm: _fairness(results, metric, found, models.get(LOCAL, []), margin or 0.0)
            for arm, found in models.items()
        },
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


def _scopes(results: Results, metric: str, models: Sequence[Model], *, is_apart: bool) -> dict[str, Any]:
    scopes = results.scopes(metric, models)
    if is_apart:
        reason = "each center has a model of its own, whose scores do not rank with the others'"
        scopes |= {"pooled": {"value": None, "ci": None, "n": scopes["pooled"]["n"], "reason": reason}}
        scopes |= {"seeds": {}, "seed_sd": None}
    return scopes


def _contrast(
    results: Results,
    metric: str,
    models: Mapping[str, Sequence[Model]],
    pair: Sequence[str],
    is_by_center: bool,
    margin: float | None,
) -> dict[str, Any]:
    """Compare two arms over the centers that both were tested at."""
    absent = [arm for arm in pair if arm not in models]
    if absent:
        reason = f"{', '.join(absent)} was not trained on this task"
        return {"arms": list(pair), "centers": [], "scope": "-", "value": None, "ci": None, "n": 0, "reason": reason}
    first, second = (models[arm] for arm in pair)
    shared = {model.test_center for model in first} & {model.test_center for model in second}
    own = [[model for model in arm if model.test_center in shared] for arm in (first, second)]
    return {"arms": list(pair), "centers": sorted(shared), **_difference(results, metric, own, is_by_center, margin)}


def _difference(
    results: Results, metric: str, arms: Sequence[Sequence[Model]], is_by_center: bool, margin: float | None
) -> Entry:
    if is_by_center:
        one, other = (within(results.by_center(metric, models)) for models in arms)
        scope = "within centers"
    else:
        one, other = (results.scores(metric, models) for models in arms)
        scope = "pooled"
    if one.values is not None and other.values is not None:
        return {"scope": scope, **_of_patients(metric, one, other, margin)}
    entry = {"scope": scope, **results.difference(one, other)}
    drawn = results.replicates(less(one, other)) if margin and entry["value"] is not None else None
    if drawn is not None and margin:
        judged = equivalence_of_replicates(drawn, margin=margin, larger_is_better=better(metric) > 0)
        entry["equivalence"] = judged.as_dict()
    return entry


def _of_patients(metric: str, one: Scores, other: Scores, margin: float | None) -> Entry:
    """Signed ranks over patients; beside them mixed models, and the margin held against the mean difference."""
    assert one.values is not None
    assert other.values is not None
    entry = paired_entry(one.values, other.values, len(one.patients))
    if entry["value"] is None:
        return entry
    differences = one.values - other.values
    known = ~np.isnan(differences)
    centers = [center for (center, _), there in zip(one.patients, known, strict=True) if there]
    if margin:
        judged = equivalence_of_means(differences[known], centers, margin=margin, larger_is_better=better(metric) > 0)
        entry |= {"equivalence": judged.as_dict()} if judged else {}
    return entry | _models(one, other)


def _models(one: Scores, other: Scores) -> Entry:
    """Return the difference by a mixed model with centers drawn at random, and with centers fixed."""
    if one.each is None or other.each is None or len(one.each) != len(other.each):
        return {}
    rows = [
        (center, patient, seed, arm, value)
        for arm, scores in (("first", one), ("second", other))
        for seed, values in enumerate(scores.each if scores.each is not None else ())
        for (center, patient), value in zip(scores.patients, values.tolist(), strict=True)
    ]
    centers, patients, seeds, arms, values = zip(*rows, strict=True)
    (found,) = mixed_contrasts(centers, patients, seeds, arms, values, reference="second")
    return {"mixed": found.mixed.as_dict(), "fixed": found.fixed.as_dict()}


def _fairness(results: Results, metric: str, models: Sequence[Model], local: Sequence[Model], margin: float) -> Entry:
    """Return who fares worst, and whom a model of their own would have served better."""
    own, alone_ = results.by_center(metric, models), results.by_center(metric, local)
    centers = {name: CenterValue.of(results.entry(scores)) for name, scores in own.items()}
    lost = {
        name: CenterValue.of(results.entry_of_difference(less(own[name], alone_[name])))
        for name in sorted(set(own) & set(alone_))
    }
    found = fairness(centers, lost, margin=margin, larger_is_better=better(metric) > 0)
    return found.as_dict() if found else {"reason": "no center has a value"}
