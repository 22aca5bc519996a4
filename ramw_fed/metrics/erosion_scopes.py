"""Erosion: from probabilities per joint to scopes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramw_fed.metrics.classification import (
    CALIBRATION,
    CLASSIFICATION_METRICS,
    DECISIONS,
    NEEDS_NEGATIVES,
    RESTS_ON_POSITIVES,
    classification_statistic,
    classification_values,
)
from ramw_fed.metrics.erosion_table import ErosionTable
from ramw_fed.metrics.estimate import Entry, Estimate, NotEstimable
from ramw_fed.metrics.ranges import bounded
from ramw_fed.metrics.rows import Rows, Values
from ramw_fed.metrics.scopes import Scope, Tree, group_by_patient, tree
from ramw_fed.metrics.wrists import wrist_entries
from ramw_fed.statistics.intervals import FEWEST_PATIENTS, RESAMPLES, bootstrap_intervals


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How probabilities are read.

    Attributes:
        threshold: Joints with at least this probability are called eroded.
        own_thresholds: Center to its own, ``threshold`` standing in for those it lacks; None where no rule chose any.
        uncalibrated: From probabilities to what they were before calibration; None where there was none.
    """

    threshold: float
    own_thresholds: Mapping[str, float] | None = None
    uncalibrated: Callable[[Values], Values] | None = None


def erosion_tree(
    table: ErosionTable, reading: Reading, *, centers: Sequence[str], seed: int, resamples: int = RESAMPLES
) -> Tree:
    """Pooled, macro and each of these centers, with or without rows."""
    parts = {name: erosion_scope(table.at(name), reading, seed=seed, resamples=resamples) for name in centers}
    return tree(erosion_scope(table, reading, seed=seed, resamples=resamples), parts)


def erosion_scope(table: ErosionTable, reading: Reading, *, seed: int, resamples: int = RESAMPLES) -> Scope:
    """Every measure over these joints, all together, by joint and by wrist; patients are what is drawn.

    Where centers have thresholds of their own, the decisions at those stand under ``by -> threshold -> own``; where
    probabilities were calibrated, what they were before stands under ``by -> calibration -> before``.

    Args:
        table: Joints of one center, or of all.
        reading: How the probabilities are read.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    table = table.ordered()
    common = np.full(len(table.centers), reading.threshold)
    by: dict[str, Any] = {
        "joint": {name: _entries(table.of(name), reading.threshold, seed, resamples) for name in table.joint_names}
    }
    by["wrist"] = {"sum": wrist_entries(table, seed=seed, resamples=resamples)}
    if reading.own_thresholds is not None:
        own = np.array([reading.own_thresholds.get(name, reading.threshold) for name in table.centers])
        entries = _entries(table, own.reshape(common.shape), seed, resamples)
        by["threshold"] = {"own": {name: entries[name] for name in DECISIONS}}
    if reading.uncalibrated is not None:
        before = replace(table, probabilities=reading.uncalibrated(table.probabilities))
        entries = _entries(before, common, seed, resamples)
        by["calibration"] = {"before": {name: entries[name] for name in CALIBRATION}}
    return _entries(table, common, seed, resamples) | {"by": by}


def _entries(table: ErosionTable, threshold: Values | float, seed: int, resamples: int) -> dict[str, Entry]:
    patients, units = group_by_patient(table.centers, table.patients)
    rows = Rows(
        probabilities=table.probabilities,
        labels=table.grades > 0,
        units=units,
        num_units=len(patients),
        grades=table.grades,
        predicted_grades=table.predicted_grades,
    )
    values = classification_values(rows, threshold=threshold)
    statistic = classification_statistic(rows, threshold=threshold)
    contributes = np.tile(_may_have_interval(rows, values), (len(patients), 1))
    intervals = bootstrap_intervals(statistic, patients, contributes, seed=seed, resamples=resamples)
    return {
        name: Estimate(value=values[name], interval=bounded(interval, name), n=len(patients)).as_dict()
        for name, interval in zip(CLASSIFICATION_METRICS, intervals, strict=True)
    }


def _may_have_interval(rows: Rows, values: dict[str, float | NotEstimable]) -> NDArray[np.bool_]:
    """Which measures may have an interval: of those that rest on a class, with five patients who have it."""
    positives = len(np.unique(rows.units[rows.labels]))
    negatives = len(np.unique(rows.units[~rows.labels]))
    return np.array(
        [
            not isinstance(values[name], NotEstimable)
            and (positives >= FEWEST_PATIENTS or name not in RESTS_ON_POSITIVES)
            and (negatives >= FEWEST_PATIENTS or name not in NEEDS_NEGATIVES)
            for name in CLASSIFICATION_METRICS
        ]
    )
