"""What an arm of a study reaches: a measure as a function of how often each patient is drawn.

The unit is the patient. An arm's trainings (seeds, orders of entry) are replicates of it: a measure is the mean over
them under one and the same draw of patients, so that more seeds never look like more patients.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramw_fed.errors import StudyError
from ramw_fed.metrics.classification import (
    CLASSIFICATION_METRICS,
    NEEDS_NEGATIVES,
    NEEDS_POSITIVES,
    classification_statistic,
)
from ramw_fed.metrics.erosion_pairs import BOOTSTRAP
from ramw_fed.metrics.ranges import bounded, range_of
from ramw_fed.metrics.rows import Rows, Values, ratio
from ramw_fed.metrics.scopes import group_by_patient, macro_entry
from ramw_fed.statistics.intervals import (
    FEWEST_PATIENTS,
    Patient,
    Replicates,
    Statistic,
    bootstrap,
    bootstrap_intervals,
    weighted_sums,
)
from ramw_fed.studies.table import MODEL, Columns

Entry = dict[str, Any]
_NOT_BY_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True, order=True)
class Model:
    """One trained network at one test center: a group of rows of the table."""

    design: str
    arm: str
    seed: int
    fold: str
    dose: str
    label: str
    train_centers: str
    test_center: str
    task: str


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A measure of one arm, or a difference of two, on test patients.

    Attributes:
        metric: Its name.
        patients: Center and name of each.
        statistic: From weights ``(R, P)`` to ``(R, 1)``; NaN: not defined.
        mass: Likewise, how much the measure weighs beside that of another center: patients with a value, pairs of an
            eroded and another joint (AUROC), eroded joints (AUPRC), joints (all others).
        contributes: ``(P,)`` who has a part in it; too few patients for an interval: nobody.
        values: ``(P,)`` one a patient, where the measure is a mean of such; else None.
        each: ``(replicates, P)`` likewise, of every training; None of joints, means and differences.
        reason: Why there may be no value, or no interval.
        holders: Of joints: patients with an eroded one, and with one that is not; else empty.
    """

    metric: str
    patients: Sequence[Patient]
    statistic: Statistic
    mass: Statistic
    contributes: NDArray[np.bool_]
    values: Values | None
    reason: str
    holders: Sequence[int] = ()
    each: Values | None = None

    def value(self) -> float:
        """Return the measure over all patients; NaN where it is not defined."""
        return float(self.statistic(np.ones((1, len(self.patients))))[0, 0]) if len(self.patients) else float("nan")


