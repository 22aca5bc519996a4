"""What a run would cost, from one measured step of each task."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from ramw_fed.center import initial_weights
from ramw_fed.config import RunConfig, TrainingConfig
from ramw_fed.data.batches import Examples
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.reading import read_run_cohort, run_centers
from ramw_fed.errors import FederationError
from ramw_fed.learning.training import pick_device, train_round
from ramw_fed.manifest import Meter
from ramw_fed.methods import get_method
from ramw_fed.privacy.randomness import secure
from ramw_fed.privacy.sgd import PatientSteps
from ramw_fed.privacy.workload import patient_steps, workload
from ramw_fed.tasks import get_task
from ramw_fed.wording import counted, duration

# Steps that are measured, unless the first one took longer than this.
_STEPS, _SLOW_S = 4, 3.0
_LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True)
class TaskCost:
    """What one task would cost.

    Attributes:
        task: Name.
        centers: Centers with examples.
        steps: Steps of the optimizer, over all centers and rounds.
        seconds_per_step: Wall time of one step on this device, after one to warm up.
        hours: Of all steps, shared by the workers that train at the same time; evaluation comes on top.
        megabytes_per_round: Sent and received by one center.
        memory_mb: Largest memory while the steps were measured, of the GPU or else of this process with all that it
            has loaded; each worker needs as much.
    """

    task: str
    centers: int
    steps: int
    seconds_per_step: float
    hours: float
    megabytes_per_round: float
    memory_mb: float


@dataclass(frozen=True)
class Cost:
    """What a run would cost."""

    tasks: tuple[TaskCost, ...]
    workers: int
    device: str

    @property
    def hours(self) -> float:
        """Of all tasks."""
        return sum(task.hours for task in self.tasks)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        tasks = [asdict(task) for task in self.tasks]
        return {"workers": self.workers, "device": self.device, "hours": self.hours, "tasks": tasks}

    def table(self) -> Table:
        """Return a table for a terminal."""
        table = Table(
            title=f"training cost on {self.device}, {counted(self.workers, 'worker')} (from a measured step)",
            caption=f"all tasks: {duration(3600 * self.hours)} of training; evaluation comes on top",
            title_justify="left",
            caption_justify="left",
        )
        for name in ("task", "centers", "steps", "a step", "all steps", "MB a center and round", "MB of memory"):
            table.add_column(name, justify="left" if name == "task" else "right")
        for cost in self.tasks:
            times = duration(cost.seconds_per_step), duration(3600 * cost.hours)
            sizes = f"{cost.megabytes_per_round:.1f}", f"{cost.memory_mb:.0f}"
            table.add_row(cost.task, str(cost.centers), str(cost.steps), *times, *sizes)
        return table


def plan(config: RunConfig) -> Cost:
    """Measure a few steps of each task on ``config.cohort`` and multiply."""
    cohort = read_run_cohort(config)
    centers = run_centers(config, cohort)
    workers = min(config.workers, len(centers) * len(config.tasks))
    costs = tuple(_cost(name, cohort, centers, config, workers) for name in config.tasks)
    return Cost(costs, workers, _device_name(pick_device(config.device)))


def _cost(name: str, cohort: Cohort, centers: tuple[str, ...], config: RunConfig, workers: int) -> TaskCost:
    task = get_task(name)
    training = config.training(task.name)
    sizes = {center: task.examples(cohort.at(center), "train", training).patients for center in centers}
    taking_part = {center: rows for center, rows in sizes.items() if len(rows)}
    if not taking_part:
        raise FederationError(
            f"no center has examples to train {task.name}; check the cohort's labels and splits (a manifest without "
            "any needs split = 'grouped'), or set tasks"
        )
    steps = training.num_rounds * sum(_steps(rows, training, config) for rows in taking_part.values())
    weights, _ = get_method(config.method).part(initial_weights(task, cohort.description, config))
    largest = max(taking_part, key=lambda center: len(taking_part[center]))
    seconds, memory = _measure_step(name, cohort, largest, config)
    # Workers that share a GPU wait for each other.
    at_once = workers if pick_device(config.device).type == "cpu" else 1
    size = sum(tensor.nbytes for tensor in weights.values())
    return TaskCost(
        task=name,
        centers=len(taking_part),
        steps=steps,
        seconds_per_step=seconds,
        hours=steps * seconds / at_once / 3600,
        megabytes_per_round=2 * size / 2**20,
        memory_mb=memory,
    )


def _steps(rows: NDArray[np.str_], training: TrainingConfig, config: RunConfig) -> int:
    """Return the steps of a round at a center whose training rows are these patients'."""
    if config.is_private:
        return workload(training, len(np.unique(rows))).steps
    return -(-len(rows) // training.batch_size) * training.local_epochs


class _Few:
    """The first examples of a center, enough for a few steps."""

    def __init__(self, examples: Any, rows: int) -> None:
        self._examples, self._rows = examples, min(rows, len(examples))
        self.patients, self.names = examples.patients[: self._rows], examples.names[: self._rows]

    def __len__(self) -> int:
        return self._rows

    def batch(self, rows: np.ndarray[Any, Any], *, augment_key: tuple[int, int] | None) -> Any:
        """Return (inputs, targets) of these rows."""
        return self._examples.batch(rows, augment_key=augment_key)


def _measure_step(name: str, cohort: Cohort, center: str, config: RunConfig) -> tuple[float, float]:
    """Return the seconds of a step, and the largest memory meanwhile in MB."""
    task = get_task(name)
    training = replace(config.training(task.name), local_epochs=1)
    device = pick_device(config.device)
    examples = task.examples(cohort.at(center), "train", training)
    training = task.settle(training, task.counts(examples, training))
    network = task.untrained(cohort.description, training).to(device)
    loss = task.loss(examples, training)
    key = (config.seed, name, 1, center)

    def seconds(num_steps: int) -> float:
        private = _private_steps(examples, training, num_steps) if config.is_private else None
        few = examples if private else _Few(examples, num_steps * training.batch_size)
        started = time.perf_counter()
        log = train_round(
            network, few, loss, training, correction=None, key=key, round_number=1, device=device, private=private
        )
        return (time.perf_counter() - started) / log.steps

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with Meter(every_s=_LOOK_S) as meter:
        warming = seconds(1)  # caches and kernels
        found = seconds(_STEPS if warming < _SLOW_S else 1)
    on_gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
    return found, on_gpu or meter.peak_mb


def _private_steps(examples: Examples, training: TrainingConfig, num_steps: int) -> PatientSteps:
    """Return steps that cost what a private run's do: nothing of them leaves, so any noise will do."""
    drawn = workload(training, len(np.unique(examples.patients)))
    return patient_steps(
        replace(drawn, steps=num_steps), training, examples.patients, noise_multiplier=1.0, randomness=secure()
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"
