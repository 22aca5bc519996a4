"""Do probabilities mean what they say: Brier score, calibration error, slope and intercept."""

from collections.abc import Callable

import numpy as np

from ramw_fed.metrics.rows import Rows, Values, ratio
from ramw_fed.statistics.intervals import weighted_sums

NUM_BINS = 5
_SMALLEST = 1e-7  # probabilities are kept this far from 0 and 1 before their logit is taken


def calibration_statistic(rows: Rows) -> Callable[[Values], dict[str, Values]]:
    """Prepare the four measures for many sets of patient weights.

    * Brier score, the mean of (p - y)^2 (Brier 1950).
    * ECE, sum over five equal-mass bins of share x |mean p - mean y| (Nguyen and O'Connor 2015,
      doi:10.18653/v1/D15-1182); the bins are those of the whole sample in every resample, equal probabilities share
      a bin.
    * Slope b of logit P(y) = a + b logit p, and intercept a with b held at 1 (calibration in the large; Van Calster
      et al. 2019, doi:10.1186/s12916-019-1466-7). In a resample both take one Newton step from the value of the whole
      sample instead of being fitted anew (Andrews 2002, doi:10.1111/1468-0262.00271).

    Returns:
        From weights ``(R, U)`` to ``brier``, ``ece``, ``slope`` and ``intercept``, each ``(R,)``; NaN without joints.
        Slope and intercept are NaN as well where one class has no weight, the slope where probabilities separate the
        classes or are all equal.
    """
    residual = rows.probabilities - rows.labels
    bins = np.searchsorted(_edges(rows.probabilities), rows.probabilities, side="right")
    in_bin = [residual * (bins == number) for number in range(NUM_BINS)]
    ones = np.ones_like(residual)
    simple = rows.sums(ones, residual**2, rows.labels, *in_bin)
    slope, intercept = _slope(rows), _intercept(rows)

    def statistic(weights: Values) -> dict[str, Values]:
        total, squared, positive, *offsets = weighted_sums(weights, simple).T
        both = np.where((positive > 0) & (positive < total), 0.0, np.nan)
        return {
            "brier": ratio(squared, total),
            "ece": ratio(np.abs(offsets).sum(axis=0), total),
            "slope": slope(weights) + both,
            "intercept": intercept(weights) + both,
        }

    return statistic


def _edges(probabilities: Values) -> Values:
    if not len(probabilities):
        return np.empty(0)
    edges: Values = np.quantile(probabilities, np.arange(1, NUM_BINS) / NUM_BINS)
    return edges


def _logit(probabilities: Values) -> Values:
    clipped = np.clip(probabilities, _SMALLEST, 1 - _SMALLEST)
    return np.log(clipped / (1 - clipped))


def _sigmoid(logit: Values) -> Values:
    return 1 / (1 + np.exp(-logit))


def _intercept(rows: Rows) -> Callable[[Values], Values]:
    logit, labels = _logit(rows.probabilities), rows.labels.astype(np.float64)
    at = 0.0
    for _ in range(100 if 0 < labels.sum() < len(labels) else 0):
        expected = _sigmoid(at + logit)
        step = (labels - expected).sum() / (expected * (1 - expected)).sum()
        at += float(np.clip(step, -2, 2))
        if abs(step) < 1e-12:
            break
    expected = _sigmoid(at + logit)
    sums = rows.sums(labels - expected, expected * (1 - expected))

    def statistic(weights: Values) -> Values:
        score, information = weighted_sums(weights, sums).T
        return at + ratio(score, information)

    return statistic


def _slope(rows: Rows) -> Callable[[Values], Values]:
    logit, labels = _logit(rows.probabilities), rows.labels.astype(np.float64)
    if not _has_slope(rows):
        return lambda weights: np.full(len(weights), np.nan)
    design = np.stack([np.ones_like(logit), logit])
    at = _fit(design, labels)
    expected = _sigmoid(at @ design)
    score, spread = (labels - expected) * design, expected * (1 - expected)
    sums = rows.sums(*score, spread, spread * logit, spread * logit**2)

    def statistic(weights: Values) -> Values:
        score_one, score_logit, one, cross, square = weighted_sums(weights, sums).T
        return float(at[1]) + ratio(one * score_logit - cross * score_one, one * square - cross**2)

    return statistic


def _has_slope(rows: Rows) -> bool:
    """Whether the likelihood has a largest value: both classes there, and their (clipped) logits interleaved."""
    logit = _logit(rows.probabilities)
    positive, negative = logit[rows.labels], logit[~rows.labels]
    if not len(positive) or not len(negative):
        return False
    return bool(positive.min() < negative.max() and negative.min() < positive.max())


def _fit(design: Values, labels: Values) -> Values:
    """Logistic regression by Newton steps, halved while the likelihood falls."""
    at = np.zeros(2)
    for _ in range(100):
        expected = _sigmoid(at @ design)
        score = design @ (labels - expected)
        step = np.linalg.solve((design * expected * (1 - expected)) @ design.T, score)
        while _likelihood(at + step, design, labels) < _likelihood(at, design, labels) - 1e-12:
            step = step / 2
        at = at + step
        if np.abs(step).max() < 1e-12:
            break
    return at


def _likelihood(at: Values, design: Values, labels: Values) -> float:
    logit = at @ design
    return float(np.sum(labels * logit - np.logaddexp(0, logit)))
