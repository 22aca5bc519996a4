"""What (epsilon, delta) is worth: bounds on whoever asks whether one patient's records were in the training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ramw_fed.privacy.accountants import pld_deltas
from ramw_fed.privacy.accounting import claimed_epsilon
from ramw_fed.privacy.event import Event

_CURVE = 40


@dataclass(frozen=True)
class Guarantee:
    """What differential privacy promises to one patient of one center.

    The attacker of these bounds knows everything else: all other patients' records, the code, the knobs, and each
    update that left the center. A weaker attacker does worse, by how much no bound says.

    Attributes:
        epsilon: From 0.
        delta: In [0, 1).
        curve: More pairs (epsilon, delta) that the same releases keep: each bound is the strongest of all pairs.
    """

    epsilon: float
    delta: float
    curve: tuple[tuple[float, float], ...] = ()

    def largest_sensitivity(self, false_positives: float) -> float:
        """Largest share of true patients found by a test that wrongly names ``false_positives`` of the others.

        Kairouz et al. 2017, https://arxiv.org/abs/1311.0776, theorem 2.1, both of its lines.

        >>> round(Guarantee(1.0, 0.0).largest_sensitivity(0.01), 4)  # e * .01
        0.0272
        """
        return min(_sensitivity(epsilon, delta, false_positives) for epsilon, delta in self._pairs)

    @property
    def largest_accuracy(self) -> float:
        """Largest share of right guesses whether a patient, in or not with equal chance, was in: 1/2 is blind guessing.

        Where the two bounds on the sensitivity meet: (exp(epsilon) + delta) / (exp(epsilon) + 1).
        """
        return min(1 - (1 - delta) / (1 + _exp(epsilon)) for epsilon, delta in self._pairs)

    @property
    def largest_advantage(self) -> float:
        """Largest sensitivity less false positives: 2 accuracy - 1."""
        return 2 * self.largest_accuracy - 1

    @property
    def _pairs(self) -> tuple[tuple[float, float], ...]:
        return ((self.epsilon, self.delta), *self.curve)

    def largest_posterior(self, prior: float = 0.5) -> float:
        """Probability to which a suspicion ``prior`` that a patient was in can rise by what left the center.

        Odds grow by at most 2 exp(epsilon), but for outcomes that have together a probability of at most 2 delta,
        because each of those counts in delta at least by half. Without a delta they grow by at most exp(epsilon).
        """
        odds = (2 if self.delta else 1) * _exp(self.epsilon) * prior
        return odds / (odds + 1 - prior)

    def as_dict(self) -> dict[str, float]:
        """Return the bounds as plain values for JSON."""
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "largest_sensitivity_at_1_percent_false_positives": self.largest_sensitivity(0.01),
            "largest_accuracy": self.largest_accuracy,
            "largest_advantage": self.largest_advantage,
            "largest_posterior_from_one_half": self.largest_posterior(),
        }

    def sentences(self) -> list[str]:
        """Return what it means, for a data protection officer."""
        return [
            "Protected is each patient of the center, with all images, exams and joints: whatever leaves the center is "
            f"at most {_exp(self.epsilon):,.4g} times as likely with that patient's records as with empty ones, but "
            f"for a chance of {self.delta:.2g} (epsilon {self.epsilon:.3g}, delta {self.delta:.2g}).",
            "Whoever knows all other patients and sees every update, and guesses whether one patient's records were "
            f"used, is right in at most {in_percent(self.largest_accuracy)} of cases; blind guessing is right in 50 %.",
            "If such an attack may name 1 % of the patients wrongly, it finds at most "
            f"{in_percent(self.largest_sensitivity(0.01))} of those whose records were used; blind guessing finds 1 %.",
            "A suspicion of 50 % that a patient took part can become at most "
            f"{in_percent(self.largest_posterior())} by the worst of all outcomes, but for such that have together a "
            f"probability of at most {2 * self.delta:.2g}.",
        ]


def guarantee(events: Sequence[Event], delta: float) -> Guarantee:
    """Return what events are worth, by the claimed epsilon and by the whole curve of their privacy loss."""
    claimed = claimed_epsilon(events, delta)
    # Bounds are read off between the largest delta, at epsilon 0, and the claimed pair.
    epsilons = [claimed * step / _CURVE for step in range(_CURVE)]
    return Guarantee(claimed, delta, tuple(zip(epsilons, pld_deltas(events, epsilons), strict=True)))


def _sensitivity(epsilon: float, delta: float, false_positives: float) -> float:
    from_below = 1 - math.exp(-epsilon) * (1 - delta - false_positives)
    return min(_exp(epsilon) * false_positives + delta, from_below, 1.0)


def _exp(epsilon: float) -> float:
    return math.exp(min(epsilon, 700.0))


def in_percent(value: float) -> str:
    """Return a bound in per cent, rounded up, because it must not say less than it allows."""
    digits = 1 if value < 0.999 else 2
    return f"{min(math.ceil(value * 10 ** (digits + 2) - 1e-9) / 10**digits, 100):.{digits}f} %"
