"""Erosion: from probabilities per joint to scopes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.classification import (
    CALIBRATION,
    CLASSIFICATION_METRICS,
    DECISIONS,
    NEEDS_NEGATIVES,
    NEEDS_POSITIVES,
    classification_statistic,
    classification_values,
)
from ramw_fed.metrics.estimate import Entry, Estimate, NotEstimable
from ramw_fed.metrics.ranges import bounded
from ramw_fed.metrics.rows import Rows, Values, Whole
from ramw_fed.metrics.scopes import Scope, Tree, group_by_patient, tree
from ramw_fed.statistics.intervals import RESAMPLES, bootstrap_intervals


@dataclass(frozen=True, kw_only=True)
class ErosionTable:
    """N scored joints, in any order; patients of two centers may bear one name.

    Attributes:
        centers: ``(N,)`` names.
        patients: ``(N,)`` names.
        radiographs: ``(N,)`` names.
        joints: ``(N,)`` names.
        joint_names: Every joint to be listed, scored or not.
        probabilities: ``(N,)`` of a grade above 0, in [0, 1].
        grades: ``(N,)`` true erosion grades, whole numbers from 0.
        predicted_grades: ``(N,)`` likewise, or None where the model gives none.
    """

    centers: tuple[str, ...]
    patients: tuple[str, ...]
    radiographs: tuple[str, ...]
    joints: tuple[str, ...]
    joint_names: tuple[str, ...]
    probabilities: Values
    grades: Whole
    predicted_grades: Whole | None = None

    def __post_init__(self) -> None:
        """Refuse columns that do not fit together."""
        names = (self.centers, self.patients, self.radiographs, self.joints, self.probabilities, self.grades)
        if len({len(column) for column in names}) > 1 or not set(self.joints) <= set(self.joint_names):
            raise RamwFedError(
                f"a table of scored joints has columns of {[len(column) for column in names]} rows and joints "
                f"{sorted(set(self.joints))}: give one value a joint, of {', '.join(self.joint_names)}"
            )

    def at(self, center: str) -> "ErosionTable":
        """Return one center's rows."""
        return self.take(index for index, name in enumerate(self.centers) if name == center)

    def of(self, joint: str) -> "ErosionTable":
        """Return one joint's rows."""
        return self.take(index for index, name in enumerate(self.joints) if name == joint)

    def ordered(self) -> "ErosionTable":
        """Return the rows sorted by center, patient, radiograph and joint."""
        keys = list(zip(self.centers, self.patients, self.radiographs, self.joints, strict=True))
        return self.take(sorted(range(len(keys)), key=lambda index: keys[index]))

    def take(self, indices: Iterable[int]) -> "ErosionTable":
        """Return these rows."""
        rows = list(indices)
        return ErosionTable(
            centers=tuple(self.centers[row] for row in rows),
            patients=tuple(self.patients[row] for row in rows),
            radiographs=tuple(self.radiographs[row] for row in rows),
            joints=tuple(self.joints[row] for row in rows),
            joint_names=self.joint_names,
            probabilities=self.probabilities[rows],
            grades=self.grades[rows],
            predicted_grades=None if self.predicted_grades is None else self.predicted_grades[rows],
        )


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
    """Every measure over these joints, all together and by joint; patients are what is drawn.

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
    """Which measures vary with the patients drawn: not those that need a class which one patient alone holds."""
    positives = len(np.unique(rows.units[rows.labels]))
    negatives = len(np.unique(rows.units[~rows.labels]))
    return np.array(
        [
            not isinstance(values[name], NotEstimable)
            and (positives > 1 or name not in NEEDS_POSITIVES)
            and (negatives > 1 or name not in NEEDS_NEGATIVES)
            for name in CLASSIFICATION_METRICS
        ]
    )
