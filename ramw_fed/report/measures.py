"""Measures as a reader knows them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ramw_fed.metrics.classification import CLASSIFICATION_METRICS
from ramw_fed.report.digits import counted, short

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "dsc": "DSC",
        "nsd": "NSD",
        "voe": "VOE",
        "msd": "MSD [px]",
        "hd95": "HD95 [px]",
        "ravd": "RAVD",
        "missing": "missing bones",
        "false": "false bones",
        "acc": "accuracy",
        "bacc": "balanced accuracy",
        "f1": "F1",
        "dor": "odds ratio",
        "sen": "sensitivity",
        "spc": "specificity",
        "pre": "PPV",
        "npv": "NPV",
        "auroc": "AUROC",
        "auprc": "AUPRC",
        "mcc": "MCC",
        "brier": "Brier",
        "ece": "ECE",
        "slope": "calibration slope",
        "intercept": "calibration intercept",
        "qwk": "weighted kappa",
        "mae": "MAE",
        "within1": "within one grade",
        "bias": "bias [mm]",
        "loa_low": "lower limit [mm]",
        "loa_high": "upper limit [mm]",
    }
)
_QUALITIES: Mapping[str, str] = MappingProxyType(
    {
        "segmentation": "mean Dice on validation",
        "erosion": "minus balanced log loss on validation\n(higher is better)",
    }
)
_COUNTS = frozenset({"missing", "false"})
LESS_IS_BETTER = frozenset({"voe", "msd", "hd95", "ravd", "missing", "false", "brier", "ece", "mae"})


def title(metric: str) -> str:
    """Return a measure's name as readers know it, with its unit.

    >>> title("hd95"), title("my_own")
    ('HD95 [px]', 'my_own')
    """
    return TITLES.get(metric, metric)


def quality_title(task: str) -> str:
    """Return the name of the quality by which a task's round is chosen.

    >>> quality_title("segmentation"), quality_title("my_own")
    ('mean Dice on validation', 'quality on validation (higher is better)')
    """
    return _QUALITIES.get(task, "quality on validation (higher is better)")


def weighed_by(metric: str) -> str:
    """Return what a center's value weighs by where a study takes a mean within centers.

    >>> weighed_by("dsc"), weighed_by("auroc")
    ('patients', 'pairs of an eroded and an intact joint')
    """
    joints = {"auroc": "pairs of an eroded and an intact joint", "auprc": "eroded joints"}
    return joints.get(metric, "joints") if metric in CLASSIFICATION_METRICS else "patients"


def form(metric: str) -> Callable[[float], str]:
    """Return how a value of this measure is shown."""
    return counted if metric in _COUNTS else short


def ordered(metrics: Mapping[str, object]) -> list[str]:
    """Return the measures of a scope, the known ones in the order above."""
    return [*(name for name in TITLES if name in metrics), *sorted(set(metrics) - set(TITLES) - {"by"})]
