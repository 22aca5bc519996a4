"""One round of training at one center: batches to weights."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from ramw_fed.config import TrainingConfig
from ramw_fed.data.batches import Examples, Rows, balanced_batches, shuffled_batches
from ramw_fed.errors import ConfigError, RamwFedError
from ramw_fed.learning.corrections import Correction
from ramw_fed.learning.losses import Loss
from ramw_fed.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class TrainingLog:
    """What happened in a round.

    Attributes:
        steps: Steps of the optimizer.
        examples: Rows in one pass; every one was used in each.
        loss: Mean over the steps of the plain loss, without any correction.
    """

    steps: int
    examples: int
    loss: float


def pick_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: cuda is wanted where there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds no GPU here; use auto or cpu")
    if name == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it matrix products differ from run to run
    return torch.device(name)


def train_round(
    model: nn.Module,
    examples: Examples,
    loss: Loss,
    config: TrainingConfig,
    *,
    correction: Correction | None,
    key: tuple[int, str, int, str],
    round_number: int,
    device: torch.device,
    groups: NDArray[Any] | None = None,
) -> TrainingLog:
    """Train ``model`` in place for ``config.local_epochs`` passes, with an optimizer of its own.

    Args:
        model: On ``device``; its weights are the round's start.
        examples: At least one row.
        loss: (logits, targets) -> scalar.
        config: Knobs of the task.
        correction: Called on the gradients before each step.
        key: (seed, task, round, center), which decides the order of the rows and dropout.
        round_number: From 1; places this round on the learning rate's course over the whole federation.
        device: Where to compute.
        groups: ``(rows,)`` groups that take turns in the steps; None: each pass takes every row once.

    Raises:
        RamwFedError: The loss is no longer finite.
    """
    epochs = range((round_number - 1) * config.local_epochs, round_number * config.local_epochs)
    batches = [batch for epoch in epochs for batch in _pass(len(examples), groups, config.batch_size, epoch, key)]
    optimizer = _make_optimizer(model, config)
    if correction is not None:
        optimizer.register_step_pre_hook(lambda *_: correction())
    total = torch.zeros((), dtype=torch.float64, device=device)
    with reproducible(derive_seed(*key), device), channels_last(model):
        model.train()
        mean = _averaged(model, config.average) if config.average else None
        scaler = torch.amp.GradScaler(enabled=_half_type(device) == torch.float16)
        for step, (inputs, targets) in enumerate(_load(examples, batches, seed=key[0], device=device)):
            progress = (round_number - 1 + step / len(batches)) / config.num_rounds
            _set_learning_rate(optimizer, learning_rate(config, progress) * warm_up(config, step))
            total += _step(model, loss, optimizer, scaler, inputs, targets)
            if mean is not None:
                mean.update_parameters(model)
            if (step + 1) % 50 == 0 or step + 1 == len(batches):
                _check_finite(total, step + 1, key)
        if mean is not None:
            model.load_state_dict(mean.module.state_dict())
    return TrainingLog(steps=len(batches), examples=len(examples), loss=float(total) / len(batches))


def _pass(
    num_rows: int, groups: NDArray[Any] | None, batch_size: int, epoch: int, key: tuple[int, str, int, str]
) -> list[tuple[int, Rows]]:
    """Return the batches of one pass, each with the number that decides its augmentation."""
    if groups is None:
        return [(epoch, rows) for rows in shuffled_batches(num_rows, batch_size, *key, epoch)]
    batches = balanced_batches(groups, batch_size, *key, epoch)
    # A row that comes again in a pass must not look the same each time.
    return [(epoch * len(batches) + place, rows) for place, rows in enumerate(batches)]


def _step(
    model: nn.Module,
    loss: Loss,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    inputs: Tensor,
    targets: Tensor,
) -> Tensor:
    half = _half_type(inputs.device)
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(inputs.device.type, dtype=half, enabled=half is not None):
        logits = model(inputs)
    value = loss(logits.float(), targets)
    scaler.scale(value).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(optimizer)  # a correction is added to the true gradients
    scaler.step(optimizer)
    scaler.update()
    return value.detach()


def _make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    params = [param for param in model.parameters() if param.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(params, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.AdamW(params, lr=config.learning_rate, weight_decay=config.weight_decay)


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """Return the rate when a share ``progress`` of all rounds is done: half a cosine from first to final."""
    low = config.final_learning_rate
    return config.learning_rate * (low + (1 - low) * (1 + math.cos(math.pi * progress)) / 2)


def warm_up(config: TrainingConfig, step: int) -> float:
    """Return the share of the rate that ``step`` (from 0) of a round takes.

    A new Adam has no average yet: its first steps have full length along single batches (Liu et al. 2020,
    https://arxiv.org/abs/1908.03265), and in a federation every round begins with them.
    """
    return min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0


def _set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """The round's batches by number; each is a function of its key, whichever process makes it."""

    def __init__(self, examples: Examples, batches: list[tuple[int, Rows]], seed: int) -> None:
        self.examples, self.batches, self.seed = examples, batches, seed

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        epoch, rows = self.batches[index]
        return self.examples.batch(rows, augment_key=(self.seed, epoch))


def _load(
    examples: Examples, batches: list[tuple[int, Rows]], *, seed: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the batches on ``device``; where that is a GPU, other processes prepare them."""
    is_gpu = device.type == "cuda"
    loader = DataLoader(
        _Batches(examples, batches, seed),
        batch_size=None,
        num_workers=4 if is_gpu else 0,
        pin_memory=is_gpu,
        generator=torch.Generator(),  # else the loader draws from the global generator
    )
    for inputs, targets in loader:
        layout = torch.channels_last if inputs.ndim == 4 else torch.preserve_format
        placed = inputs.to(device, non_blocking=is_gpu, memory_format=layout)
        yield placed, targets.to(device, non_blocking=is_gpu)


def _half_type(device: torch.device) -> torch.dtype | None:
    """Mixed precision on a GPU only: on processors its gain depends on the model, and equal bytes matter more."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


@contextmanager
def reproducible(seed: int, device: torch.device) -> Iterator[None]:
    """One torch thread (two give other weights), seeded generators, deterministic algorithms; all restored after."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        torch.set_num_threads(threads)


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Lay the weights out as convolutions want them (1.0 to 1.6 times as fast), and put them back after."""
    model.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)


def _averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Keep a moving average of weights and buffers; its decay grows from .1, so that the start is soon forgotten."""

    def average(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        if not old.dtype.is_floating_point:
            return new
        weight = min(decay, (1 + float(count)) / (10 + float(count)))
        return old * weight + new * (1 - weight)

    return AveragedModel(model, avg_fn=average, use_buffers=True)


def _check_finite(total: Tensor, steps: int, key: tuple[int, str, int, str]) -> None:
    if not math.isfinite(float(total)):
        raise RamwFedError(
            f"the loss of {key[1]} in round {key[2]} is not finite within the first {steps} steps; "
            "lower the learning-rate, and look for bad images with `ramw-fed cohort check`"
        )
