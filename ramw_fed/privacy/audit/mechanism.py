"""The product's training of one center, as the audit drives it: examples and claimed noise to released weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ramw_fed.config import TrainingConfig
from ramw_fed.data.batches import Examples, Rows
from ramw_fed.learning.corrections import Correction
from ramw_fed.learning.losses import Loss
from ramw_fed.learning.training import Private, train_round
from ramw_fed.privacy.audit.canaries import CanaryExamples, CanaryNetwork, canary_loss
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.randomness import from_environment
from ramw_fed.privacy.workload import Workload, patient_steps

_CPU = torch.device("cpu")
# How much longer than the clip norm a canary's gradient is.
_TIMES_CLIP = 1000.0


PLAIN = TrainingConfig(
    batch_size=16,
    optimizer="sgd",
    learning_rate=1.0,
    final_learning_rate=1.0,
    warmup_steps=0,
    weight_decay=0.0,
    augmentation="none",
    norm="group",
    num_rounds=1,
)
"""Steps that move the weights by minus their noisy gradient, so that it can be read from them."""


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """What one round does to a center's patients.

    Attributes:
        sampling_rate: Probability with which a patient is in a step.
        steps: Of the round.
        noise_multiplier: Deviation of the noise in units of the clip norm.
        clip_norm: Length to which a patient's gradient is cut.
    """

    sampling_rate: float
    steps: int
    noise_multiplier: float
    clip_norm: float

    def event(self) -> Event:
        """Return what the round is accounted as."""
        return Event(sampling_rate=self.sampling_rate, noise_multiplier=self.noise_multiplier, steps=self.steps)


Protect = Callable[[NDArray[np.str_], Mechanism], Private]
"""(patient of each row, mechanism) -> what protects a round: the product's :func:`protect`, or what a test broke."""


def protect(patients: NDArray[np.str_], mechanism: Mechanism) -> Private:
    """Return what protects a round in the product, with the randomness that it has in use."""
    drawn = Workload(
        patients=len(np.unique(patients)), sampling_rate=mechanism.sampling_rate, steps=mechanism.steps, rounds=1
    )
    return patient_steps(
        drawn,
        replace(PLAIN, clip_norm=mechanism.clip_norm),
        patients,
        noise_multiplier=mechanism.noise_multiplier,
        randomness=from_environment("audit"),
    )


class Blank:
    """Examples of images that show nothing: company for canaries where no image is wanted."""

    def __init__(self, patients: Sequence[str] = ("nobody",)) -> None:
        """Give each of ``patients`` an image, in this order; one may stand there several times."""
        self.patients = np.array(patients, np.str_)
        self.names = np.array([f"image {row}" for row in range(len(patients))], np.str_)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.patients)

    def batch(self, rows: Rows, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Return ``(rows, 1, 1, 1)`` zeros and ``(rows,)`` zeros."""
        return torch.zeros(len(rows), 1, 1, 1), torch.zeros(len(rows))


def blank_network(places: int) -> CanaryNetwork:
    """Return a network of canaries' places and one weight beside them."""
    return CanaryNetwork(nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False)), places)


def blank_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return a loss that no weight changes."""
    return (logits.flatten() * 0 - targets).mean()


def train(
    model: nn.Module,
    examples: Examples,
    loss: Loss,
    config: TrainingConfig,
    private: Private | None,
    *,
    round_number: int = 1,
    correction: Correction | None = None,
    groups: NDArray[np.str_] | None = None,
) -> None:
    """Train for a round as a center does."""
    train_round(
        model,
        examples,
        loss,
        config,
        correction=correction,
        key=(0, "audit", round_number, "audit"),
        round_number=round_number,
        device=_CPU,
        groups=groups,
        private=private,
    )


def noise_of_a_step(mechanism: Mechanism, protect: Protect, *, places: int) -> NDArray[np.float64]:
    """Return what a step adds up over patients who all have empty records, ``(places,)``: noise and nothing else."""
    network = blank_network(places)
    examples = CanaryExamples(Blank(), np.zeros(2, np.bool_), images=1)
    train(network, examples, canary_loss(blank_loss, 1.0), PLAIN, protect(examples.patients, mechanism))
    return -network.places.detach().numpy().astype(np.float64) * len(np.unique(examples.patients))


def canary_scores(
    network: nn.Module,
    real: Examples,
    loss: Loss,
    config: TrainingConfig,
    mechanism: Mechanism,
    is_in: NDArray[np.bool_],
    *,
    images: int,
    rounds: int,
    protect: Protect,
) -> NDArray[np.float64]:
    """Return how far the weights were moved against each canary's gradient, ``(canaries,)``.

    Args:
        network: Of the product; trained in place.
        real: Examples of patients beside whom the canaries stand.
        loss: Of the real examples.
        config: Knobs of the training.
        mechanism: Of one round.
        is_in: ``(canaries,)`` how the coins fell.
        images: Of each canary; each one alone is far longer than the clip norm.
        rounds: One after the other, each with a new optimizer and new protection, as centers have them.
        protect: What protects a round.
    """
    examples = CanaryExamples(real, is_in, images=images)
    model = CanaryNetwork(network, len(is_in))
    with_canaries = canary_loss(loss, _TIMES_CLIP * mechanism.clip_norm)
    for round_number in range(1, rounds + 1):
        private = protect(examples.patients, mechanism)
        train(model, examples, with_canaries, replace(config, num_rounds=rounds), private, round_number=round_number)
    return -model.places.detach().numpy().astype(np.float64)