class Results:
    """A study's table by model."""

    def __init__(self, table: Columns, *, seed: int, resamples: int) -> None:
        """Take a table whose rows are sorted, as it is written; ``seed`` and ``resamples`` are of the bootstrap."""
        self.table = table
        self.seed = seed
        self.resamples = resamples
        self._places: dict[Model, NDArray[np.int64]] = _places(table)

    def models(self, **wanted: Any) -> list[Model]:
        """Return the models whose fields have these values, sorted."""
        return [
            model
            for model in sorted(self._places)
            if all(getattr(model, field) == value for field, value in wanted.items())
        ]

    def scores(self, metric: str, models: Iterable[Model]) -> Scores:
        """Return a measure over the test patients of some models of one arm.

        Args:
            metric: Of the models' task.
            models: Of any seeds, folds, orders of entry and test centers.

        Raises:
            StudyError: The replicates do not cover the same patients.
        """
        replicates: dict[tuple[int, str], list[Model]] = {}
        for model in models:
            replicates.setdefault((model.seed, model.label), []).append(model)
        parts = [self._rows(group, metric) for _, group in sorted(replicates.items())]
        if not parts:
            return _empty(metric)
        keys = [part[0] for part in parts]
        if any(key != keys[0] for key in keys):
            raise StudyError("the seeds of an arm do not cover the same test patients; run the study again")
        return (_of_patients if metric not in CLASSIFICATION_METRICS else _of_joints)(metric, [p[1] for p in parts])

    def at(self, metric: str, models: Sequence[Model], center: str) -> Scores:
        """Return the measure at one test center."""
        return self.scores(metric, [model for model in models if model.test_center == center])

    def entry(self, scores: Scores) -> Entry:
        """Return the measure with its interval, in the form of ``metrics.json``."""
        value, count = scores.value(), int(scores.contributes.sum()) or len(scores.patients)
        if np.isnan(value):
            return {"value": None, "ci": None, "n": count, "reason": scores.reason or "not defined for these patients"}
        (interval,) = bootstrap_intervals(
            scores.statistic, scores.patients, scores.contributes[:, None], seed=self.seed, resamples=self.resamples
        )
        limits = bounded(interval, scores.metric)
        return {"value": value, "ci": None if limits is None else [limits.low, limits.high], "n": count}

    def difference(self, first: Scores, second: Scores) -> Entry:
        """Return ``first`` less ``second``; both arms' own values stand beside it."""
        entry = self.entry_of_difference(less(first, second))
        return entry if entry["value"] is None else entry | {"first": first.value(), "second": second.value()}

    def entry_of_difference(self, scores: Scores) -> Entry:
        """Return a difference with its interval and two-sided p, of one bootstrap for both sides."""
        value, count = scores.value(), int(scores.contributes.sum()) or len(scores.patients)
        if np.isnan(value):
            return {"value": None, "ci": None, "n": count, "reason": scores.reason or "not defined for these patients"}
        entry: Entry = {"value": value, "ci": None, "n": count}
        drawn = self.replicates(scores)
        if drawn is not None:
            least, most = range_of(scores.metric)
            interval = drawn.interval().within(least - most, most - least)
            entry |= {"ci": [interval.low, interval.high], "p": drawn.p_value(), "test": BOOTSTRAP}
        return entry

    def replicates(self, scores: Scores) -> Replicates | None:
        """Return the measure in each resample of patients; None where too few contribute."""
        contributes = scores.contributes[:, None]
        (drawn,) = bootstrap(scores.statistic, scores.patients, contributes, seed=self.seed, resamples=self.resamples)
        return drawn

    def by_center(self, metric: str, models: Sequence[Model]) -> dict[str, Scores]:
        """Return the measure at each test center."""
        return {center: self.at(metric, models, center) for center in sorted({model.test_center for model in models})}

    def scopes(self, metric: str, models: Sequence[Model]) -> dict[str, Any]:
        """Return a measure pooled, within centers, macro over them, at each of them, and of each seed."""
        centers = sorted({model.test_center for model in models})
        by_center = {center: self.entry(self.at(metric, models, center)) for center in centers}
        seeds = {seed: self.scores(metric, [m for m in models if m.seed == seed]).value() for seed in _seeds(models)}
        known = [value for value in seeds.values() if not np.isnan(value)]
        within = within_centers(self.by_center(metric, models)) if models else _empty(metric)
        return {
            "pooled": self.entry(self.scores(metric, models)),
            "within": self.entry(within),
            "macro": macro_entry(list(by_center.values()), *range_of(metric)) if by_center else {},
            "centers": by_center,
            "seeds": {str(seed): None if np.isnan(value) else value for seed, value in seeds.items()},
            "seed_sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        }

    def _rows(self, models: Sequence[Model], metric: str) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Return what tells the rows apart, and the rows, of one replicate; sorted by patient, radiograph and joint."""
        places = np.concatenate([self._places[model] for model in models])
        measure = self.table["measure"][places]
        if metric not in CLASSIFICATION_METRICS:
            places = places[measure == metric]
            columns = {name: self.table[name][places] for name in ("test_center", "patient", "value")}
        else:
            probable, graded = places[measure == "probability"], places[measure == "grade"]
            columns = {name: self.table[name][probable] for name in ("test_center", "patient", "radiograph", "item")}
            columns |= {"probability": self.table["value"][probable], "grade": self.table["value"][graded]}
        names = [name for name in ("test_center", "patient", "radiograph", "item") if name in columns]
        keys = list(zip(*(columns[name].tolist() for name in names), strict=True))
        order = sorted(range(len(keys)), key=lambda row: keys[row])
        return [keys[row] for row in order], {name: column[order] for name, column in columns.items()}


def less(first: Scores, second: Scores) -> Scores:
    """Return the difference of two measures of the same patients.

    Raises:
        StudyError: They are not the same.
    """
    if list(first.patients) != list(second.patients):
        raise StudyError("two arms to be compared do not cover the same test patients; run the study again")
    both = first.contributes & second.contributes
    known = None if first.values is None or second.values is None else first.values - second.values
    return Scores(
        metric=first.metric,
        patients=first.patients,
        statistic=lambda weights: first.statistic(weights) - second.statistic(weights),
        mass=first.mass,
        contributes=both,
        values=known,
        reason=first.reason or second.reason,
        holders=first.holders,
    )


def mean_of(parts: Sequence[Scores]) -> Scores:
    """Return the mean of measures of the same patients."""
    head = parts[0]
    values = [part.values for part in parts if part.values is not None]
    return Scores(
        metric=head.metric,
        patients=head.patients,
        statistic=lambda weights: _mean([part.statistic(weights) for part in parts]),
        mass=head.mass,
        contributes=np.logical_and.reduce([part.contributes for part in parts]),
        values=np.mean(values, axis=0) if len(values) == len(parts) else None,
        reason=next((part.reason for part in parts if part.reason), ""),
        holders=head.holders,
    )


def within_centers(parts: Mapping[str, Scores]) -> Scores:
    """Return the mean over centers of their own measures, weighted by ``mass``: of AUROC, that of pairs of one center.

    It is the fair one where centers have models of their own, whose scores do not rank together. Where the measure is
    a mean over patients or joints it equals the pooled one. Who has no value is left out. Of AUROC it is the sum of the
    centers' Mann-Whitney statistics over the sum of their pairs.
    """
    known = {center: scores for center, scores in sorted(parts.items()) if not np.isnan(scores.value())}
    if not known:
        return next(iter(parts.values()))
    edges = np.cumsum([0, *(len(scores.patients) for scores in known.values())])

    def blocks(weights: Values) -> list[tuple[Scores, Values]]:
        return [(one, weights[:, low:high]) for one, (low, high) in zip(known.values(), pairwise(edges), strict=True)]

    def mass(weights: Values) -> Values:
        return np.asarray(np.sum([one.mass(own) for one, own in blocks(weights)], axis=0), np.float64)

    def statistic(weights: Values) -> Values:
        sums = np.zeros((len(weights), 1))
        for one, own in blocks(weights):
            weighed = one.mass(own)
            sums += np.where(weighed > 0, weighed * one.statistic(own), 0.0)  # no pair was drawn there: no value
        return ratio(sums, mass(weights))

    heads = list(known.values())
    own = [one.values for one in heads]
    holders = [sum(column) for column in zip(*(one.holders for one in heads), strict=True)]
    reason = _too_few(heads[0].metric, holders)
    size = sum(len(one.patients) for one in heads)
    contributes = np.concatenate([one.contributes for one in heads])
    return Scores(
        metric=heads[0].metric,
        patients=[patient for one in heads for patient in one.patients],
        statistic=statistic,
        mass=mass,
        contributes=np.full(size, not reason) if holders else contributes,
        values=np.concatenate([one for one in own if one is not None]) if all(one is not None for one in own) else None,
        reason=reason,
        holders=holders,
    )


def _mean(values: Sequence[Values]) -> Values:
    return np.asarray(np.mean(values, axis=0), np.float64)


def _of_patients(metric: str, replicates: Sequence[Mapping[str, NDArray[Any]]]) -> Scores:
    head = replicates[0]
    patients = list(zip(head["test_center"].tolist(), head["patient"].tolist(), strict=True))
    each = np.array([one["value"] for one in replicates], np.float64)
    values = np.mean(each, axis=0)  # NaN where one of the models has no value
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)[:, None]

    def mass(weights: Values) -> Values:
        return weighted_sums(weights, known[:, None].astype(np.float64))

    return Scores(
        metric=metric,
        patients=patients,
        statistic=lambda weights: ratio(weighted_sums(weights, filled), mass(weights)),
        mass=mass,
        contributes=known,
        values=values,
        reason="" if known.any() else "no patient has a value in every training",
        each=each,
    )


def _of_joints(metric: str, replicates: Sequence[Mapping[str, NDArray[Any]]]) -> Scores:
    head = replicates[0]
    patients, units = group_by_patient(head["test_center"].tolist(), head["patient"].tolist())
    labels, column = head["grade"] > 0, CLASSIFICATION_METRICS.index(metric)
    rows = [
        Rows(probabilities=each["probability"], labels=labels, units=units, num_units=len(patients))
        for each in replicates
    ]
    statistics = [classification_statistic(one, threshold=_NOT_BY_THRESHOLD) for one in rows]
    classes = rows[0].sums(labels, ~labels)

    def mass(weights: Values) -> Values:
        eroded, others = weighted_sums(weights, classes).T
        found: Values = {"auroc": eroded * others, "auprc": eroded}.get(metric, eroded + others)
        return found[:, None]

    holders = [len(np.unique(units[labels])), len(np.unique(units[~labels]))]
    reason = _too_few(metric, holders)
    return Scores(
        metric=metric,
        patients=patients,
        statistic=lambda weights: _mean([one(weights)[:, [column]] for one in statistics]),
        mass=mass,
        contributes=np.full(len(patients), not reason),
        values=None,
        reason=reason,
        holders=holders,
    )


def _too_few(metric: str, holders: Sequence[int]) -> str:
    """Return why there can be no interval, or an empty text: five patients must hold each class that it needs."""
    if not holders:
        return ""
    needs = [(holders[0], "an eroded joint")] if metric in NEEDS_POSITIVES else []
    needs += [(holders[1], "a joint without erosion")] if metric in NEEDS_NEGATIVES else []
    for count, what in needs:
        if count < FEWEST_PATIENTS:
            return f"{count} patients have {what}; {FEWEST_PATIENTS} are needed for an interval"
    return ""


def _empty(metric: str) -> Scores:
    def nothing(weights: Values) -> Values:
        return np.full((len(weights), 1), np.nan)

    return Scores(
        metric=metric,
        patients=[],
        statistic=nothing,
        mass=lambda weights: np.zeros((len(weights), 1)),
        contributes=np.zeros(0, np.bool_),
        values=np.zeros(0),
        reason="no test patients",
    )


def _places(table: Columns) -> dict[Model, NDArray[np.int64]]:
    fields = [name for name in MODEL if name not in ("study", "method")]
    rows: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(zip(*(table[name].tolist() for name in fields), strict=True)):
        rows.setdefault(key, []).append(row)
    return {Model(**dict(zip(fields, key, strict=True))): np.array(found, np.int64) for key, found in rows.items()}


def _seeds(models: Sequence[Model]) -> list[int]:
    return sorted({model.seed for model in models})
