"""Differences of two arms in erosion: one bootstrap by patient for both, or McNemar where a patient has one joint."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramw_fed.metrics.classification import (
    CLASSIFICATION_METRICS,
    NEEDS_NEGATIVES,
    NEEDS_POSITIVES,
    classification_statistic,
    classification_values,
)
from ramw_fed.metrics.estimate import NotEstimable
from ramw_fed.metrics.ranges import range_of
from ramw_fed.metrics.rows import Rows, Values, Whole
from ramw_fed.metrics.scopes import group_by_patient
from ramw_fed.statistics.comparison import mcnemar
from ramw_fed.statistics.intervals import FEWEST_PATIENTS, Replicates, bootstrap

Table = Mapping[str, NDArray[Any]]

BOOTSTRAP = "bootstrap clustered by patient and stratified by center, the same draws for both arms"
MCNEMAR = "McNemar's exact test, one joint a patient; interval by the bootstrap"


def erosion_differences(
    one: Table,
    other: Table,
    metrics: Sequence[str],
    *,
    thresholds: tuple[float, float],
    seed: int,
    resamples: int,
) -> dict[str, dict[str, Any]]:
    """Return the entry of each metric; see :mod:`ramw_fed.comparison`.

    Args:
        one: Joints of the first arm.
        other: Joints of the second, the same in the same order.
        metrics: Names.
        thresholds: Each arm's own: joints with at least this probability are called eroded.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    patients, units = group_by_patient(one["center"].tolist(), one["patient"].tolist())
    arms = [_rows(table, units, len(patients)) for table in (one, other)]
    values = [classification_values(rows, threshold=limit) for rows, limit in zip(arms, thresholds, strict=True)]
    statistics = [classification_statistic(rows, threshold=limit) for rows, limit in zip(arms, thresholds, strict=True)]
    columns = [CLASSIFICATION_METRICS.index(metric) for metric in metrics]

    def difference(weights: Values) -> Values:
        first, second = (statistic(weights)[:, columns] for statistic in statistics)
        return first - second

    reasons = [_reason(metric, arms[0], values) for metric in metrics]
    contributes = np.tile([reason is None for reason in reasons], (len(patients), 1))
    drawn = bootstrap(difference, patients, contributes, seed=seed, resamples=resamples)
    entries: dict[str, dict[str, Any]] = {}
    for metric, reason, replicates in zip(metrics, reasons, drawn, strict=True):
        if reason is not None:
            entries[metric] = {"value": None, "ci": None, "n": len(patients), "reason": reason}
            continue
        test = _single_joints(metric, arms, thresholds)
        entries[metric] = _entry(metric, values, len(patients), replicates, test)
    return entries


def _rows(table: Table, units: Whole, num_units: int) -> Rows:
    predicted = table.get("predicted_grade")
    return Rows(
        probabilities=np.asarray(table["probability"], np.float64),
        labels=table["grade"] > 0,
        units=units,
        num_units=num_units,
        grades=np.asarray(table["grade"], np.int64),
        predicted_grades=None if predicted is None else np.asarray(predicted, np.int64),
    )


def _reason(metric: str, rows: Rows, values: Sequence[dict[str, float | NotEstimable]]) -> str | None:
    """Return why there is no difference, or None: an arm has no value, or too few patients hold what it needs."""
    for name, arm in zip("AB", values, strict=True):
        value = arm[metric]
        if isinstance(value, NotEstimable):
            return f"{name}: {value.reason}"
    needs = [(np.ones_like(rows.labels), "a scored joint")]
    needs += [(rows.labels, "an eroded joint")] if metric in NEEDS_POSITIVES else []
    needs += [(~rows.labels, "a joint without erosion")] if metric in NEEDS_NEGATIVES else []
    for which, what in needs:
        count = len(np.unique(rows.units[which]))
        if count < FEWEST_PATIENTS:
            return f"{count} patients have {what}; {FEWEST_PATIENTS} are needed"
    return None


def _entry(
    metric: str,
    values: Sequence[dict[str, float | NotEstimable]],
    num_patients: int,
    replicates: Replicates | None,
    exact: float | None,
) -> dict[str, Any]:
    first, second = (float(arm[metric]) for arm in values)  # type: ignore[arg-type]
    entry: dict[str, Any] = {"value": first - second, "ci": None, "n": num_patients, "first": first, "second": second}
    if replicates is not None:
        least, most = range_of(metric)
        interval = replicates.interval().within(least - most, most - least)
        entry |= {"ci": [interval.low, interval.high], "p": replicates.p_value(), "test": BOOTSTRAP}
        entry |= {"redrawn": interval.redrawn} if interval.redrawn else {}
    return entry if exact is None else entry | {"p": exact, "test": MCNEMAR}


def _single_joints(metric: str, arms: Sequence[Rows], thresholds: tuple[float, float]) -> float | None:
    """Return McNemar's p-value of SEN or SPC where no patient has two joints of that class, else None."""
    rows = arms[0]
    if metric not in {"sen", "spc"}:
        return None
    which = rows.labels if metric == "sen" else ~rows.labels
    if len(np.unique(rows.units[which])) < np.count_nonzero(which):
        return None
    # In SEN those called eroded are right, in SPC those not called so: the test is the same either way.
    first, second = (arm.probabilities[which] >= limit for arm, limit in zip(arms, thresholds, strict=True))
    return mcnemar(int(np.count_nonzero(first & ~second)), int(np.count_nonzero(second & ~first)))
