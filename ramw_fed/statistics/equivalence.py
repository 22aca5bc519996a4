"""Is an arm as good as another, within a margin declared before the study: two one-sided tests.

Schuirmann 1987, doi:10.1007/BF01068419: at 5 % two arms are equivalent where the 90 % interval of their difference
lies within the margin on both sides, and the first is not worse where it lies above the lower margin alone.

Means of patients' differences take Student's t stratified by center (Cochran 1977, 5.6) and not the bootstrap: with one
center it is the textbook's test to the last digit, and a mean over dozens of patients needs no resampling.
Differences of AUROC and the like take the replicates of the bootstrap by patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from ramw_fed.errors import RamwFedError
from ramw_fed.statistics.intervals import Interval, Replicates, degrees_of_freedom

Values = NDArray[np.float64]

LEVEL = 0.90


class Verdict(StrEnum):
    """What the 90 % interval says of an arm, its margin given."""

    EQUIVALENT = "equivalent"
    NOT_WORSE = "not worse"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """An arm against another within a margin.

    Attributes:
        margin: Declared beforehand, in the metric's unit.
        interval: 90 %, of the difference first less second.
        p_not_worse: One-sided p-value of "not worse by the margin".
        p_equivalent: The larger of both one-sided p-values.
        verdict: ``worse`` is worse by more than the margin; a difference within it is no loss, however certain.
    """

    margin: float
    interval: Interval
    p_not_worse: float
    p_equivalent: float
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """Return ``margin``, ``ci90``, ``p_not_worse``, ``p_equivalent`` and ``verdict``."""
        return {
            "margin": self.margin,
            "ci90": [self.interval.low, self.interval.high],
            "p_not_worse": self.p_not_worse,
            "p_equivalent": self.p_equivalent,
            "verdict": str(self.verdict),
        }


def equivalence_of_means(
    differences: Values, centers: Sequence[str], *, margin: float, larger_is_better: bool = True
) -> Equivalence | None:
    """Judge the mean of paired differences; None where no two patients of one center tell how it varies.

    Args:
        differences: ``(n,)`` first arm less second, one a patient, without NaN.
        centers: ``(n,)`` names.
        margin: Above 0.
        larger_is_better: Of the metric; distances are better where smaller.
    """
    error, freedom = _standard_error(differences, centers), degrees_of_freedom(centers)
    if error is None:
        return None
    mean = float(differences.mean())
    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    return _judge(
        Interval(low=mean - reach, high=mean + reach),
        margin,
        p_above=_p_value(mean + margin, error, freedom),
        p_below=_p_value(margin - mean, error, freedom),
        larger_is_better=larger_is_better,
    )


def equivalence_of_replicates(replicates: Replicates, *, margin: float, larger_is_better: bool = True) -> Equivalence:
    """Judge a difference by its bootstrap, first arm less second.

    Args:
        replicates: Of the difference.
        margin: Above 0.
        larger_is_better: Of the metric.
    """
    return _judge(
        replicates.interval(LEVEL),
        margin,
        p_above=replicates.p_above(-margin),
        p_below=replicates.p_below(margin),
        larger_is_better=larger_is_better,
    )


def _judge(interval: Interval, margin: float, *, p_above: float, p_below: float, larger_is_better: bool) -> Equivalence:
    if not margin > 0:
        raise RamwFedError(f"a margin of {margin!r}: declare how much worse is still as good, above 0")
    low, high = (interval.low, interval.high) if larger_is_better else (-interval.high, -interval.low)
    if low > -margin:
        verdict = Verdict.EQUIVALENT if high < margin else Verdict.NOT_WORSE
    else:
        verdict = Verdict.WORSE if high < -margin else Verdict.INCONCLUSIVE
    return Equivalence(
        margin=margin,
        interval=interval,
        p_not_worse=p_above if larger_is_better else p_below,
        p_equivalent=max(p_above, p_below),
        verdict=verdict,
    )


def _standard_error(differences: Values, centers: Sequence[str]) -> float | None:
    """Of the mean of all, each center's patients about their own mean; centers of one patient count as one center."""
    names, inverse, counts = np.unique(np.asarray(centers, np.str_), return_inverse=True, return_counts=True)
    stratum = np.where(counts > 1, np.arange(len(names)), len(names))[inverse]
    strata = [differences[stratum == number] for number in np.unique(stratum)]
    if all(len(values) < 2 for values in strata):
        return None
    return float(np.sqrt(sum(len(values) * values.var(ddof=1) for values in strata if len(values) > 1)) / len(stratum))


def _p_value(distance: float, error: float, freedom: int) -> float:
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(t.sf(distance / error, freedom))
