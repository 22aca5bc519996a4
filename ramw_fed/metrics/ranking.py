"""How well probabilities rank eroded joints before sound ones: areas under two curves, for weighted patients."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ramw_fed.metrics.rows import Rows, Values, ratio
from ramw_fed.statistics.intervals import weighted_sums

_BLOCK = 250  # resamples at a time: tables of levels by resamples that stay in the processor's cache take half the time


def ranking_statistic(rows: Rows) -> Callable[[Values], dict[str, Values]]:
    """Prepare AUROC and AUPRC for many sets of patient weights.

    Only the distinct probabilities of eroded joints (levels) matter. A patient's joints fall on few of them, so sums
    over patients are sparse, and sums below a level run on from level to level:

    * AUROC = sum of w(positives at level) x (w(negatives below) + w(negatives at level) / 2) / (w+ w-), the
      Mann-Whitney form (Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747).
    * AUPRC = sum over levels of the gain in recall x precision (average precision, without interpolation;
      Davis and Goadrich 2006, doi:10.1145/1143844.1143874), as in scikit-learn.

    Returns:
        From weights ``(R, U)`` to ``auroc`` and ``auprc``, each ``(R,)``; NaN where one class has no weight.
    """
    positive = rows.labels
    levels, level = np.unique(rows.probabilities[positive], return_inverse=True)
    at_level = _counts(rows, positive, level, len(levels))
    negatives = rows.probabilities[~positive]
    left, right = (np.searchsorted(levels, negatives, side=side) for side in ("left", "right"))
    is_tied = bool((left != right).any())
    upto, below = (_counts(rows, ~positive, column, len(levels)) for column in (left, right))
    totals = rows.sums(positive, ~positive)

    def areas(weights: Values) -> Values:
        sum_positive, sum_negative = weighted_sums(weights, totals).T
        by_patient = np.ascontiguousarray(weights.T)
        gain = at_level @ by_patient
        under = (below @ by_patient).cumsum(axis=0)
        wins = (under + (upto @ by_patient).cumsum(axis=0)) / 2 if is_tied else under
        found = gain[::-1].cumsum(axis=0)[::-1]
        called = found + sum_negative - under
        precision = np.divide(found, called, out=np.zeros_like(found), where=found > 0)
        auprc = ratio((gain * precision).sum(axis=0), sum_positive)
        auroc = ratio((gain * wins).sum(axis=0), sum_positive * sum_negative)
        return np.stack([auroc, np.where(sum_negative > 0, auprc, np.nan)])

    def statistic(weights: Values) -> dict[str, Values]:
        starts = range(0, len(weights), _BLOCK)
        both = np.concatenate([areas(weights[start : start + _BLOCK]) for start in starts], axis=1)
        return {"auroc": both[0], "auprc": both[1]}

    return statistic


def _counts(rows: Rows, which: NDArray[np.bool_], level: NDArray[np.intp], num_levels: int) -> csr_array:
    """Count each patient's joints by level, ``(num_levels, U)``; joints beyond the last level are left out."""
    units = rows.units[which]
    inside = level < num_levels
    entries = (np.ones(int(inside.sum())), (level[inside], units[inside]))
    return csr_array(entries, shape=(num_levels, rows.num_units))
