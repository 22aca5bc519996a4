"""What a center's patients have spent: the epsilon that decides, two more beside it, and the noise for a target."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

from scipy.optimize import brentq

from ramw_fed.errors import BudgetError, PrivacyError
from ramw_fed.privacy.accountants import merged, pld_epsilon, prv_epsilon, rdp_epsilon
from ramw_fed.privacy.event import Event

# PLD and PRV may differ by this share, or where epsilon is next to nothing by this much.
_AGREE, _NOTHING = 0.05, 1e-3

# Significant digits of a noise multiplier, rounded up; the least and the largest that are tried.
_DIGITS = 4
_LEAST_NOISE, _MOST_NOISE = 0.05, 1e4


@dataclass(frozen=True)
class Epsilons:
    """Epsilon of the same events by three accountants.

    Attributes:
        pld: Privacy loss distributions, rounded to the safe side: the number that decides and is claimed.
        prv: Privacy random variables, another library's road to the same number, with its own error on top.
        rdp: Rényi divergences: an upper bound that is known to be loose.
    """

    pld: float
    prv: float
    rdp: float

    @property
    def claimed(self) -> float:
        """The number that decides."""
        return self.pld

    def as_dict(self) -> dict[str, float]:
        """Return plain values for JSON."""
        return asdict(self)


def epsilons(events: Sequence[Event], delta: float) -> Epsilons:
    """Return the epsilon of all events together by three accountants that agree.

    Args:
        events: In any order; none, or only such of 0 steps, cost 0.
        delta: In (0, 1).

    Raises:
        PrivacyError: PLD and PRV differ by more than 5 %, or RDP, an upper bound, is below PRV: one of the libraries
            errs, and nothing may be claimed.
    """
    _refuse_delta(delta)
    return _epsilons(merged(events), delta)


@lru_cache(maxsize=1024)
def _epsilons(events: tuple[Event, ...], delta: float) -> Epsilons:
    pld = _claimed(events, delta)
    found = Epsilons(pld, prv_epsilon(events, delta, error=_prv_error(pld)), rdp_epsilon(events, delta))
    _refuse_disagreement(found)
    return found


def _prv_error(pld: float) -> float:
    """Return the error allowed to PRV, which it adds to its estimate: Opacus' .01, but 2 % of a small epsilon.

    With .01 throughout, an epsilon of .05 would read .06; an epsilon of 1000 would need a grid of 1e8 losses.
    """
    return max(min(0.01, 0.02 * pld), pld / 2000, _NOTHING / 5)


def _refuse_disagreement(found: Epsilons) -> None:
    apart = abs(found.pld - found.prv)
    if not apart <= max(_AGREE * min(found.pld, found.prv), _NOTHING):
        wrong = "differ by more than 5 %"
    elif not found.rdp >= found.prv - _NOTHING:
        wrong = "are above RDP, which bounds them"
    else:
        return
    raise PrivacyError(
        f"epsilon is {found.pld:.4g} by PLD, {found.prv:.4g} by PRV and {found.rdp:.4g} by RDP: the first two {wrong}, "
        "so one of the accountants errs and no epsilon may be claimed; please report the events with the versions of "
        "opacus and dp-accounting"
    )


def claimed_epsilon(events: Sequence[Event], delta: float) -> float:
    """Return the epsilon that decides (PLD), without the two beside it: for checks against a cap.

    Args:
        events: In any order; none, or only such of 0 steps, cost 0.
        delta: In (0, 1).
    """
    _refuse_delta(delta)
    return _claimed(merged(events), delta)


@lru_cache(maxsize=4096)
def _claimed(events: tuple[Event, ...], delta: float) -> float:
    return pld_epsilon(events, delta)


def solve_noise(
    workloads: Sequence[tuple[float, int]], target: float, delta: float, *, before: Sequence[Event] = ()
) -> float:
    """Return the noise multiplier with which all workloads together reach an epsilon, rounded up to four digits.

    Args:
        workloads: Sampling rate and steps of each; all get the same noise.
        target: Epsilon (above 0) that :func:`claimed_epsilon` of it all does not pass.
        delta: In (0, 1).
        before: What was spent already, inside the target.

    Raises:
        BudgetError: What was spent already leaves nothing.
        PrivacyError: A number is out of its range, or there is nothing to make noise for.
    """
    _refuse_delta(delta)
    if not (target > 0 and math.isfinite(target)):
        raise PrivacyError(f"the target epsilon is {target!r}; a finite number above 0 is wanted")
    if not sum(steps for _, steps in workloads):
        raise PrivacyError("the workloads have no steps, so no noise is needed; give the rounds or steps of the run")
    return _solve(tuple(sorted(workloads)), target, delta, merged(before))


@lru_cache(maxsize=1024)
def _solve(workloads: tuple[tuple[float, int], ...], target: float, delta: float, before: tuple[Event, ...]) -> float:
    def excess(log_noise: float) -> float:
        return math.log(max(_spent(workloads, math.exp(log_noise), before, delta), 1e-12) / target)

    low, high = math.log(_LEAST_NOISE), 0.0
    while excess(high) > 0:
        low, high = high, high + math.log(4)
        if high > math.log(_MOST_NOISE):
            raise BudgetError(
                f"epsilon {_claimed(before, delta):.4g} was spent already at this delta, which leaves nothing of a "
                f"target of {target:g}; raise the target or the cap, or train less"
            )
    if excess(low) <= 0:
        return _LEAST_NOISE
    # The root to 1e-5 may lie on the wrong side, rounding up to four digits puts most on the right one.
    noise = _round_up(math.exp(brentq(excess, low, high, xtol=1e-5, rtol=1e-9)))
    while _spent(workloads, noise, before, delta) > target:
        noise = _round_up(noise * (1 + 10.0**-_DIGITS))
    return noise


def _spent(workloads: Sequence[tuple[float, int]], noise: float, before: tuple[Event, ...], delta: float) -> float:
    events = [Event(sampling_rate=rate, noise_multiplier=noise, steps=steps) for rate, steps in workloads]
    return claimed_epsilon([*before, *events], delta)


def _round_up(value: float) -> float:
    digits = _DIGITS - 1 - math.floor(math.log10(value))
    # The float nearest to the decimal number that a configuration or a manifest shows.
    return round(math.ceil(value * 10.0**digits) / 10.0**digits, max(digits, 0))


def _refuse_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise PrivacyError(f"delta is {delta!r}; a number between 0 and 1 is wanted, such as 1 / (10 patients)")
