"""What a run would cost, from one measured step of each task."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from ramw_fed.center import initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.reading import read_run_cohort, run_centers
from ramw_fed.errors import FederationError
from ramw_fed.learning.training import pick_device, train_round
from ramw_fed.tasks import get_task


@dataclass(frozen=True, kw_only=True)
class TaskCost:
    """What one task would cost.

    Attributes:
        task: Name.
        centers: Centers with examples.
        steps: Steps of the optimizer, over all centers and rounds.
        seconds_per_step: Wall time of one step here, of the second measured pass over a few batches.
        hours: Of all steps, shared by the workers; evaluation comes on top.
        megabytes_per_round: Sent and received by one center.
    """

    task: str
    centers: int
    steps: int
    seconds_per_step: float
    hours: float
    megabytes_per_round: float


@dataclass(frozen=True)
class Cost:
    """What a run would cost."""

    tasks: tuple[TaskCost, ...]
    workers: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"workers": self.workers, "tasks": [asdict(task) for task in self.tasks]}

    def table(self) -> Table:
        """Return a table for a terminal."""
        table = Table(title=f"training cost, {self.workers} workers (measured step; evaluation comes on top)")
        for name in ("task", "centers", "steps", "s a step", "hours", "MB a center and round"):
            table.add_column(name, justify="left" if name == "task" else "right")
        for cost in self.tasks:
            numbers = (f"{cost.seconds_per_step:.3f}", f"{cost.hours:.2f}", f"{cost.megabytes_per_round:.1f}")
            table.add_row(cost.task, str(cost.centers), str(cost.steps), *numbers)
        return table


def plan(config: RunConfig) -> Cost:
    """Measure a few steps of each task on ``config.cohort`` and multiply."""
    cohort = read_run_cohort(config)
    centers = run_centers(config, cohort)
    workers = min(config.workers, len(centers) * len(config.tasks))
    return Cost(tuple(_cost(name, cohort, centers, config, workers) for name in config.tasks), workers)


def _cost(name: str, cohort: Cohort, centers: tuple[str, ...], config: RunConfig, workers: int) -> TaskCost:
    task = get_task(name)
    training = config.training(task.name)
    sizes = {center: len(task.examples(cohort.at(center), "train", training)) for center in centers}
    taking_part = {center: size for center, size in sizes.items() if size}
    if not taking_part:
        raise FederationError(f"no center has examples to train {task.name}; check the cohort's labels, or set tasks")
    steps = sum(-(-size // training.batch_size) for size in taking_part.values())
    steps *= training.local_epochs * training.num_rounds
    weights = initial_weights(task, cohort.description, config)
    seconds = _seconds_per_step(name, cohort, max(taking_part, key=lambda center: taking_part[center]), config)
    size = sum(tensor.nbytes for tensor in weights.values())
    return TaskCost(
        task=name,
        centers=len(taking_part),
        steps=steps,
        seconds_per_step=seconds,
        hours=steps * seconds / workers / 3600,
        megabytes_per_round=2 * size / 2**20,
    )


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


def _seconds_per_step(name: str, cohort: Cohort, center: str, config: RunConfig) -> float:
    task = get_task(name)
    training = config.training(task.name)
    device = pick_device(config.device)
    examples = task.examples(cohort.at(center), "train", training)
    few = _Few(examples, 4 * training.batch_size)
    network = task.network(cohort.description, training).to(device)
    loss = task.loss(examples, training)
    seconds = 0.0
    for _ in range(2):  # the first pass warms caches and kernels; the second counts
        started = time.perf_counter()
        key = (config.seed, name, 1, center)
        log = train_round(network, few, loss, training, correction=None, key=key, round_number=1, device=device)
        seconds = (time.perf_counter() - started) / log.steps
    return seconds
