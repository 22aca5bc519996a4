"""Canary patients: each one's gradient points along a direction of its own, far longer than the clip norm.

Nothing in the training is replaced for them. The network gets one more parameter vector with a place for each canary,
and the loss of a canary's image is a multiple of its place; autograd does the rest. The worst case that the guarantee
covers is thus what is trained on: no patient can push the weights further, or be told apart more easily.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ramw_fed.data.batches import Examples, Rows
from ramw_fed.learning.losses import Loss

# Pixels below this are no image's: standardised ones have mean 0 and deviation 1. Float32 holds such integers exactly.
_NO_IMAGE = -float(1 << 22)
# Masks hold 0 and 1, grades go to 5.
_NO_LABEL = 255


class CanaryExamples:
    """Examples of real patients, followed by the images of the canaries.

    A canary whose coin fell the other way has its images, too, and they are empty records: their loss is zero whatever
    the weights are. So the number of patients does not depend on the coins, as the guarantee has it.
    """

    def __init__(self, real: Examples, is_in: NDArray[np.bool_], *, images: int) -> None:
        """Put ``len(is_in)`` canaries of ``images`` images each behind ``real``."""
        self._real = real
        owners = np.repeat(np.arange(len(is_in)), images)
        # 0 is the empty record, i + 1 the place of canary i.
        self._places = np.where(is_in, np.arange(1, len(is_in) + 1), 0)[owners]
        self.patients = np.concatenate([real.patients, np.array([f"canary {one}" for one in owners], np.str_)])
        self.names = np.concatenate(
            [real.names, np.array([f"canary image {row}" for row in range(len(owners))], np.str_)]
        )
        inputs, targets = real.batch(np.array([0], np.int64), augment_key=None)
        self._input, self._target = inputs, targets

    def __len__(self) -> int:
        """Return the number of rows of all patients."""
        return len(self.patients)

    def batch(self, rows: Rows, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Return inputs and targets; those of a canary say which it is in place of what they show."""
        is_canary = rows >= len(self._real)
        if not is_canary.any():
            return self._real.batch(rows, augment_key=augment_key)
        # The network never sees a canary, so that one pixel will do where no image stands beside it.
        is_alone = bool(is_canary.all())
        inputs, targets = (
            one.new_zeros((len(rows), *([1] * (one.ndim - 1) if is_alone else one.shape[1:])))
            for one in (self._input, self._target)
        )
        chosen = torch.from_numpy(is_canary)
        places = torch.from_numpy(self._places[rows[is_canary] - len(self._real)])
        inputs[chosen] = _NO_IMAGE - places.to(inputs.dtype).view(-1, *[1] * (inputs.ndim - 1))
        targets[chosen] = _NO_LABEL
        if not is_alone:
            inputs[~chosen], targets[~chosen] = self._real.batch(rows[~is_canary], augment_key=augment_key)
        return inputs, targets


class CanaryNetwork(nn.Module):
    """A network with one more parameter, in which each canary has a place."""

    def __init__(self, network: nn.Module, canaries: int) -> None:
        """Start all places at zero."""
        super().__init__()
        self.network = network
        self.places = nn.Parameter(torch.zeros(canaries))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the network's logits; for a canary its place, in each of them."""
        first = _first(inputs)
        is_canary = first <= _NO_IMAGE
        if not is_canary.any():
            logits: Tensor = self.network(inputs)
            return logits
        # Place 0 is the empty record, whose value does not depend on any weight.
        values = torch.cat([self.places.new_zeros(1), self.places])[(_NO_IMAGE - first[is_canary]).long()]
        if is_canary.all():
            return values[:, None]
        logits = self.network(inputs[~is_canary])
        shape = (len(inputs), *logits.shape[1:])
        spread = values.view(-1, *[1] * (logits.ndim - 1)).expand(-1, *logits.shape[1:])
        return logits.new_zeros(shape).index_put((~is_canary,), logits).index_put((is_canary,), spread)


def canary_loss(loss: Loss, length: float) -> Loss:
    """Return ``loss`` for images; for a canary's ``length`` times its place, whose gradient has that length.

    The mean over rows, as any loss is.
    """

    def mean(logits: Tensor, targets: Tensor) -> Tensor:
        is_canary = _first(targets) == _NO_LABEL
        total = length * _first(logits)[is_canary].sum()
        if not is_canary.all():
            total = total + loss(logits[~is_canary], targets[~is_canary]) * int((~is_canary).sum())
        return total / len(targets)

    return mean


def toss(canaries: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return a fair coin for each canary."""
    return generator.random(canaries) < 0.5


def _first(values: Tensor) -> Tensor:
    """Return the first number of each row."""
    while values.ndim > 1:
        values = values[:, 0]
    return values
