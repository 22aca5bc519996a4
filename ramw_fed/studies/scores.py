"""What an arm of a study reaches: a measure as a function of how often each patient is drawn.

The unit is the patient. An arm's trainings (seeds, orders of entry) are replicates of it: a measure is the mean over
them under one and the same draw of patients, so that more seeds never look like more patients.
"""

from collections.abc import Mapping, Sequence
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
from ramw_fed.metrics.rows import Rows, Values, ratio
from ramw_fed.metrics.scopes import group_by_patient
from ramw_fed.statistics.intervals import FEWEST_PATIENTS, Patient, Statistic, weighted_sums

_NOT_BY_THRESHOLD = 0.5


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

    def why_undefined(self) -> str:
        """Return why there is no value."""
        if self.holders and not min(self.holders):
            lacking = "eroded joint" if not self.holders[0] else "joint without erosion"
            return f"one class in the truth: no {lacking}" if max(self.holders) else "no scored joints"
        return self.reason or "not defined for these patients"

    def value(self) -> float:
        """Return the measure over all patients; NaN where it is not defined."""
        return float(self.statistic(np.ones((1, len(self.patients))))[0, 0]) if len(self.patients) else float("nan")


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


def within(parts: Mapping[str, Scores]) -> Scores:
    """Return the mean over parts of their own measures, weighted by ``mass``: of AUROC, that of pairs of one part.

    It is the fair one where parts (centers, folds) have models of their own, whose scores do not rank together. Where
    the measure is a mean over patients or joints it equals the pooled one. Who has no value is left out. Of AUROC it is
    the sum of the parts' Mann-Whitney statistics over the sum of their pairs.
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


def of_patients(metric: str, replicates: Sequence[Mapping[str, NDArray[Any]]]) -> Scores:
    """Return a mean over patients, from columns ``test_center``, ``patient`` and ``value`` of each replicate."""
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


def of_joints(metric: str, replicates: Sequence[Mapping[str, NDArray[Any]]]) -> Scores:
    """Return a measure of joints, from each replicate's ``test_center``, ``patient``, ``probability`` and ``grade``."""
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


def empty(metric: str) -> Scores:
    """Return the measure of nobody."""

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
