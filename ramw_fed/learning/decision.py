"""What is chosen on validation patients and then frozen: thresholds, and how a logit becomes a probability.

Centers send how many of their joints lie in each bin of logits, a count a class: such counts add up, so that a choice
over all centers is the one that a single table of all their joints would give, to half a logit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit

from ramw_fed.config import ErosionConfig
from ramw_fed.knobs import required

Values = NDArray[np.float64]

# A probability of 1e-7, where float32 cannot tell 1 - p from 1.
LARGEST_LOGIT = 16.0
NUM_BINS = 64
_EDGES = np.linspace(-LARGEST_LOGIT, LARGEST_LOGIT, NUM_BINS + 1)
_MIDDLES = (_EDGES[1:] + _EDGES[:-1]) / 2
# Slopes of the logit beyond these mean classes that do not overlap: there is nothing to calibrate on.
_SLOPES = (0.05, 20.0)

CLASSES = ("intact", "eroded")
PATIENTS = "eroded_patients"


def count_logits(logits: Values, is_eroded: NDArray[np.bool_]) -> dict[str, float]:
    """Return ``logits/<class>/<bin>`` to the number of joints there; bins that are empty are left out.

    Args:
        logits: ``(joints,)``; those beyond the outer bins are counted in them.
        is_eroded: ``(joints,)``.
    """
    bins = np.clip(np.floor((logits - _EDGES[0]) / (_EDGES[1] - _EDGES[0])).astype(np.int64), 0, NUM_BINS - 1)
    counts: dict[str, float] = {}
    for name, chosen in zip(CLASSES, (~is_eroded, is_eroded), strict=True):
        numbers = np.bincount(bins[chosen], minlength=NUM_BINS)
        counts |= {_key(name, place): float(number) for place, number in enumerate(numbers) if number}
    return counts


def is_count(name: str) -> bool:
    """Whether a sum is one of :func:`count_logits`."""
    return name in _KEYS


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Numbers of joints by bin of their logit, ``(NUM_BINS,)`` a class, and of patients with an erosion."""

    intact: Values
    eroded: Values
    eroded_patients: int

    @classmethod
    def of(cls, *parts: Mapping[str, float]) -> "Scores":
        """Add up the sums of centers."""
        total = {
            name: np.array([math.fsum(part.get(_key(name, place), 0.0) for part in parts) for place in range(NUM_BINS)])
            for name in CLASSES
        }
        return cls(**total, eroded_patients=int(sum(part.get(PATIENTS, 0.0) for part in parts)))

    @property
    def has_both(self) -> bool:
        """Whether there is a joint of each class."""
        return bool(self.intact.sum() and self.eroded.sum())

    def threshold(self, least_sensitivity: float | None = None) -> float:
        """Return a logit from which a joint is called eroded, one of the bins' edges.

        Args:
            least_sensitivity: The largest edge that still finds this share of the eroded joints; None: the edge of
                largest sensitivity + specificity (Youden 1950), the middle one of several.
        """
        sensitivity = np.append(self.eroded[::-1].cumsum()[::-1], 0.0) / self.eroded.sum()
        specificity = np.append(0.0, self.intact.cumsum()) / self.intact.sum()
        if least_sensitivity is not None:
            return float(_EDGES[np.flatnonzero(sensitivity >= least_sensitivity - 1e-12)[-1]])
        gain = sensitivity + specificity
        best = np.flatnonzero(gain >= gain.max() - 1e-12)
        return float(_EDGES[best[(len(best) - 1) // 2]])

    def temperature(self) -> float:
        """Return T of least log loss of ``sigmoid(z / T)``: Guo et al. 2017, 4.2, https://arxiv.org/abs/1706.04599."""
        limits = (math.log(_SLOPES[0]), math.log(_SLOPES[1]))
        found = minimize_scalar(
            lambda log: self._log_loss(math.exp(log), 0.0, 1.0, 0.0)[0], bounds=limits, method="bounded"
        )
        return math.exp(-float(found.x))

    def platt(self) -> tuple[float, float]:
        """Return T and b of least log loss of ``sigmoid(z / T + b)``, towards Platt's targets.

        Platt 1999, "Probabilistic outputs for support vector machines", 2.2: (n + 1) / (n + 2) for n eroded joints and
        1 / (n + 2) for n others in place of 1 and 0, so that few joints do not lead to certainty.
        """
        high, low = (self.eroded.sum() + 1) / (self.eroded.sum() + 2), 1 / (self.intact.sum() + 2)

        def log_loss(at: Values) -> tuple[float, Values]:
            return self._log_loss(float(at[0]), float(at[1]), high, low)

        found = minimize(log_loss, np.array([1.0, 0.0]), (), jac=True, bounds=(_SLOPES, (-20.0, 20.0)))
        return 1 / float(found.x[0]), float(found.x[1])

    def _log_loss(self, slope: float, shift: float, high: float, low: float) -> tuple[float, Values]:
        """Mean log loss of ``sigmoid(slope z + shift)`` at the bins' middles, and its gradient."""
        count = self.eroded + self.intact
        wanted = high * self.eroded + low * self.intact
        at = slope * _MIDDLES + shift
        loss = float(np.sum(count * np.logaddexp(0, at) - wanted * at) / count.sum())
        residual = (count * expit(at) - wanted) / count.sum()
        return loss, np.array([np.sum(residual * _MIDDLES), np.sum(residual)])


def calibrated(logits: Values, config: ErosionConfig) -> Values:
    """Return probabilities of an erosion from the network's logits."""
    probabilities: Values = expit(logits / config.temperature + config.shift)
    return probabilities


def uncalibrated(probabilities: Values, config: ErosionConfig) -> Values:
    """Return the network's own probabilities from those of :func:`calibrated`."""
    with np.errstate(divide="ignore"):
        own: Values = expit((logit(probabilities) - config.shift) * config.temperature)
    return own


def decide(config: ErosionConfig, sums: Mapping[str, Mapping[str, float]]) -> tuple[ErosionConfig, dict[str, Any]]:
    """Choose by the rules of ``config`` what a joint is called, and with which probability.

    Args:
        config: With ``threshold-rule`` and ``calibration``.
        sums: Center to its validation sums, with counts of logits.

    Returns:
        The configuration to measure with, and what to say of the choice; nothing where no rule asks for one.
    """
    if not config.asks_for_scores:
        return config, {}
    every = Scores.of(*sums.values())
    said: dict[str, Any] = {
        "rule": config.threshold_rule,
        "calibration": config.calibration,
        "validation": {"intact": int(every.intact.sum()), "eroded": int(every.eroded.sum())},
    }
    if not every.has_both:
        return config, said | {"reason": "one class in the validation joints: all stays as configured"}
    decided = _calibrate(config, every)
    if config.threshold_rule == "fixed":  # of the network's own probability: calibration changes no decision
        with np.errstate(divide="ignore"):
            return _with_threshold(decided, float(logit(config.threshold))), said
    own = {center: Scores.of(part) for center, part in sorted(sums.items())}
    wanted = required(config.own_threshold_patients, "erosion.own-threshold-patients")
    fallbacks = {
        center: f"{part.eroded_patients} validation patients with an erosion; {wanted} are wanted"
        for center, part in own.items()
        if part.eroded_patients < wanted or not part.has_both
    }
    chosen = {
        center: part.threshold(config.least_sensitivity) for center, part in own.items() if center not in fallbacks
    }
    decided = _with_threshold(decided, every.threshold(config.least_sensitivity))
    said["global threshold at"] = fallbacks
    return replace(decided, own_thresholds=_written(chosen, decided)), said


def _calibrate(config: ErosionConfig, every: Scores) -> ErosionConfig:
    if config.calibration == "temperature":
        return replace(config, temperature=every.temperature(), shift=0.0)
    if config.calibration == "platt":
        temperature, shift = every.platt()
        return replace(config, temperature=temperature, shift=shift)
    return config


def _with_threshold(config: ErosionConfig, at: float) -> ErosionConfig:
    return replace(config, threshold=float(calibrated(np.array(at), config)))


def _written(logits: Mapping[str, float], config: ErosionConfig) -> tuple[str, ...]:
    return tuple(f"{center}={float(calibrated(np.array(at), config))!r}" for center, at in logits.items())


def _key(name: str, place: int) -> str:
    return f"logits/{name}/{place:02d}"


_KEYS = frozenset(_key(name, place) for name in CLASSES for place in range(NUM_BINS))
