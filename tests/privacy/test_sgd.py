"""Patient-level DP-SGD on the path on which the product trains.

Wanted numbers are worked by hand, come from Opacus' own per-example gradients, or from plain training.
"""

import itertools
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from ramw_fed.config import TrainingConfig
from ramw_fed.errors import PrivacyError
from ramw_fed.learning.corrections import proximal
from ramw_fed.learning.training import TrainingLog, train_round
from ramw_fed.privacy.randomness import seeded
from ramw_fed.privacy.sgd import NoisyOptimizer, PatientSteps, check_network, clip_factor

CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    optimizer="sgd", learning_rate=1.0, final_learning_rate=1.0, weight_decay=0.0, num_rounds=1, local_epochs=1
)


class Table:
    """Images and a target each; remembers what it was asked for."""

    def __init__(self, inputs: Tensor, targets: Tensor, patients: Sequence[str]) -> None:
        self.inputs, self.targets = inputs, targets
        self.patients = np.array(patients, np.str_)
        self.names = np.array([f"image {row} of {patient}" for row, patient in enumerate(patients)], np.str_)
        self.asked: list[tuple[list[int], tuple[int, int] | None]] = []

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: np.ndarray, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        self.asked.append((rows.tolist(), augment_key))
        return self.inputs[rows], self.targets[rows]


def images_of(*counts: int, dtype: torch.dtype = torch.float64) -> Table:
    """Return random images ``(1, 6, 6)``, so many of each patient, with targets that have nothing to do with them."""
    generator = torch.Generator().manual_seed(len(counts))
    inputs = torch.randn(sum(counts), 1, 6, 6, generator=generator, dtype=dtype)
    targets = (torch.arange(sum(counts)) % 2).to(dtype)
    return Table(inputs, targets, [f"p{place:03}" for place, count in enumerate(counts) for _ in range(count)])


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1)
        ).to(dtype)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.flatten(), targets.to(logits.dtype))


@contextmanager
def in_float64() -> Iterator[None]:
    """Let ``train_round`` hand logits to the loss as they are: it rounds them to float32, where equality ends at 1e-7."""
    kept = Tensor.float
    Tensor.float = lambda tensor: tensor  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Tensor.float = kept  # type: ignore[method-assign]


def protect(examples: Table, **knobs: Any) -> PatientSteps:
    chosen = {
        "sampling_rate": 1.0,
        "steps": 1,
        "noise_multiplier": 0.0,
        "clip_norm": float("inf"),
        "randomness": seeded("test"),
        "rows_at_once": 1000,
    }
    return PatientSteps(examples.patients, **{**chosen, **knobs})


def train(
    model: nn.Module,
    examples: Table,
    private: PatientSteps | None,
    config: TrainingConfig = CONFIG,
    *,
    mu: float = 0.0,
    round_number: int = 1,
    loss: Any = cross_entropy,
) -> TrainingLog:
    params = [param for param in model.parameters() if param.requires_grad]
    with in_float64():
        return train_round(
            model,
            examples,
            loss,
            config,
            correction=proximal(params, mu) if mu else None,
            key=(0, "squares", round_number, "HU"),
            round_number=round_number,
            device=CPU,
            private=private,
        )


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([param.detach().flatten() for param in model.parameters()])


def step_of(examples: Table, model: nn.Module | None = None, **knobs: Any) -> Tensor:
    """Return what one step of rate 1 took from the weights, times the expected patients: the sum with its noise."""
    model = network(examples.inputs.dtype) if model is None else model
    before = weights_of(model).clone()
    private = protect(examples, **knobs)
    train(model, examples, private)
    return (before - weights_of(model)) * private.expected_patients


def gradient_of(examples: Table, rows: Sequence[int], model: nn.Module | None = None) -> Tensor:
    """Return by autograd alone the gradient of the sum of the rows' losses."""
    model = network(examples.inputs.dtype) if model is None else model
    losses = [cross_entropy(model(examples.inputs[[row]]), examples.targets[[row]]) for row in rows]
    gradients = torch.autograd.grad(torch.stack(losses).sum(), list(model.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize(("count", "rows_at_once"), [(1, 1000), (2, 1000), (40, 1000), (40, 7), (40, 1)])
def test_a_patients_contribution_is_at_most_the_clip_norm_however_many_images_there_are(
    count: int, rows_at_once: int
) -> None:
    examples = images_of(count)
    whole = gradient_of(examples, range(count))
    assert float(whole.norm()) > 0.5
    clipped = step_of(examples, clip_norm=0.01, rows_at_once=rows_at_once)
    assert float(clipped.norm()) <= 0.01 * (1 + 1e-9)
    torch.testing.assert_close(clipped, 0.01 * whole / whole.norm(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(step_of(examples, rows_at_once=rows_at_once), whole)  # unclipped, nothing is lost
