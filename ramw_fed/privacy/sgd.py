"""DP-SGD whose unit is the patient: one backward a patient, clipped, summed; noise and step by Opacus' optimizer.

Abadi et al. 2016, algorithm 1, https://arxiv.org/abs/1607.00133, with a patient's records in place of an example. No
gradient of a patient outlives the next one's, and nothing hooks into layers: any network without batch statistics goes.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.grad_sample import AbstractGradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ramw_fed.data.batches import Rows
from ramw_fed.errors import PrivacyError
from ramw_fed.learning.training import Part
from ramw_fed.privacy.randomness import Randomness

# Rounding a clipped gradient to float32 may lengthen it by 2^-24 of itself; the clip leaves room for that.
_ROOM = 1 - 2.0**-22


class PatientSteps:
    """The steps of one round at one center, as ``learning.training.Private``.

    A patient's gradient is that of the sum of the losses over the patient's rows. A step's is the sum of the patients'
    gradients, each clipped to ``clip_norm``, plus normal noise of standard deviation ``noise_multiplier * clip_norm``,
    over the expected number of patients. A gradient that is not finite counts as zero.
    """

    def __init__(
        self,
        patients: NDArray[np.str_],
        *,
        sampling_rate: float,
        steps: int,
        noise_multiplier: float,
        clip_norm: float,
        randomness: Randomness,
        rows_at_once: int,
    ) -> None:
        """Group the rows by patient.

        Args:
            patients: ``(rows,)`` whose each row is.
            sampling_rate: Probability in (0, 1] with which a patient is in a step.
            steps: Of the round, at least 1; empty ones count.
            noise_multiplier: At least 0; 0 protects nobody, and is for tests.
            clip_norm: Above 0; infinity only without noise.
            randomness: Of the samples and of the noise.
            rows_at_once: Rows of a patient in one part, at least 1: what fits the memory.

        Raises:
            PrivacyError: A row is nobody's, or a number is out of its range.
        """
        _check_numbers(sampling_rate, steps, noise_multiplier, clip_norm, rows_at_once)
        self._rows = _rows_of(patients)
        self._patients = patients
        self._sampling_rate, self._steps = sampling_rate, steps
        self._noise_multiplier, self._clip_norm = noise_multiplier, clip_norm
        self._randomness, self._rows_at_once = randomness, rows_at_once
        self._optimizer: NoisyOptimizer | None = None
        self._buffers: list[tuple[str, Tensor, Tensor]] = []

    @property
    def steps_taken(self) -> int:
        """How often noise was added and the weights moved."""
        return 0 if self._optimizer is None else self._optimizer.steps_taken

    @property
    def expected_patients(self) -> float:
        """Patients in a step on average: what its sum is divided by."""
        return self._sampling_rate * len(self._rows)

    def draw(self, patients: NDArray[np.str_], round_number: int) -> list[list[Part]]:
        """Return the parts of each step: of every patient independently with the sampling rate."""
        if not np.array_equal(patients, self._patients):
            raise PrivacyError("the rows to be trained on are not those whose patients are protected; name them anew")
        first = (round_number - 1) * self._steps
        return [self._draw_step(first + step) for step in range(self._steps)]

    def _draw_step(self, augmentation: int) -> list[Part]:
        is_drawn = self._randomness.bernoulli(len(self._rows), self._sampling_rate)
        return [
            Part(
                augmentation=augmentation,
                rows=rows[start : start + self._rows_at_once],
                ends_patient=start + self._rows_at_once >= len(rows),
            )
            for rows, drawn in zip(self._rows, is_drawn, strict=True)
            if drawn
            for start in range(0, len(rows), self._rows_at_once)
        ]

    def wrap(self, model: nn.Module, optimizer: Optimizer) -> Optimizer:
        """Return the optimizer that adds noise before ``optimizer`` steps; its hooks see the noisy gradients.

        Raises:
            PrivacyError: A layer mixes patients or keeps statistics of them; or noise is added already.
        """
        check_network(model)
        if self._optimizer is not None or isinstance(optimizer, DPOptimizer):
            raise PrivacyError("noise is added to this round already; one PatientSteps protects one plain optimizer")
        self._buffers = [(name, buffer, buffer.clone()) for name, buffer in model.named_buffers()]
        self._optimizer = NoisyOptimizer(
            optimizer,
            model=model,
            noise_multiplier=self._noise_multiplier,
            clip_norm=self._clip_norm,
            expected_patients=self.expected_patients,
            most_steps=self._steps,
            randomness=self._randomness,
        )
        return self._optimizer

    def take(self) -> None:
        """Clip the gradient in ``.grad``, one patient's, add it to the step's sum, and clear it."""
        if self._optimizer is None:
            raise PrivacyError("a patient's gradient is taken before the optimizer is wrapped")
        self._optimizer.take()

    def finish(self) -> None:
        """Free what the round held.

        Raises:
            PrivacyError: Training changed a buffer, which no noise covers; or other steps were taken than accounted.
        """
        changed = [name for name, buffer, before in self._buffers if not torch.equal(buffer, before)]
        if changed:
            raise PrivacyError(
                f"training changed the buffers {', '.join(changed)}, to which no noise is added; take layers that "
                "keep no statistics, such as group normalisation"
            )
        if self.steps_taken != self._steps:
            raise PrivacyError(f"{self.steps_taken} steps were taken, and {self._steps} are accounted for")
        if self._optimizer is not None:
            self._optimizer.free()


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimizer on a sum that is clipped already, with noise of our own stream."""

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        model: nn.Module,
        noise_multiplier: float,
        clip_norm: float,
        expected_patients: float,
        most_steps: int,
        randomness: Randomness,
    ) -> None:
        """Lay out gradient and sum flat, every parameter with its place in both: one operation takes all of them."""
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=clip_norm,
            expected_batch_size=expected_patients,
        )
        self.steps_taken = 0
        self._most_steps, self._randomness = most_steps, randomness
        self._held: list[nn.Parameter] = list(self.params)
        _check_parameters(model, self._held)
        size = sum(param.numel() for param in self._held)
        self._gradient = torch.zeros(size, dtype=self._held[0].dtype, device=self._held[0].device)
        self._gradients = _views(self._gradient, self._held)
        self._sum = torch.zeros_like(self._gradient)
        self._is_spent = True

    @property
    def grad_samples(self) -> list[Tensor]:
        """What patients' gradients are added up in: Opacus adds no noise where this is empty."""
        return [self._sum]

    @property
    def accumulated_iterations(self) -> int:
        """One: the sum is of one sample of patients."""
        return 1

    @torch.no_grad()
    def take(self) -> None:
        """Add the gradients in ``.grad``, scaled to at most the clip norm together, to the sum; clear them."""
        self._refuse_spent()
        if any(param.grad is not own for param, own in zip(self._held, self._gradients, strict=True)):
            raise PrivacyError("a parameter's gradient was put elsewhere than where patients are added up; leave .grad")
        norm = float(torch.linalg.vector_norm(self._gradient, dtype=torch.float64))
        factor = clip_factor(norm, self.max_grad_norm)
        if factor > 0:  # zero times infinity is no number
            self._sum.add_(self._gradient, alpha=factor)
        self._gradient.zero_()

    def clip_and_accumulate(self) -> None:
        """Do nothing: :meth:`take` has done it."""

    @torch.no_grad()
    def add_noise(self) -> None:
        """Put the sum with noise into ``.grad``.

        Raises:
            PrivacyError: More steps are taken than were accounted for.
        """
        if self.steps_taken >= self._most_steps:
            raise PrivacyError(f"a step more than the {self._most_steps} that are accounted for was asked for")
        self._refuse_spent()
        self._is_spent = True
        self.steps_taken += 1
        if self.noise_multiplier > 0:
            std = self.noise_multiplier * self.max_grad_norm
            self._sum += self._randomness.normal(self._sum.shape, std, self._sum.device)
        self._gradient.copy_(self._sum)

    def scale_grad(self) -> None:
        """Divide the noisy sum by the expected number of patients, which is no secret."""
        self._gradient /= self.expected_batch_size

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Begin a step: no patient is in its sum."""
        self._sum.zero_()
        self._gradient.zero_()
        for param, own in zip(self._held, self._gradients, strict=True):
            param.grad = own
        self._is_spent = False

    def free(self) -> None:
        """Leave nothing at the parameters."""
        for param in self._held:
            param.grad = None
            vars(param).pop("summed_grad", None)

    def _refuse_spent(self) -> None:
        if self._is_spent:
            raise PrivacyError("the sum holds an earlier step's patients; call zero_grad before each step")


def clip_factor(norm: float, clip_norm: float) -> float:
    """Return what a patient's gradient of this norm is multiplied by: at most 1; 0 where the norm is not finite.

    >>> clip_factor(0.0, 1.0), clip_factor(2.0, 9.0), round(clip_factor(8.0, 2.0), 6), clip_factor(math.nan, 1.0)
    (1.0, 1.0, 0.25, 0.0)
    """
    if not math.isfinite(norm):
        return 0.0
    return 1.0 if norm <= clip_norm else _ROOM * clip_norm / norm


def check_network(model: nn.Module) -> None:
    """Refuse a network that keeps statistics of patients, also where it is frozen, or that Opacus has hooked.

    Opacus' own validator passes batch normalisation whose parameters are frozen, and refuses attention and recurrence,
    which only its hooks cannot take.

    Raises:
        PrivacyError: Such a layer is there; all are named.
    """
    if isinstance(model, AbstractGradSampleModule):
        raise PrivacyError("Opacus' hooks keep a gradient for every image; hand in the plain network")
    found = [name or type(layer).__name__ for name, layer in model.named_modules() if _has_statistics(layer)]
    if found:
        raise PrivacyError(
            f"the layers {', '.join(found)} keep statistics of patients, to which no noise is added; set norm = 'group'"
        )


def _has_statistics(layer: nn.Module) -> bool:
    running = (getattr(layer, name, None) for name in ("running_mean", "running_var"))
    return isinstance(layer, _BatchNorm) or any(statistic is not None for statistic in running)


def _check_parameters(model: nn.Module, held: Sequence[nn.Parameter]) -> None:
    trainable = {id(param) for param in model.parameters() if param.requires_grad}
    if not held or trainable != {id(param) for param in held}:
        raise PrivacyError(
            "the optimizer must hold all trainable parameters of the network, at least one, and no other"
        )
    if len({(param.dtype, param.device) for param in held}) > 1:
        raise PrivacyError("the trainable parameters must share one type and one device")


def _views(flat: Tensor, params: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return a part of ``flat`` for each parameter, in the parameter's own layout: others are added more slowly."""
    starts = np.cumsum([0, *(param.numel() for param in params)])
    return [
        flat.as_strided(param.shape, param.stride(), int(start))
        for start, param in zip(starts[:-1], params, strict=True)
    ]


