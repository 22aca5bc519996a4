"""How well probabilities rank eroded joints before sound ones: areas under two curves, for weighted patients."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ramw_fed.metrics.rows import Rows, Values, ratio
from ramw_fed.statistics.intervals import weighted_sums


def ranking_statistic(rows: Rows) -> Callable[[Values], dict[str, Values]]:
    """Prepare AUROC and AUPRC for many sets of patient weights.

    Only the distinct probabilities of eroded joints (levels) matter, so that each resample costs three sums over
    patients for each level:

    * AUROC = sum of w(positives at level) x (w(negatives below) + w(negatives at level) / 2) / (w+ w-), the
      Mann-Whitney form (Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747).
    * AUPRC = sum over levels of the gain in recall x precision (average precision, without interpolation;
      Davis and Goadrich 2006, doi:10.1145/1143844.1143874), as in scikit-learn.

    Returns:
        From weights ``(R, U)`` to ``auroc`` and ``auprc``, each ``(R,)``; NaN where one class has no weight.
    """
    positive = rows.labels
    levels, level = np.unique(rows.probabilities[positive], return_inverse=True)
    at_level = _table(rows, positive, level, len(levels))
    negatives = rows.probabilities[~positive]
    upto = _table(rows, ~positive, np.searchsorted(levels, negatives, side="left"), len(levels)).cumsum(axis=1)
    below = _table(rows, ~positive, np.searchsorted(levels, negatives, side="right"), len(levels)).cumsum(axis=1)
    totals = rows.sums(positive, ~positive)

    def statistic(weights: Values) -> dict[str, Values]:
        sum_positive, sum_negative = weighted_sums(weights, totals).T
        gain = weighted_sums(weights, at_level)
        under = weighted_sums(weights, below)
        wins = weighted_sums(weights, (upto + below) / 2)
        found = gain[:, ::-1].cumsum(axis=1)[:, ::-1]
        called = found + sum_negative[:, None] - under
        precision = np.divide(found, called, out=np.zeros_like(found), where=found > 0)
        auprc = ratio((gain * precision).sum(axis=1), sum_positive)
        return {
            "auroc": ratio((gain * wins).sum(axis=1), sum_positive * sum_negative),
            "auprc": np.where(sum_negative > 0, auprc, np.nan),
        }

    return statistic


def _table(rows: Rows, which: NDArray[np.bool_], column: NDArray[np.intp], num_columns: int) -> Values:
    """Count each patient's joints by column; joints beyond the last column are left out."""
    table = np.zeros((rows.num_units, num_columns + 1))
    np.add.at(table, (rows.units[which], column), 1)
    return table[:, :num_columns]
