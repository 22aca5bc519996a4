"""Differences of two arms in segmentation: one value a patient and arm, signed ranks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramw_fed.metrics.rows import Values
from ramw_fed.metrics.scopes import group_by_patient
from ramw_fed.metrics.segmentation_scopes import patient_values
from ramw_fed.statistics.comparison import signed_rank
from ramw_fed.statistics.intervals import FEWEST_PATIENTS

Table = Mapping[str, NDArray[Any]]

TEST = "Wilcoxon's signed ranks, one value a patient"

# Not defined where an arm missed the bone: an arm must not gain by missing the hard ones. Missing bones are 0 in the
# others, and counted by `missing`.
DISTANCES = frozenset({"msd", "hd95"})


def segmentation_differences(one: Table, other: Table, metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the entry of each metric; see :mod:`ramw_fed.comparison`.

    A patient's value is the mean over the radiographs of the mean over bones (of counts, the sum). Distances take only
    bones that both arms found; ``unpaired`` counts the others.

    Args:
        one: Rows of the first arm.
        other: Rows of the second, the same radiographs in the same order.
        metrics: Names.
    """
    return {metric: _difference(one, other, metric) for metric in metrics}


def _difference(one: Table, other: Table, metric: str) -> dict[str, Any]:
    centers, patients = one["center"].tolist(), one["patient"].tolist()
    count = len(one["name"])
    pair = [np.asarray(table[metric], np.float64).reshape(count, -1) for table in (one, other)]
    unpaired = 0
    if metric in DISTANCES:
        known = [~np.isnan(values) for values in pair]
        unpaired = int(np.count_nonzero(known[0] != known[1]))
        pair = [np.where(known[0] & known[1], values, np.nan) for values in pair]
    first, second = (patient_values(centers, patients, values, metric) for values in pair)
    entry = paired_entry(first, second, len(group_by_patient(centers, patients)[0]))
    return entry | ({"unpaired": unpaired} if unpaired else {})


def paired_entry(first: Values, second: Values, num_patients: int) -> dict[str, Any]:
    """Return the entry of two arms' values ``(patients,)``, NaN where not defined; see :mod:`ramw_fed.comparison`."""
    both = ~(np.isnan(first) | np.isnan(second))
    count = int(np.count_nonzero(both))
    if count < FEWEST_PATIENTS:
        reason = f"{count} of {num_patients} patients have a value in both arms; {FEWEST_PATIENTS} are needed"
        return {"value": None, "ci": None, "n": count, "reason": reason}
    found = signed_rank(first[both] - second[both])
    return {
        "value": found.estimate,
        "ci": None if found.interval is None else [found.interval.low, found.interval.high],
        "n": count,
        "first": float(first[both].mean()),
        "second": float(second[both].mean()),
        "p": found.p_value,
        "test": TEST,
        "rank_biserial": found.rank_biserial,
        "unchanged": found.unchanged,
    }