def _rows_of(patients: NDArray[np.str_]) -> list[Rows]:
    """Return the rows of each patient, sorted by name."""
    if len(patients) == 0 or (patients == "").any():
        raise PrivacyError("every row must be a patient's, and there must be one; look at the cohort's patient column")
    _, owners, counts = np.unique(patients, return_inverse=True, return_counts=True)
    order = np.argsort(owners, kind="stable").astype(np.int64)
    return np.split(order, np.cumsum(counts)[:-1])


def _check_numbers(
    sampling_rate: float, steps: int, noise_multiplier: float, clip_norm: float, rows_at_once: int
) -> None:
    if not 0 < sampling_rate <= 1:
        raise PrivacyError(f"the sampling rate is {sampling_rate!r}; above 0 and at most 1 is wanted")
    if steps < 1 or rows_at_once < 1:
        raise PrivacyError(f"steps is {steps!r} and rows at once {rows_at_once!r}; at least 1 is wanted of both")
    if not (noise_multiplier >= 0 and math.isfinite(noise_multiplier)):
        raise PrivacyError(f"the noise multiplier is {noise_multiplier!r}; a finite number from 0 is wanted")
    if not clip_norm > 0 or (math.isinf(clip_norm) and noise_multiplier > 0):
        raise PrivacyError(f"the clip norm is {clip_norm!r}; a number above 0 is wanted, finite where there is noise")
