"""One round of training at one center: batches to weights."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from ramw_fed.config import TrainingConfig
from ramw_fed.data.batches import Examples, Rows, balanced_batches, shuffled_batches
from ramw_fed.errors import ConfigError, PrivacyError, RamwFedError
from ramw_fed.learning.corrections import Correction
from ramw_fed.learning.freezing import train_head
from ramw_fed.learning.losses import Loss
from ramw_fed.seeding import derive_seed

_memory: Any = torch.utils.deterministic  # torch's own types do not know what it holds


@dataclass(frozen=True, kw_only=True)
class TrainingLog:
    """What happened in a round.

    Attributes:
        steps: Steps of the optimizer.
        examples: Rows in one pass; every one was used in each.
        loss: Mean over the steps of the plain loss, without any correction; None where patients are protected: their
            loss would be a release that no noise covers.
    """

    steps: int
    examples: int
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows that go through the network at once; a step is one of them, or the parts of its patients in turn.

    Attributes:
        augmentation: Number that decides how the rows are varied.
        rows: At least one.
        ends_patient: Whether the gradient since the patient's first part is now complete.
    """

    augmentation: int
    rows: Rows
    ends_patient: bool = False


class Private(Protocol):
    """What protects the patients of one round: which of them a step uses, and what becomes of each one's gradient."""

    def draw(self, patients: NDArray[np.str_], round_number: int) -> list[list[Part]]:
        """Return the parts of each step, one patient after the other; a step may have none.

        ``patients`` is ``(rows,)``, whose each row is.
        """
        ...

    def wrap(self, model: nn.Module, optimizer: Optimizer) -> Optimizer:
        """Return an optimizer that adds noise to the sum of what was taken and then steps ``optimizer``."""
        ...

    def take(self) -> None:
        """Add the parameters' gradients, which are one patient's, to the step's sum, and clear them."""
        ...

    def finish(self) -> None:
        """Refuse a round that did not go as it was accounted; free what it held."""
        ...


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
    private: Private | None = None,
) -> TrainingLog:
    """Train ``model`` in place for ``config.local_epochs`` passes, with an optimizer of its own.

    Args:
        model: On ``device``; its weights are the round's start.
        examples: At least one row.
        loss: (logits, targets) -> scalar, a mean over rows.
        config: Knobs of the task.
        correction: Called on the gradients before each step; after the noise, where there is any.
        key: (seed, task, round, center), which decides the order of the rows and dropout.
        round_number: From 1; places this round on the learning rate's course over the whole federation.
        device: Where to compute.
        groups: ``(rows,)`` groups that take turns in the steps; None: each pass takes every row once.
        private: Protects the patients, and says in place of passes and batches which of them each step uses.

    Raises:
        RamwFedError: The loss is no longer finite; never where ``private`` is given, as that would tell of a patient.
        PrivacyError: Groups take turns and ``private`` draws patients at random, which cannot both be.
    """
    if private is None:
        steps = _passes(len(examples), groups, config, key, round_number)
    else:
        steps = private.draw(_ungrouped(examples, groups), round_number)
    optimizer = _make_optimizer(model, config)
    if correction is not None:
        optimizer.register_step_pre_hook(lambda *_: correction())
    total = torch.zeros((), dtype=torch.float64, device=device)
    with reproducible(derive_seed(*key), device), channels_last(model):
        train_head(model) if config.trainable == "head" else model.train()
        mean = _averaged(model, config.average) if config.average else None
        if private is not None:
            optimizer = private.wrap(model, optimizer)
        objective = _Objective(model=model, loss=loss, half=_half_type(device, is_private=private is not None))
        scaler = torch.amp.GradScaler(enabled=objective.half == torch.float16)
        batches = _load(examples, [part for parts in steps for part in parts], seed=key[0], device=device)
        for step, parts in enumerate(steps):
            progress = (round_number - 1 + step / len(steps)) / config.num_rounds
            _set_learning_rate(optimizer, learning_rate(config, progress) * warm_up(config, step))
            if private is None:
                total += _step(objective, optimizer, scaler, *next(batches))
            else:
                seeds = [derive_seed(*key, step, str(examples.names[part.rows[0]])) for part in parts]
                _private_step(objective, optimizer, private, zip(parts, seeds, batches, strict=False))
            if mean is not None:
                mean.update_parameters(model)
            if private is None and ((step + 1) % 50 == 0 or step + 1 == len(steps)):
                _check_finite(total, step + 1, key)
        if private is not None:
            private.finish()
        if mean is not None:
            model.load_state_dict(mean.module.state_dict())
    plain_loss = float(total) / len(steps) if private is None else None
    return TrainingLog(steps=len(steps), examples=len(examples), loss=plain_loss)


def _passes(
    num_rows: int,
    groups: NDArray[Any] | None,
    config: TrainingConfig,
    key: tuple[int, str, int, str],
    round_number: int,
) -> list[list[Part]]:
    """Return the steps of a round's passes, each of one part."""
    epochs = range((round_number - 1) * config.local_epochs, round_number * config.local_epochs)
    return [[part] for epoch in epochs for part in _pass(num_rows, groups, config.batch_size, epoch, key)]


