"""Measures of a classifier of erosions: decisions, ranking, calibration and grades, for weighted patients.

A value that the data cannot give is a :class:`NotEstimable` with its reason, never 0, 0.5 or NaN: ranking with one
class in the truth, a ratio whose denominator is 0. ``f1`` is 0 where joints are called eroded and none is right.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from ramw_fed.metrics.agreement import agreement_statistic
from ramw_fed.metrics.calibration import calibration_statistic
from ramw_fed.metrics.estimate import NotEstimable
from ramw_fed.metrics.ranking import ranking_statistic
from ramw_fed.metrics.rows import Rows, Values, ratio
from ramw_fed.statistics.intervals import weighted_sums

CLASSIFICATION_METRICS = (
    *("acc", "bacc", "f1", "dor", "sen", "spc", "pre", "npv", "auroc", "auprc", "prevalence", "mcc"),
    *("brier", "ece", "slope", "intercept", "qwk", "mae", "within1"),
)
DECISIONS = ("acc", "bacc", "f1", "dor", "sen", "spc", "pre", "npv", "mcc")
"""Measures that the threshold decides."""

CALIBRATION = ("brier", "ece", "slope", "intercept")
"""Measures that calibration changes."""

NEEDS_POSITIVES = frozenset({"bacc", "dor", "sen", "auroc", "auprc", "mcc", "slope", "intercept"})
NEEDS_NEGATIVES = frozenset({"bacc", "dor", "spc", "auroc", "auprc", "mcc", "slope", "intercept"})
RESTS_ON_POSITIVES = NEEDS_POSITIVES | {"f1", "pre"}
"""Measures that vary with the few eroded joints even where they are defined without one."""


def classification_metrics(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    threshold: float = 0.5,
    grades: ArrayLike | None = None,
    predicted_grades: ArrayLike | None = None,
) -> dict[str, float | NotEstimable]:
    """Every measure of n joints, each counting once.

    Args:
        probabilities: ``(n,)`` of an erosion, in [0, 1].
        labels: ``(n,)`` 0 or 1.
        threshold: Joints with at least this probability are called eroded.
        grades: ``(n,)`` true grades 0 to 5, for ``qwk``, ``mae`` and ``within1``.
        predicted_grades: ``(n,)`` likewise.
    """
    labels = np.asarray(labels).astype(bool)
    rows = Rows(
        probabilities=np.asarray(probabilities, dtype=np.float64),
        labels=labels,
        units=np.zeros(len(labels), dtype=np.int64),
        num_units=1,
        grades=None if grades is None else np.asarray(grades, dtype=np.int64),
        predicted_grades=None if predicted_grades is None else np.asarray(predicted_grades, dtype=np.int64),
    )
    return classification_values(rows, threshold=threshold)


def classification_values(rows: Rows, *, threshold: float | Values) -> dict[str, float | NotEstimable]:
    """Every measure of these joints, in the order of ``CLASSIFICATION_METRICS``."""
    values = classification_statistic(rows, threshold=threshold)(np.ones((1, rows.num_units)))[0]
    return {
        name: NotEstimable(_reason(name, rows)) if np.isnan(value) else float(value)
        for name, value in zip(CLASSIFICATION_METRICS, values, strict=True)
    }


def classification_statistic(rows: Rows, *, threshold: float | Values) -> Callable[[Values], Values]:
    """Prepare every measure for many sets of patient weights.

    Args:
        rows: Joints.
        threshold: One for all, or ``(N,)`` one a joint.

    Returns:
        From weights ``(R, U)`` to ``(R, K)`` in the order of ``CLASSIFICATION_METRICS``; NaN: not estimable.
    """
    called = rows.probabilities >= threshold
    truth = rows.labels
    confusion = rows.sums(truth & called, ~truth & called, ~truth & ~called, truth & ~called)
    others = [prepare(rows) for prepare in (ranking_statistic, calibration_statistic, agreement_statistic)]

    def statistic(weights: Values) -> Values:
        values = dict(_decisions(*weighted_sums(weights, confusion).T))
        for other in others:
            values.update(other(weights))
        return np.stack([values[name] for name in CLASSIFICATION_METRICS], axis=1)

    return statistic


def _decisions(tp: Values, fp: Values, tn: Values, fn: Values) -> Mapping[str, Values]:
    """Measures of the four cells, each ``(R,)``.

    The prevalence is what AUPRC is without any skill. The diagnostic odds ratio adds 0.5 to all four cells, always
    (Haldane 1956, Anscombe 1956); MCC is Matthews 1975.
    """
    sen, spc = ratio(tp, tp + fn), ratio(tn, tn + fp)
    odds = (tp + 0.5) * (tn + 0.5) / ((fn + 0.5) * (fp + 0.5))
    margins = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {
        "acc": ratio(tp + tn, tp + fp + tn + fn),
        "prevalence": ratio(tp + fn, tp + fp + tn + fn),
        "bacc": (sen + spc) / 2,
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "dor": np.where(np.isnan(sen + spc), np.nan, odds),
        "sen": sen,
        "spc": spc,
        "pre": ratio(tp, tp + fp),
        "npv": ratio(tn, tn + fn),
        "mcc": ratio(tp * tn - fp * fn, np.sqrt(margins)),
    }


def _reason(name: str, rows: Rows) -> str:
    if not len(rows.labels):
        return "no scored joints"
    if name in NEEDS_POSITIVES and not rows.labels.any():
        return "one class in the truth: no eroded joint"
    if name in NEEDS_NEGATIVES and rows.labels.all():
        return "one class in the truth: no joint without erosion"
    if name in {"qwk", "mae", "within1"} and (rows.grades is None or rows.predicted_grades is None):
        return "no predicted grades"
    return {
        "pre": "no joint is called eroded",
        "npv": "every joint is called eroded",
        "f1": "no joint is eroded and none is called so",
        "mcc": "every joint is called the same",
        "slope": "probabilities separate the classes or are all equal",
        "qwk": "all grades are equal",
    }.get(name, "not defined for these joints")
