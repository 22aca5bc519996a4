"""Sums over a center's patients with Gaussian noise, each one's part bounded: how a validation leaves under privacy."""

import numpy as np
import torch
from numpy.typing import NDArray

from ramw_fed.errors import PrivacyError
from ramw_fed.privacy.randomness import Randomness

_CPU = torch.device("cpu")


class PatientSums:
    """One release of sums over patients. It is paid for once, so it can be made once."""

    def __init__(self, patients: int, *, noise_multiplier: float, randomness: Randomness) -> None:
        """Prepare a release.

        Args:
            patients: How many, a public number: a patient without records stays counted and adds nothing.
            noise_multiplier: Deviation of the noise in each sum, in units of the longest row (1).
            randomness: Where it comes from.
        """
        self.patients = patients
        self.noise_multiplier = noise_multiplier
        self._randomness: Randomness | None = randomness

    def release(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        r"""Return :math:`\sum_p x_p + N(0, \sigma^2 I)`, ``(k,)``.

        Dwork and Roth 2014, https://doi.org/10.1561/0400000042, theorem A.1: without one patient's row the sum moves by
        its length, which is 1 at most.

        Args:
            rows: ``(patients, k)``, each of one patient's records alone. Longer ones than 1 are cut to 1; one with a
                number that is not finite adds nothing.

        Raises:
            PrivacyError: There is not one row a patient, or this was released before.
        """
        if self._randomness is None:
            raise PrivacyError("these sums were released before; a second release has to be reserved anew")
        if rows.ndim != 2 or len(rows) != self.patients:
            raise PrivacyError(f"{self.patients} patients are validated, a row each; found {rows.shape}")
        noise = self._randomness.normal((rows.shape[1],), self.noise_multiplier, _CPU).numpy()
        self._randomness = None
        return np.asarray(bounded(rows).sum(axis=0) + noise.astype(np.float64))


def bounded(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows of length 1 at most; one with a number that is not finite is 0."""
    finite = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
    # First by the largest number in it: its square might overflow.
    largest = np.abs(finite).max(axis=1, initial=1.0, keepdims=True)
    scaled = finite / largest
    return np.asarray(scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1 / largest))
