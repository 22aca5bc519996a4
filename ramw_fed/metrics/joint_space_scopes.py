"""Joint-space widths in the scopes of ``metrics.json``: how far predicted ones agree with those of the true masks."""

from collections.abc import Sequence

import numpy as np

from ramw_fed.metrics.estimate import Entry, Estimate, NotEstimable
from ramw_fed.metrics.ranges import bounded
from ramw_fed.metrics.rows import Values, Whole
from ramw_fed.statistics.bland_altman import LIMITS, limits_statistic
from ramw_fed.statistics.intervals import Patient, bootstrap_intervals

JOINT_SPACE_KINDS = ("joint_space", "joint_space_change")

_REASONS = {
    "joint_space": "no radiograph of known spacing has it in both truth and prediction",
    "joint_space_change": "no wrist of known spacing has it in two exams, in both truth and prediction",
}


def joint_space_scopes(
    kind: str,
    names: Sequence[str],
    errors: Values,
    units: Whole,
    patients: Sequence[Patient],
    *,
    seed: int,
    resamples: int,
) -> dict[str, dict[str, Entry]]:
    """Bias, limits of agreement and mean absolute error in mm of each joint space; patients are what is drawn.

    Args:
        kind: Of :data:`JOINT_SPACE_KINDS`, for the reason where there is no value.
        names: J joint spaces.
        errors: ``(N, J)`` predicted less true; NaN where one of them is not known.
        units: ``(N,)`` number of each row's patient.
        patients: Center and name of each.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    if not names:
        return {}
    per_patient = limits_statistic(errors, units, len(patients))

    def statistic(weights: Values) -> Values:
        return per_patient(weights).reshape(len(weights), -1)

    defined = np.zeros((len(patients), len(names)), bool)
    np.logical_or.at(defined, units, ~np.isnan(errors))
    contributes = np.repeat(defined, len(LIMITS), axis=1)
    point = statistic(np.ones((1, len(patients))))[0]
    intervals = bootstrap_intervals(statistic, patients, contributes, seed=seed, resamples=resamples)
    entries: dict[str, dict[str, Entry]] = {name: {} for name in names}
    for column, interval in enumerate(intervals):
        space, limit = divmod(column, len(LIMITS))
        value, count = float(point[column]), int(defined[:, space].sum())
        reason = "limits of agreement need two patients" if count else _REASONS[kind]
        entries[names[space]][LIMITS[limit]] = Estimate(
            value=NotEstimable(reason) if np.isnan(value) else value,
            interval=bounded(interval, LIMITS[limit]),
            n=count,
        ).as_dict()
    return entries
