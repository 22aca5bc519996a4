"""How near predicted grades come to true ones: weighted kappa, mean absolute error, share within one grade."""

from collections.abc import Callable

import numpy as np

from ramw_fed.metrics.rows import Rows, Values, ratio
from ramw_fed.statistics.intervals import weighted_sums


def agreement_statistic(rows: Rows) -> Callable[[Values], dict[str, Values]]:
    """Prepare the three measures for many sets of patient weights.

    Quadratic weighted kappa (Cohen 1968, doi:10.1037/h0026256) is 1 - E[(a - b)^2] / E'[(a - b)^2], E' being the
    expectation for independent grades: sums of a, b, their squares and product are enough.

    Returns:
        From weights ``(R, U)`` to ``qwk``, ``mae`` and ``within1``, each ``(R,)``; NaN without predicted grades, and
        ``qwk`` where all grades are one.
    """
    if rows.grades is None or rows.predicted_grades is None:
        return lambda weights: {name: np.full(len(weights), np.nan) for name in ("qwk", "mae", "within1")}
    true, predicted = rows.grades.astype(np.float64), rows.predicted_grades.astype(np.float64)
    error = np.abs(predicted - true)
    sums = rows.sums(np.ones_like(true), true, predicted, true**2 + predicted**2, error**2, error, error <= 1)

    def statistic(weights: Values) -> dict[str, Values]:
        total, first, second, squares, squared_error, absolute_error, near = weighted_sums(weights, sums).T
        by_chance = squares - 2 * ratio(first * second, total)
        by_chance[by_chance < 1e-9 * (1 + squares)] = 0.0  # all grades one: rounding leaves a trace
        return {
            "qwk": 1 - ratio(squared_error, by_chance),
            "mae": ratio(absolute_error, total),
            "within1": ratio(near, total),
        }

    return statistic
