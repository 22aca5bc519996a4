"""Intervals by patient: a bootstrap stratified by center, vectorised through one matrix of weights.

Each resample draws, within each center, one patient fewer than the center has and gives what was drawn the weight
n / (n - 1) a time (Rao and Wu 1988, doi:10.1080/01621459.1988.10478591, with m = n - 1): the plain bootstrap of a
center of ten patients is too narrow by the factor sqrt(9 / 10). The percentiles are then taken further out, as
Student's t lies further out than the normal (Hesterberg 2015, "expanded percentile interval",
doi:10.1080/00031305.2015.1089789). A center's draws follow from the seed, its name and the names of its patients
alone: neither the order of rows nor the other centers change them, so a center finds at home the very interval
that a simulation of the whole federation reports for it.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

Values = NDArray[np.float64]
Patient = tuple[str, str]  # center, patient: patients of two centers may bear one name
Statistic = Callable[[Values], Values]  # weights (resamples, patients) -> values (resamples, K), NaN: not defined

RESAMPLES = 2000
LEVEL = 0.95
FEWEST_PATIENTS = 5


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % interval; ``redrawn`` resamples had no value (one class only, say) and were drawn again."""

    low: float
    high: float
    redrawn: int = 0

    def within(self, least: float, most: float) -> "Interval":
        """Return the part between the limits of the value itself: sums and reaches may step over them."""
        return replace(self, low=max(self.low, least), high=min(self.high, most))


def patient_weights(patients: Sequence[Patient], *, seed: int, resamples: int = RESAMPLES, block: int = 0) -> Values:
    """Weight of each patient in each resample.

    Args:
        patients: Center and name of each patient, all different, in any order.
        seed: Any whole number of at least 0.
        resamples: Number of resamples.
        block: Another block gives resamples independent of the first.

    Returns:
        ``(resamples, patients)``; each center's weights sum to the number of its patients. Centers of one patient each
        are drawn together, as one center (collapsed strata, Cochran 1977, 5A.12): alone they would not vary and feign
        certainty. Where there is just one of them it keeps weight 1.
    """
    weights = np.ones((resamples, len(patients)))
    order = sorted(range(len(patients)), key=lambda index: patients[index])
    sizes = Counter(center for center, _ in patients)
    strata: dict[str, list[int]] = {}
    for index in order:
        center = patients[index][0]
        strata.setdefault(center if sizes[center] > 1 else "", []).append(index)
    for center, columns in sorted(strata.items()):
        count = len(columns)
        if count > 1:
            weights[:, columns] = _draws(seed, block, center, count, resamples)
    return weights


@lru_cache(maxsize=32)
def _draws(seed: int, block: int, center: str, count: int, resamples: int) -> Values:
    """Weights of a center's patients: the same for every table of as many patients, which reports hold dozens of."""
    name = int.from_bytes(hashlib.sha256(center.encode()).digest()[:8], "big")
    generator = np.random.default_rng(np.random.SeedSequence([seed, block, name]))
    draws = generator.multinomial(count - 1, [1 / count] * count, size=resamples)
    weights = np.asarray(draws * (count / (count - 1)), np.float64)
    weights.flags.writeable = False
    return weights


