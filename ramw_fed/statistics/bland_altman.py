"""Bias and limits of agreement of two ways to measure one quantity.

Bland and Altman 1986 (Lancet 327:307, doi:10.1016/S0140-6736(86)90837-8) for one difference a patient; with several,
whose true values differ, the variance of a single difference is the sum of the components between and within patients
from a one-way analysis of variance (Bland and Altman 1999, section 5.3, doi:10.1177/096228029900800204; 2007,
doi:10.1080/10543400701329422). Taking all differences as independent, or one mean a patient, makes the limits too
narrow.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ramw_fed.statistics.intervals import weighted_sums

Values = NDArray[np.float64]

LIMITS = ("bias", "loa_low", "loa_high", "mae")
_REACH = 1.96  # as in 1999; 1986 rounds it to 2
_TRACE = 1e-9  # what rounding leaves of a whole number


def limits_of_agreement(differences: Values, units: NDArray[np.int64]) -> dict[str, float]:
    """Return bias, lower and upper limit and mean absolute difference, in the unit of the differences.

    Bias and mean absolute difference are means over patients of the patient's mean; the limits lie 1.96 standard
    deviations of a single difference beside the bias.

    Args:
        differences: ``(N,)`` first less second measurement; NaN where one is missing.
        units: ``(N,)`` the patient's number, from 0.

    Returns:
        A number for each of ``LIMITS``; NaN without a difference, limits also with less than two patients.
    """
    count = int(units.max(initial=-1)) + 1
    values = limits_statistic(differences[:, None], units, count)(np.ones((1, count)))
    return dict(zip(LIMITS, values[0, 0].tolist(), strict=True))


def limits_statistic(
    differences: Values, units: NDArray[np.int64], num_units: int
) -> Callable[[Values], NDArray[np.float64]]:
    """Prepare the same of K columns for many sets of patient weights.

    Args:
        differences: ``(N, K)``.
        units: ``(N,)`` numbers of the patients, below ``num_units``.
        num_units: U.

    Returns:
        From weights ``(R, U)`` to ``(R, K, 4)`` in the order of ``LIMITS``.
    """
    columns = differences.shape[1]
    defined = ~np.isnan(differences)
    filled = np.where(defined, differences, 0.0)
    sums = np.zeros((4, num_units, columns))
    for total, part in zip(sums, (defined, filled, filled**2, np.abs(filled)), strict=True):
        np.add.at(total, units, part)
    counts, signed, squared, absolute = sums
    means = _ratio(signed, counts, otherwise=0.0)
    mean_errors = _ratio(absolute, counts, otherwise=0.0)
    parts = (counts > 0, counts, counts**2, signed, squared, signed * means, means, mean_errors)
    stacked = np.concatenate([part.astype(np.float64) for part in parts], axis=1)

    def statistic(weights: Values) -> NDArray[np.float64]:
        totals = weighted_sums(weights, stacked).reshape(len(weights), len(parts), columns)
        patients, _, _, _, _, _, biases, errors = totals.transpose(1, 0, 2)
        bias, error = _ratio(biases, patients), _ratio(errors, patients)
        reach = _REACH * np.sqrt(_variance(*totals.transpose(1, 0, 2)[:6]))
        return np.stack([bias, bias - reach, bias + reach, error], axis=-1)

    return statistic


def _variance(
    patients: Values, count: Values, squared_counts: Values, total: Values, squares: Values, between: Values
) -> Values:
    """Variance of a single difference: the component between patients and that within, each ``(R, K)``."""
    repeats = count - patients
    within = np.maximum(_ratio(squares - between, np.where(repeats > _TRACE * count, repeats, 0.0), otherwise=0.0), 0)
    others = np.where(patients - 1 > _TRACE, patients - 1, 0.0)
    mean_square = _ratio(between - _ratio(total**2, count), others)
    typical = _ratio(count - _ratio(squared_counts, count), others)
    return np.maximum(_ratio(np.maximum(mean_square, 0) - within, typical), 0) + within


def _ratio(numerator: Values, denominator: Values, *, otherwise: float = np.nan) -> Values:
    filled: Values = np.full(denominator.shape, otherwise)
    np.divide(numerator, denominator, out=filled, where=denominator != 0)
    return filled
