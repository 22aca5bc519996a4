"""A lower bound on epsilon from one training: many canaries, a fair coin each, and guesses how the coins fell.

Steinke, Nasr and Jagielski 2023, *Privacy Auditing with One (1) Training Run*, https://arxiv.org/abs/2305.08846.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from ramw_fed.errors import PrivacyError

CONFIDENCE = 0.95
# Larger ones are not looked for.
_LARGEST_EPSILON, _MOST_CANARIES = 60.0, 200_000


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What guesses prove.

    Attributes:
        epsilon: Lower bound on epsilon; 0 where nothing is proved.
        most: What the bound would be, had every guess been right: the largest epsilon that this audit can prove.
        guesses: Canaries of whom something was guessed.
        right: Right guesses.
    """

    epsilon: float
    most: float
    guesses: int
    right: int


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    r"""Largest probability of so many right guesses under (epsilon, delta)-differential privacy.

    Steinke et al. 2023, theorem 5.2 in the form of corollary 5.4 and appendix D: with
    :math:`W \sim \mathrm{Bin}(r, e^\epsilon / (1 + e^\epsilon))` it is
    :math:`P[W \ge v] + 2 m \delta \max_{1 \le i \le v} P[v > W \ge v - i] / i`.

    Args:
        canaries: ``m``, each in the training by a fair coin of its own.
        guesses: ``r``; of the others nothing is guessed.
        right: ``v``.
        epsilon: At least 0.
        delta: In [0, 1].
    """
    share = float(expit(epsilon))
    tail = float(binom.sf(right - 1, guesses, share))
    if delta == 0 or right == 0:
        return min(tail, 1.0)
    below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, share))
    steepest = float((below / np.arange(1, right + 1)).max())
    return min(tail + 2 * canaries * delta * steepest, 1.0)


def epsilon_lower_bound(canaries: int, guesses: int, right: int, delta: float, error: float) -> float:
    """Return the epsilon below which so many right guesses have a probability under ``error``; 0 where none has.

    Args:
        canaries: As in :func:`p_value`.
        guesses: As there.
        right: As there.
        delta: As there.
        error: Probability with which the bound may be wrong, in (0, 1).
    """

    def excess(epsilon: float) -> float:
        return p_value(canaries, guesses, right, epsilon, delta) - error

    if guesses == 0 or excess(0.0) >= 0:
        return 0.0
    # At so large an epsilon every guess is right almost surely, and the p-value is 1.
    return float(brentq(excess, 0.0, _LARGEST_EPSILON, xtol=1e-9))


def guess_counts(canaries: int) -> tuple[int, ...]:
    """Return how many canaries are guessed to be in, and as many out, in each of the tries; fixed before any score.

    First all but so few that fair coins give enough of either side (four standard deviations; fewer than once in ten
    thousand audits they do not): that proves most where nothing protects. Then the clearest tenth: that proves more
    where noise does.

    >>> guess_counts(500), guess_counts(10_000)
    ((205, 25), (4800, 500))
    """
    nearly_all = canaries // 2 - math.ceil(2 * math.sqrt(canaries))
    return tuple(sorted({max(nearly_all, 1), max(canaries // 20, 1)}, reverse=True))


def audited(scores: NDArray[np.float64], is_in: NDArray[np.bool_], delta: float) -> Bound:
    """Return the best of the tries of :func:`guess_counts`, the error shared among them (Bonferroni).

    Args:
        scores: ``(canaries,)``; larger where a canary seems to have been in the training.
        is_in: ``(canaries,)`` how the coins fell. Used to count right guesses only.
        delta: Of the guarantee.
    """
    order = np.argsort(scores, kind="stable")
    most = largest_provable(len(scores), delta)
    bounds = []
    for count in guess_counts(len(scores)):
        right = int(is_in[order[-count:]].sum() + (~is_in[order[:count]]).sum())
        epsilon = epsilon_lower_bound(len(scores), 2 * count, right, delta, _error(len(scores)))
        bounds.append(Bound(epsilon=epsilon, most=most, guesses=2 * count, right=right))
    return max(bounds, key=lambda bound: (bound.epsilon, bound.guesses))


def largest_provable(canaries: int, delta: float) -> float:
    """Return the bound that ``canaries`` would give, were every guess right."""
    guesses = 2 * guess_counts(canaries)[0]
    return epsilon_lower_bound(canaries, guesses, guesses, delta, _error(canaries))


def canaries_needed(epsilon: float, delta: float, *, least: int = 1000) -> int:
    """Return how many canaries an audit needs to be able to refuse ``epsilon``: from ``least`` in steps of a tenth.

    Raises:
        PrivacyError: More than 200,000 would be needed, or ``delta`` is too large for any number.
    """
    # At delta 0 so many guesses, all right, have the probability q^r = error; more are needed at any other.
    guesses = math.log(1 / _error(least)) * (math.exp(min(epsilon, _LARGEST_EPSILON)) + 1)
    canaries = max(least, math.floor(guesses))
    while canaries <= _MOST_CANARIES:
        if largest_provable(canaries, delta) > epsilon:
            return canaries
        canaries += math.ceil(canaries / 10)
    raise PrivacyError(
        f"an audit in one training cannot refuse epsilon {epsilon:.3g} at delta {delta:g}: it would need more than "
        f"{_MOST_CANARIES:,} canaries; audit the same build at a smaller epsilon"
    )


def _error(canaries: int) -> float:
    return (1 - CONFIDENCE) / len(guess_counts(canaries))
