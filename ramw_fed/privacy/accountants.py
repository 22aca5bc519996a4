"""Epsilon of a sequence of events by three accountants; what to make of the three says ``accounting.py``.

All three are of the Poisson-subsampled Gaussian with the neighbours of add/remove, which for a fixed number of patients
is: one patient's records replaced by an empty record. Rates of 1 (no sampling) are one Gaussian, whatever their number:
their squared means add (Dong et al. 2022, doi:10.1111/rssb.12454, corollary 3.3).
"""

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as privacy_loss
from numpy.typing import NDArray
from opacus.accountants.analysis import rdp as opacus_rdp
from opacus.accountants.analysis.prv import (
    DiscretePRV,
    Domain,
    PoissonSubsampledGaussianPRV,
    TruncatedPrivacyRandomVariable,
    compose_heterogeneous,
    discretize,
)
from opacus.accountants.rdp import RDPAccountant
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.special import ndtr

from ramw_fed.privacy.event import Event

_ORDERS = RDPAccountant.DEFAULT_ALPHAS

# A grid of the privacy loss finer than both hides its error of rounding: measured, below 1e-3 of epsilon (test).
_GRID_OF_STEP, _GRID_OF_LOSS, _COARSEST = 1 / 20, 2.5e-5, 1e-3

# exp of it is still a float64.
_LARGEST_LOSS = 600.0


def merged(events: Sequence[Event]) -> tuple[Event, ...]:
    """Return the same events with equal pairs of rate and noise as one, sorted; order is of no account to epsilon.

    All whole-center events (rate 1) become one step of a Gaussian with the noise that they have together.
    """
    steps: dict[tuple[float, float], int] = {}
    whole = 0.0
    for event in sorted(events):
        if event.sampling_rate == 1:
            whole += event.steps / event.noise_multiplier**2
        elif event.steps:
            pair = (event.sampling_rate, event.noise_multiplier)
            steps[pair] = steps.get(pair, 0) + event.steps
    sampled = [Event(sampling_rate=rate, noise_multiplier=noise, steps=n) for (rate, noise), n in steps.items()]
    alone = [Event(sampling_rate=1.0, noise_multiplier=whole**-0.5, steps=1)] if whole else []
    return tuple(sorted(sampled + alone))


def pld_epsilon(events: Sequence[Event], delta: float) -> float:
    """Epsilon by dp-accounting's privacy loss distributions, rounded to the safe side; the worse of both directions.

    Doroshenko et al. 2022, https://arxiv.org/abs/2207.04380.
    """
    loss = _composed(merged(events))
    return 0.0 if loss is None else _from_pld(loss, delta)


def pld_deltas(events: Sequence[Event], epsilons: Sequence[float]) -> list[float]:
    """Delta at each epsilon, rising, by the same distributions: the events keep all of these promises at once."""
    loss = _composed(merged(events))
    if loss is None:
        return [0.0] * len(epsilons)
    return [min(max(float(value), 0.0), 1.0) for value in loss.get_delta_for_epsilon(list(epsilons))]


def _composed(events: tuple[Event, ...]) -> Any:
    together = None
    grid = _grid(events)
    for event in events:
        one = privacy_loss.from_gaussian_mechanism(
            event.noise_multiplier, sampling_prob=event.sampling_rate, value_discretization_interval=grid
        )
        one = one.self_compose(event.steps) if event.steps > 1 else one
        together = one if together is None else together.compose(one)
    return together


def _from_pld(loss: Any, delta: float) -> float:
    with np.errstate(over="ignore"):
        epsilon = float(loss.get_epsilon_for_delta(delta))
    if epsilon < _LARGEST_LOSS:
        return epsilon

    # The library's reading forms exp(-loss), which is 0 there; its delta of an epsilon does not.
    def excess(epsilon: float) -> float:
        return math.log(max(loss.get_delta_for_epsilon(epsilon), 1e-300) / delta)

    low = high = _LARGEST_LOSS / 2
    while excess(high) > 0 and math.isfinite(high):
        low, high = high, 2 * high
    return float(brentq(excess, low, high)) if math.isfinite(high) else math.inf


def _grid(events: Sequence[Event]) -> float:
    """Return the step of the grid of losses: relative to one step's loss, and for a large sum to the sum."""
    total = sum(event.steps * _second_order(event) for event in events)
    steps = sum(event.steps for event in events)
    if not steps:
        return _COARSEST
    return min(_GRID_OF_STEP * math.sqrt(total / steps), max(_COARSEST, _GRID_OF_LOSS * total))


