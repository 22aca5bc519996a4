"""One center: its own radiographs, the task, the method. What it knows of the others is the weights it is sent."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ramw_fed.config import RunConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.radiograph import Split
from ramw_fed.methods.method import Method, Weights
from ramw_fed.tasks.task import Sums, Table, Task


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """What a center registers once, before the first round, for one task.

    Attributes:
        patients: Patients with a training example; the center's weight in every mean. 0: it takes no part.
        examples: Training examples (images or joints).
    """

    patients: int
    examples: int


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one center sends after one round of one task.

    Attributes:
        center: Name.
        weights: Shared tensors after the local steps.
        examples: Training examples that were used.
        steps: Steps of the optimizer that were done.
        loss: Mean plain loss over the steps, without any correction.
        squared_drift: Squared distance of the parameters from the round's start.
        seconds: Wall time of the training.
        worker: Process that did it.
    """

    center: str
    weights: dict[str, Tensor]
    examples: int
    steps: int
    loss: float
    squared_drift: float
    seconds: float
    worker: int


class Center:
    """A center that trains and evaluates on its own radiographs only."""

    def __init__(self, name: str, cohort: Cohort, config: RunConfig, method: Method) -> None:
        """Take the radiographs of ``cohort`` that belong to ``name``."""
        self.name = name
        self.cohort = cohort.at(name)
        self.config = config
        self.method = method

    def enrol(self, task: Task) -> Enrolment:
        """Return what the center has to train ``task``."""
        raise NotImplementedError

    def train(self, task: Task, weights: Weights, round_number: int) -> Update:
        """Train from ``weights`` for one round (counted from 1)."""
        raise NotImplementedError

    def validate(self, task: Task, weights: Weights) -> Sums:
        """Return sums over the validation split, to be added up across centers."""
        raise NotImplementedError

    def measure(self, task: Task, weights: Weights, split: Split) -> Table:
        """Return a row for each radiograph (or joint) of ``split``."""
        raise NotImplementedError


__all__ = ["Any", "Center", "Enrolment", "Update"]
