"""Time and memory of a step that protects patients, beside the plain step and Opacus' own ways.

Usage: ``python benchmarks/private_step.py [--turns 7] [--steps 4]``.

Default networks of both tasks with group normalisation, at the default sizes, on one thread. Every arm sees the same
rows and takes AdamW's step; all but "plain" clip and add noise. Rows are 22 radiographs of 8 patients (1, 2, 2, 3, 3,
3, 4 and 4 of them: 2.75 a patient), for erosions with 6 joints each; in "one each" every radiograph is another
patient's. Plain and own arms go through ``train_round``, from rows that lie in memory unvaried, as reading costs all
the same. The plain step takes all rows at once; "plain, by 4" (for joints, by 16) takes the same rows in steps of the
default batch size. Opacus' arms clip each row, which protects a radiograph or a joint and no patient.

Time is processor time of a step, arms taking turns in one process; the least of all turns counts, the spread is
printed. Memory is the peak of resident memory while two rounds run, in a fresh process for each arm, above what the
process held before (network and rows). Targets: at 2.75 radiographs a patient 1.5 times the plain step, and 1.2 times
its memory.
"""

import argparse
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy reads it

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn

from ramw_fed.config import ErosionConfig, SegmentationConfig, TrainingConfig
from ramw_fed.learning.losses import Loss, cross_entropy, dice_bce, ClassCounts
from ramw_fed.learning.models import erosion_network, segmentation_network
from ramw_fed.learning.training import channels_last, reproducible, train_round
from ramw_fed.privacy.randomness import secure
from ramw_fed.privacy.sgd import PatientSteps

CPU = torch.device("cpu")
RADIOGRAPHS = (1, 2, 2, 3, 3, 3, 4, 4)
BONES, JOINTS = 14, 6
NOISE, CLIP = 1.0, 1.0


class InMemory:
    """Rows as tensors, and whose they are."""

    def __init__(self, inputs: Tensor, targets: Tensor, patients: NDArray[np.str_]) -> None:
        self.inputs, self.targets, self.patients, self.names = inputs, targets, patients, patients

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: NDArray[np.int64], *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        return self.inputs[rows], self.targets[rows]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One task's network and rows; ``rows_each`` rows of a radiograph."""

    network: nn.Module
    examples: InMemory
    loss: Loss
    config: TrainingConfig
    rows_each: int


def segmentation() -> Job:
    config = SegmentationConfig(norm="group")
    inputs = torch.randn(sum(RADIOGRAPHS), 1, config.image_size, config.image_size)
    targets = (torch.rand(len(inputs), BONES, config.image_size, config.image_size) < 0.05).to(torch.uint8)
    examples = InMemory(inputs, targets, owners(RADIOGRAPHS))
    return Job(network=segmentation_network(BONES, config), examples=examples, loss=dice_bce, config=config, rows_each=1)


def erosion() -> Job:
    config = ErosionConfig(norm="group")
    rows = JOINTS * sum(RADIOGRAPHS)
    inputs = torch.randn(rows, 1 + JOINTS, config.crop_size, config.crop_size)
    targets = (torch.rand(rows) < 0.12).float()
    loss = cross_entropy(ClassCounts(negatives=rows, positives=rows), config)
    examples = InMemory(inputs, targets, owners([JOINTS * count for count in RADIOGRAPHS]))
    return Job(
        network=erosion_network(JOINTS, config), examples=examples, loss=loss, config=config, rows_each=JOINTS
    )


def owners(rows: "list[int] | tuple[int, ...]") -> NDArray[np.str_]:
    return np.array([str(patient) for patient, count in enumerate(rows) for _ in range(count)], np.str_)


def plain(job: Job, steps: int, batch_size: int | None = None) -> None:
    """Train as without privacy."""
    _train(job, replace(job.config, batch_size=batch_size or len(job.examples), local_epochs=steps), None)


def by_patient(job: Job, steps: int) -> None:
    """Train with the product's own steps, every patient in each."""
    private = PatientSteps(
        job.examples.patients,
        sampling_rate=1.0,
        steps=steps,
        noise_multiplier=NOISE,
        clip_norm=CLIP,
        randomness=secure(),
        rows_at_once=1 << 20,
    )
    _train(job, replace(job.config, local_epochs=steps), private)


def one_each(job: Job, steps: int) -> None:
    """Train so, as if every radiograph were another patient's."""
    examples = job.examples
    patients = owners([job.rows_each] * (len(examples) // job.rows_each))
    by_patient(replace(job, examples=InMemory(examples.inputs, examples.targets, patients)), steps)


def _train(job: Job, config: TrainingConfig, private: PatientSteps | None) -> None:
    train_round(
        job.network,
        job.examples,
        job.loss,
        replace(config, num_rounds=1),
        correction=None,
        key=(0, "benchmark", 1, "HU"),
        round_number=1,
        device=CPU,
        private=private,
    )
