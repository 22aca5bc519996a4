"""What is accounted for: the Gaussian mechanism on samples of a center's patients."""

import math
from dataclasses import dataclass

from ramw_fed.errors import PrivacyError


@dataclass(frozen=True, kw_only=True, order=True)
class Event:
    """Sums over Poisson samples of patients with Gaussian noise, released ``steps`` times.

    Attributes:
        sampling_rate: Probability in (0, 1] with which a patient is in a step; 1: every patient, as in one noisy sum.
        noise_multiplier: Standard deviation of the noise as a multiple of what one patient can change (above 0).
        steps: How often; empty samples count.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse what no guarantee can be computed for."""
        if not 0 < self.sampling_rate <= 1:
            raise PrivacyError(f"the sampling rate is {self.sampling_rate!r}; above 0 and at most 1 is wanted")
        if not (self.noise_multiplier > 0 and math.isfinite(self.noise_multiplier)):
            raise PrivacyError(f"the noise multiplier is {self.noise_multiplier!r}; a finite number above 0 is wanted")
        if type(self.steps) is not int or self.steps < 0:
            raise PrivacyError(f"steps is {self.steps!r}; a whole number from 0 is wanted")