def _pass(
    num_rows: int, groups: NDArray[Any] | None, batch_size: int, epoch: int, key: tuple[int, str, int, str]
) -> list[Part]:
    if groups is None:
        batches = shuffled_batches(num_rows, batch_size, *key, epoch)
        return [Part(augmentation=epoch, rows=rows) for rows in batches]
    batches = balanced_batches(groups, batch_size, *key, epoch)
    # A row that comes again in a pass must not look the same each time.
    return [Part(augmentation=epoch * len(batches) + place, rows=rows) for place, rows in enumerate(batches)]


def _ungrouped(examples: Examples, groups: NDArray[Any] | None) -> NDArray[np.str_]:
    if groups is not None:
        raise PrivacyError(
            "rows take turns by class or patient, and privacy is accounted for patients that are drawn at random; "
            "set sampling = 'shuffled'"
        )
    return examples.patients


@dataclass(frozen=True, kw_only=True)
class _Objective:
    """What is made smaller, in the precision of the device."""

    model: nn.Module
    loss: Loss
    half: torch.dtype | None

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, dtype=self.half, enabled=self.half is not None):
            logits = self.model(inputs)
        return self.loss(logits.float(), targets)


def _step(
    objective: _Objective, optimizer: Optimizer, scaler: torch.amp.GradScaler, inputs: Tensor, targets: Tensor
) -> Tensor:
    optimizer.zero_grad(set_to_none=True)
    value = objective(inputs, targets)
    scaler.scale(value).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(optimizer)  # a correction is added to the true gradients
    scaler.step(optimizer)
    scaler.update()
    return value.detach()


def _private_step(
    objective: _Objective,
    optimizer: Optimizer,
    private: Private,
    parts: Iterable[tuple[Part, int, tuple[Tensor, Tensor]]],
) -> None:
    """Take each patient's gradient of the sum of its rows' losses; step, also where there is no patient at all."""
    optimizer.zero_grad(set_to_none=True)
    for part, seed, (inputs, targets) in parts:
        # Dropout must not follow the patients before: else taking one away would change what the others contribute.
        _generator(inputs.device).manual_seed(seed)
        value = objective(inputs, targets) * len(targets)
        value.backward()  # type: ignore[no-untyped-call]
        if part.ends_patient:
            private.take()
    optimizer.step()


def _generator(device: torch.device) -> torch.Generator:
    """Return what dropout draws from; ``torch.manual_seed`` reaches it too, in half a millisecond."""
    if device.type == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device()]
    return torch.default_generator


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

    def __init__(self, examples: Examples, parts: list[Part], seed: int) -> None:
        self.examples, self.parts, self.seed = examples, parts, seed

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        part = self.parts[index]
        return self.examples.batch(part.rows, augment_key=(self.seed, part.augmentation))


def _load(examples: Examples, parts: list[Part], *, seed: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the batches on ``device``; where that is a GPU, other processes prepare them."""
    is_gpu = device.type == "cuda"
    loader = DataLoader(
        _Batches(examples, parts, seed),
        batch_size=None,
        num_workers=4 if is_gpu else 0,
        pin_memory=is_gpu,
        generator=torch.Generator(),  # else the loader draws from the global generator
    )
    for inputs, targets in loader:
        layout = torch.channels_last if inputs.ndim == 4 else torch.preserve_format
        placed = inputs.to(device, non_blocking=is_gpu, memory_format=layout)
        yield placed, targets.to(device, non_blocking=is_gpu)


def _half_type(device: torch.device, *, is_private: bool) -> torch.dtype | None:
    """Mixed precision on a GPU only: on processors its gain depends on the model, and equal bytes matter more."""
    if device.type != "cuda":
        return None
    if torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return None if is_private else torch.float16  # its scaler skips steps as gradients have it: what no noise covers


@contextmanager
def reproducible(seed: int, device: torch.device) -> Iterator[None]:
    """One torch thread (two give other weights), seeded generators, deterministic algorithms; all restored after."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fills = _memory.fill_uninitialized_memory
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    _memory.fill_uninitialized_memory = False  # nothing reads it; a tenth of a small step's time
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        _memory.fill_uninitialized_memory = fills
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
        if not old.dtype.is_floating_point or torch.equal(old, new):
            return new  # what is frozen stays to the bit
        weight = min(decay, (1 + float(count)) / (10 + float(count)))
        return old * weight + new * (1 - weight)

    return AveragedModel(model, avg_fn=average, use_buffers=True)


def _check_finite(total: Tensor, steps: int, key: tuple[int, str, int, str]) -> None:
    if not math.isfinite(float(total)):
        raise RamwFedError(
            f"the loss of {key[1]} in round {key[2]} is not finite within the first {steps} steps; "
            "lower the learning-rate, and look for bad images with `ramw-fed cohort check`"
        )
