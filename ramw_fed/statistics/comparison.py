"""Two arms on the same patients: tests and sizes of a paired difference.

Every difference is a patient's, never a radiograph's, a joint's or a seed's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, wilcoxon

from ramw_fed.statistics.intervals import LEVEL, Interval

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SignedRank:
    """What ranks say of paired differences.

    Attributes:
        estimate: Median of the means of all pairs of differences (Hodges-Lehmann), in their unit.
        interval: 95 % interval of it; None where there are too few differences for one (five or less).
        p_value: Two-sided; 1 where no difference differs from 0.
        rank_biserial: Share of ranks in favour less share against, in [-1, 1]; None where none differs from 0.
        unchanged: Differences of exactly 0.
    """

    estimate: float
    interval: Interval | None
    p_value: float
    rank_biserial: float | None
    unchanged: int


def signed_rank(differences: Values) -> SignedRank:
    """Test whether differences lie symmetrically around 0, and say how large they are.

    Wilcoxon 1945, doi:10.2307/3001968: differences of 0 are left out of the test. The p-value is exact up to 50
    patients (with ties up to 13), else normal, as scipy decides. Matched rank-biserial correlation: Kerby 2014,
    doi:10.2466/11.IT.3.1.

    Args:
        differences: ``(n,)``, one a patient, n at least 1, without NaN.
    """
    estimate, interval = hodges_lehmann(differences)
    changed = differences[differences != 0]
    unchanged = len(differences) - len(changed)
    if not len(changed):
        return SignedRank(estimate=estimate, interval=interval, p_value=1.0, rank_biserial=None, unchanged=unchanged)
    in_favour = float(wilcoxon(changed, alternative="greater").statistic)
    all_ranks = len(changed) * (len(changed) + 1) / 2
    return SignedRank(
        estimate=estimate,
        interval=interval,
        p_value=float(wilcoxon(changed).pvalue),
        rank_biserial=2 * in_favour / all_ranks - 1,
        unchanged=unchanged,
    )


def hodges_lehmann(differences: Values) -> tuple[float, Interval | None]:
    """Median of the n(n + 1)/2 means of two differences (or one), and its 95 % interval.

    Hodges and Lehmann 1963, doi:10.1214/aoms/1177704172; the interval is between the c-th means from either end, c the
    largest with P(W < c) at most .025 under the exact distribution of the signed rank sum (Hollander, Wolfe and Chicken
    2014, 3.3). At least 95 % where differences are symmetric; as R's ``wilcox.test(exact = TRUE)``.

    Args:
        differences: ``(n,)`` without NaN.
    """
    first, second = np.triu_indices(len(differences))
    means = np.sort((differences[first] + differences[second]) / 2)
    outside = _ranks_outside(len(differences))
    interval = Interval(low=float(means[outside - 1]), high=float(means[-outside])) if outside else None
    return float(np.median(means)), interval


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values that hold for all tests together; None stays None and does not count.

    Step-down: the k-th smallest of m is multiplied by m - k + 1, and none falls below a smaller one. Holm 1979,
    Scandinavian Journal of Statistics 6, 65-70.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        adjusted[index] = largest
    return adjusted


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value of two shares of the same patients.

    McNemar 1947, doi:10.1007/BF02295996, with the binomial distribution in place of chi-square.

    Args:
        only_first: Patients whom the first arm alone judged rightly.
        only_second: Patients whom the second arm alone judged rightly.
    """
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


@cache
def _ranks_outside(count: int) -> int:
    """Return how many signed rank sums of ``count`` differences lie in 2.5 % of the distribution at its lower end."""
    chances = np.ones(1)
    for rank in range(1, count + 1):
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    return int(np.searchsorted(chances.cumsum(), (1 - LEVEL) / 2, side="right"))