def _second_order(event: Event) -> float:
    """Return the Rényi divergence of order 2 of one step: log(1 + q² (exp(1/σ²) - 1)), for small ones its variance."""
    rate, exponent = event.sampling_rate, event.noise_multiplier**-2
    return exponent if rate == 1 else float(np.logaddexp(math.log1p(-(rate**2)), 2 * math.log(rate) + exponent))


def rdp_epsilon(events: Sequence[Event], delta: float) -> float:
    """Epsilon by Rényi divergences (Opacus), an upper bound.

    Mironov et al. 2019, https://arxiv.org/abs/1908.10530; to epsilon by Balle et al. 2020, theorem 21.
    """
    events = merged(events)
    return _from_rdp(sum(event.steps * _rdp(event.sampling_rate, event.noise_multiplier) for event in events), delta)


@lru_cache(maxsize=256)
def _rdp(sampling_rate: float, noise_multiplier: float) -> NDArray[np.float64]:
    values = opacus_rdp.compute_rdp(q=sampling_rate, noise_multiplier=noise_multiplier, steps=1, orders=_ORDERS)
    return np.asarray(values, dtype=np.float64)


def _from_rdp(values: NDArray[np.float64] | int, delta: float) -> float:
    if isinstance(values, int):
        return 0.0
    with warnings.catch_warnings():
        # Any order is an upper bound; that the best one lies at an end costs tightness, which is not asked of RDP here.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        epsilon, _ = opacus_rdp.get_privacy_spent(orders=_ORDERS, rdp=values, delta=delta)
    return max(float(epsilon), 0.0)


class _Loss(PoissonSubsampledGaussianPRV):  # type: ignore[misc]  # Opacus is not typed for mypy
    """Opacus' random variable, where it divides by zero (rate 1) or overflows (losses above 700) written otherwise."""

    def cdf(self, t: Any) -> Any:
        """Probability of a loss of at most ``t`` (Gopi et al. 2021, https://arxiv.org/abs/2106.02848, B.4)."""
        rate, noise = self.sample_rate, self.noise_multiplier
        least = math.log1p(-rate) if rate < 1 else -math.inf
        inside = np.maximum(t, least + 1e-300)
        # z = log((exp(t) + q - 1) / q)
        z = (
            inside
            - math.log(rate)
            + np.log1p(np.maximum((rate - 1) * np.exp(np.minimum(-inside, _LARGEST_LOSS)), 1e-16 - 1))
        )
        with_patient, without = ndtr(noise * z - 0.5 / noise), ndtr(noise * z + 0.5 / noise)
        return np.where(t > least, rate * with_patient + (1 - rate) * without, 0.0)


def prv_epsilon(events: Sequence[Event], delta: float, *, error: float) -> float:
    """Epsilon by Opacus' privacy random variables: its estimate and, as Opacus does, ``error`` on top.

    Gopi et al. 2021, https://arxiv.org/abs/2106.02848.
    """
    events = merged(events)
    if not events:
        return 0.0
    slack = delta / 1000
    steps = [event.steps for event in events]
    mesh = error / math.sqrt(sum(steps) * math.log(12 / slack) / 2)
    reach = _reach(events, slack) + max(error, 3.0)
    domain = Domain.create_aligned(-reach, reach, mesh)
    losses = [_Loss(event.sampling_rate, event.noise_multiplier) for event in events]
    cut = [discretize(TruncatedPrivacyRandomVariable(loss, domain.t_min, domain.t_max), domain) for loss in losses]
    return max(_read(compose_heterogeneous(cut, steps), delta - slack) + error, 0.0)


def _reach(events: Sequence[Event], slack: float) -> float:
    """Return a loss that the sum, and any one step, passes with less than ``slack`` (remark 5.6 of the paper)."""
    steps = sum(event.steps for event in events)
    one = max(_from_rdp(_rdp(e.sampling_rate, e.noise_multiplier), slack / (8 * steps)) for e in events)
    return max(rdp_epsilon(events, slack / 4), one)


def _read(loss: DiscretePRV, delta: float) -> float:
    """Return the epsilon of a discrete loss; Opacus' own reading forms exp(loss), which overflows above 709."""
    probabilities = np.flip(loss.pmf)
    above = probabilities.cumsum()
    # Sum over losses t from t_i of p(t) exp(t_i - t), from the largest down.
    tilted = lfilter([1.0], [1.0, -math.exp(-loss.domain.dt)], probabilities)
    index = int(np.argmax(above - tilted > delta)) - 1
    if index < 0:
        return 0.0
    at = loss.domain.t_max - index * loss.domain.dt
    return float(at + math.log(max(above[index] - delta, 1e-300) / tilted[index]))
