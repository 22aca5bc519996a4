"""What (epsilon, delta) is worth: bounds on whoever asks whether one patient's records were in the training."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Guarantee:
    """What differential privacy promises to one patient of one center.

    The attacker of these bounds knows everything else: all other patients' records, the code, the knobs, and each
    update that left the center. A weaker attacker does worse, by how much no bound says.

    Attributes:
        epsilon: From 0.
        delta: In [0, 1).
    """

    epsilon: float
    delta: float

    def largest_sensitivity(self, false_positives: float) -> float:
        """Largest share of true patients found by a test that wrongly names ``false_positives`` of the others.

        Kairouz et al. 2017, https://arxiv.org/abs/1311.0776, theorem 2.1, both of its lines.

        >>> round(Guarantee(1.0, 0.0).largest_sensitivity(0.01), 4)  # e * .01
        0.0272
        """
        from_above = self.delta + math.exp(min(self.epsilon, 700.0)) * false_positives
        from_below = 1 - math.exp(-self.epsilon) * (1 - self.delta - false_positives)
        return min(from_above, from_below, 1.0)

    @property
    def largest_accuracy(self) -> float:
        """Largest share of right guesses whether a patient, in or not with equal chance, was in: 1/2 is blind guessing.

        Where the two bounds on the sensitivity meet: (exp(epsilon) + delta) / (exp(epsilon) + 1).
        """
        return 1 - (1 - self.delta) / (1 + math.exp(min(self.epsilon, 700.0)))

    @property
    def largest_advantage(self) -> float:
        """Largest sensitivity less false positives: 2 accuracy - 1."""
        return 2 * self.largest_accuracy - 1

    def largest_posterior(self, prior: float = 0.5) -> float:
        """Probability to which a suspicion ``prior`` that a patient was in can rise by what left the center.

        Odds grow by at most exp(epsilon), but for outcomes that delta pays for: those that would raise the odds by
        twice as much have together a probability of at most 2 delta, because each of them counts at least half in delta.
        """
        odds = math.exp(min(self.epsilon, 700.0)) * prior
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
            f"nearly as likely with that patient's records as with empty ones (epsilon {self.epsilon:.3g}, delta "
            f"{self.delta:.2g}).",
            "Whoever knows all other patients and sees every update, and guesses whether one patient's records were "
            f"used, is right in at most {_share(self.largest_accuracy)} of cases; blind guessing is right in 50 %.",
            "If such an attack may name 1 % of the patients wrongly, it finds at most "
            f"{_share(self.largest_sensitivity(0.01))} of those whose records were used; blind guessing finds 1 %.",
            f"A suspicion of 50 % that a patient took part can become at most {_share(self.largest_posterior())}, but "
            f"for outcomes that happen with a probability of about {self.delta:.2g}.",
        ]


def _share(value: float) -> str:
    """Return a bound in per cent, rounded up, because it must not say less than it allows."""
    tenths = math.ceil(1000 * value - 1e-9)
    return f"{min(tenths, 1000) / 10:.1f} %"