def weighted_sums(weights: Values, sums: Values) -> Values:
    """``(resamples, patients)`` times ``(patients, K)``, with equal bytes for any number of threads.

    A BLAS product is faster and rounds differently with two threads than with one. Patients lie side by side in both
    factors: for a few columns this is several times as fast as columns side by side.
    """
    products: Values = np.einsum("rp,kp->rk", weights, np.ascontiguousarray(sums.T))
    return products


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """What one value was in each resample.

    Attributes:
        values: ``(resamples,)``, all defined.
        redrawn: Resamples that had no value and were drawn again.
        freedom: Degrees of freedom of the patients behind it.
    """

    values: Values
    redrawn: int
    freedom: int

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the interval at this level."""
        tail = _tail(self.freedom, level)
        low, high = np.quantile(self.values, [tail, 1 - tail])
        return Interval(low=float(low), high=float(high), redrawn=self.redrawn)

    def p_value(self) -> float:
        """Two-sided probability of a value this far from 0 where 0 is the truth.

        One less the level of the widest such interval that leaves 0 out, so that test and interval say the same
        (Efron and Tibshirani 1993, 15.4); with one resample at 0 added, so that it is never 0.
        """
        return min(1.0, 2 * min(self.p_above(0.0), self.p_below(0.0)))

    def p_above(self, bound: float) -> float:
        """One-sided p-value of "the value lies above ``bound``"; small where it does."""
        return self._share(int(np.count_nonzero(self.values <= bound)))

    def p_below(self, bound: float) -> float:
        """One-sided p-value of "the value lies below ``bound``"; small where it does."""
        return self._share(int(np.count_nonzero(self.values >= bound)))

    def _share(self, beyond: int) -> float:
        return float(t.cdf(norm.ppf((beyond + 1) / (len(self.values) + 1)), self.freedom))


def bootstrap_intervals(
    statistic: Statistic,
    patients: Sequence[Patient],
    contributes: NDArray[np.bool_],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> list[Interval | None]:
    """Interval of each of K values; arguments and None as in :func:`bootstrap`."""
    drawn = bootstrap(statistic, patients, contributes, seed=seed, resamples=resamples)
    return [None if replicates is None else replicates.interval() for replicates in drawn]


def bootstrap(
    statistic: Statistic,
    patients: Sequence[Patient],
    contributes: NDArray[np.bool_],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> list[Replicates | None]:
    """Replicates of each of K values; None below five patients or where resamples mostly have no value.

    Args:
        statistic: From weights to values.
        patients: Center and name of each patient, as the columns of the weights.
        contributes: ``(patients, K)``, who has a part in which value.
        seed: As in :func:`patient_weights`.
        resamples: Number of resamples that count for each value.
    """
    counts = contributes.sum(axis=0)
    if not len(patients) or counts.max(initial=0) < FEWEST_PATIENTS:
        return [None] * contributes.shape[1]
    replicates = statistic(patient_weights(patients, seed=seed, resamples=resamples))
    if np.isnan(replicates[:, counts >= FEWEST_PATIENTS]).any():
        spare = statistic(patient_weights(patients, seed=seed, resamples=resamples, block=1))
        replicates = np.concatenate([replicates, spare])
    centers = np.array([center for center, _ in patients])
    return [
        _defined(replicates[:, column], resamples, degrees_of_freedom(centers[part].tolist()))
        if counts[column] >= FEWEST_PATIENTS
        else None
        for column, part in enumerate(contributes.T)
    ]


def interval_of_mean(estimates: Sequence[tuple[float, Interval, int]]) -> Interval:
    """Interval of the mean of independent values, from their own intervals alone.

    Square-and-add of the distances between values and limits (MOVER; Zou and Donner 2008, doi:10.1002/sim.3095).
    The limits of a center of n patients lie t(n - 1) standard errors out; together the centers deserve the t of all
    their degrees of freedom.

    Args:
        estimates: Value, interval and number of patients of each center.
    """
    together = _reach(sum(count - 1 for _, _, count in estimates))
    shrink = [together / _reach(count - 1) for _, _, count in estimates]
    below = [(value - ci.low) * by for (value, ci, _), by in zip(estimates, shrink, strict=True)]
    above = [(ci.high - value) * by for (value, ci, _), by in zip(estimates, shrink, strict=True)]
    mean = math.fsum(value for value, _, _ in estimates) / len(estimates)
    return Interval(
        low=mean - math.hypot(*below) / len(estimates),
        high=mean + math.hypot(*above) / len(estimates),
        redrawn=sum(ci.redrawn for _, ci, _ in estimates),
    )


def degrees_of_freedom(centers: Sequence[str]) -> int:
    """Patients less one a center, at least 1; ``centers`` names each patient's. Centers of one patient count as one."""
    sizes = list(Counter(centers).values())
    alone = sizes.count(1)
    return max(1, sum(size - 1 for size in sizes) + max(0, alone - 1))


def _defined(replicates: Values, resamples: int, freedom: int) -> Replicates | None:
    defined = np.flatnonzero(~np.isnan(replicates))
    if len(defined) < resamples:
        return None
    redrawn = int(defined[resamples - 1]) + 1 - resamples
    return Replicates(values=replicates[defined[:resamples]], redrawn=redrawn, freedom=freedom)


@cache
def _tail(freedom: int, level: float = LEVEL) -> float:
    return float(norm.cdf(-_reach(freedom, level)))


@cache
def _reach(freedom: int, level: float = LEVEL) -> float:
    return float(t.ppf((1 + level) / 2, freedom))
