"""Agreement of a wrist's sum of grades: what a reader of the Sharp/van der Heijde score reports of a hand."""

from collections.abc import Callable

import numpy as np

from ramw_fed.metrics.agreement import agreement_statistic
from ramw_fed.metrics.erosion_table import ErosionTable
from ramw_fed.metrics.estimate import Entry, Estimate, NotEstimable
from ramw_fed.metrics.ranges import bounded
from ramw_fed.metrics.rows import Rows, Values, ratio
from ramw_fed.metrics.scopes import group_by_patient
from ramw_fed.statistics.intervals import bootstrap_intervals, weighted_sums

WRIST_METRICS = ("qwk", "mae", "sdc")


def wrist_entries(table: ErosionTable, *, seed: int, resamples: int) -> dict[str, Entry]:
    """Return entries of the sum of all joints' grades, over the radiographs that have every joint scored.

    ``qwk`` and ``mae`` as of single grades, ``sdc`` in grades; ``n`` counts the patients of these radiographs.

    Args:
        table: With predicted grades, or nothing can be said.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    whole, wrist = _whole_wrists(table)
    patients, units = group_by_patient(whole.centers, whole.patients)
    if not len(wrist) or whole.predicted_grades is None:
        reason = "no predicted grades" if len(wrist) else "no radiograph with every joint scored"
        missing = Estimate(value=NotEstimable(reason), n=len(patients)).as_dict()
        return {name: dict(missing) for name in WRIST_METRICS}
    first = np.unique(wrist, return_index=True)[1]
    rows = Rows(
        probabilities=np.zeros(len(first)),
        labels=np.zeros(len(first), np.bool_),
        units=units[first],
        num_units=len(patients),
        grades=np.bincount(wrist, weights=whole.grades).astype(np.int64),
        predicted_grades=np.bincount(wrist, weights=whole.predicted_grades).astype(np.int64),
    )
    statistic = wrist_statistic(rows)
    values = statistic(np.ones((1, len(patients))))[0]
    contributes = np.tile(~np.isnan(values), (len(patients), 1))
    intervals = bootstrap_intervals(statistic, patients, contributes, seed=seed, resamples=resamples)
    reasons = {"qwk": "all sums are equal", "sdc": "one radiograph"}
    return {
        name: Estimate(
            value=NotEstimable(reasons[name]) if np.isnan(value) else float(value),
            interval=bounded(interval, name),
            n=len(patients),
        ).as_dict()
        for name, value, interval in zip(WRIST_METRICS, values, intervals, strict=True)
    }


def wrist_statistic(rows: Rows) -> Callable[[Values], Values]:
    """Prepare the three measures of wrists' sums for many sets of patient weights.

    The smallest detectable change, 1.96 SD of the differences between two readings of one radiograph, is the change
    between two exams that the error of reading alone exceeds once in twenty: 1.96 sqrt(2) SEM with SEM = SD / sqrt(2)
    (Bland and Altman's limits of agreement; Lassere et al. 1999, J Rheumatol 26:731; Bruynesteyn et al. 2005,
    doi:10.1136/ard.2003.018457). The readings here are the model's and the reader's, taken as equally exact; a constant
    difference between them cancels in a change and does not count.

    Returns:
        From weights ``(R, U)`` to ``(R, 3)`` in the order of ``WRIST_METRICS``; NaN: not estimable.
    """
    agreement = agreement_statistic(rows)
    predicted, true = (np.asarray(grades, np.float64) for grades in (rows.predicted_grades, rows.grades))
    difference = predicted - true
    sums = rows.sums(np.ones_like(difference), difference, difference**2)

    def statistic(weights: Values) -> Values:
        found = agreement(weights)
        total, one, square = weighted_sums(weights, sums).T
        spread = np.maximum(square - ratio(one**2, total), 0.0)
        sdc = 1.96 * np.sqrt(ratio(spread, np.maximum(total - 1, 0.0)))
        return np.stack([found["qwk"], found["mae"], sdc], axis=1)

    return statistic


def _whole_wrists(table: ErosionTable) -> tuple[ErosionTable, np.ndarray]:
    """Return the rows of radiographs that have every joint scored, and the number of each row's radiograph."""
    keys = list(zip(table.centers, table.patients, table.radiographs, strict=True))
    number = {key: place for place, key in enumerate(sorted(set(keys)))}
    wrist = np.array([number[key] for key in keys], np.int64)
    counts = np.bincount(wrist, minlength=len(number))
    rows = np.flatnonzero(counts[wrist] == len(table.joint_names)) if len(keys) else np.zeros(0, np.int64)
    return table.take(rows.tolist()), np.unique(wrist[rows], return_inverse=True)[1]
