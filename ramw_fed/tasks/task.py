"""What a model learns, as data: adding a task is adding a file with one of these."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ramw_fed.config import TASK_CONFIGS, RunConfig, TrainingConfig
from ramw_fed.data.batches import Examples
from ramw_fed.data.cohort import Cohort, Description
from ramw_fed.data.radiograph import Split
from ramw_fed.errors import ConfigError, RunError
from ramw_fed.learning.freezing import freeze_all_but
from ramw_fed.learning.losses import Loss
from ramw_fed.learning.weights_file import Card

Sums = Mapping[str, float]
"""Numbers that add up across centers, such as ``{"dsc": 31.2, "patients": 40.0}``.

Those with a slash in their name are details for the end of a run; no line of a round shows them.
"""

Counts = Mapping[str, int]
"""A center's training examples of each class, where a run asks for them."""

Table = Mapping[str, NDArray[Any]]
"""Columns of equal length: what a task measured, a row a radiograph or a joint."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a column of a task's table holds: texts, or numbers of a range.

    Attributes:
        is_text: Texts, one a row.
        choices: The texts that may stand there; empty for any.
        least: Smallest number.
        most: Largest number.
        is_whole: Integers.
        is_optional: A number may not be defined (NaN).
        width: Numbers in a row; None for a single one.
    """

    is_text: bool = False
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    most: float = math.inf
    is_whole: bool = False
    is_optional: bool = False
    width: int | None = None

    def empty(self) -> NDArray[Any]:
        """Return the column without a row."""
        shape = (0,) if self.width is None else (0, self.width)
        return np.zeros(shape, np.str_ if self.is_text else np.int64 if self.is_whole else np.float64)


TEXT = Column(is_text=True)


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """How a task validates where sums leave with noise, so that what one patient adds has to be bounded.

    Attributes:
        names: Of what is added up over patients.
        rows: ``(model, examples, config, device) -> (patients, names)`` in the order of the patients' names. Each is
            made of one patient's records alone and has a Euclidean length of at most 1: a longer one is cut.
        sums: ``(sums of the rows with noise, number of patients, noise multiplier) -> Sums`` as ``quality`` takes them;
            the number is public. What a patient adds is best counted from the middle of its range: half the noise.
    """

    names: tuple[str, ...]
    rows: Callable[[nn.Module, Examples, Any, torch.device], NDArray[np.float64]]
    sums: Callable[[Sums, int, float], Sums]


def any_sums(_sums: Sums, _examples: int) -> bool:
    """Take any finite sums: nothing more is known of a user's own task."""
    return True


def any_columns(_description: Description, _config: Any) -> Mapping[str, Column]:
    """Name no column: nothing is known of a user's own task."""
    return {}


def no_counts(_examples: Examples, _config: Any) -> Counts:
    """Say nothing of a center's classes."""
    return {}


def no_groups(_examples: Examples, _config: Any) -> None:
    """Let each pass take every row once."""


def as_it_is(config: Any, _counts: Counts) -> Any:
    """Leave the knobs as they are."""
    return config


def nothing_to_decide(config: Any, _sums: Mapping[str, Sums]) -> tuple[Any, Mapping[str, Any]]:
    """Measure as configured."""
    return config, {}


def is_better(quality: float | None, best: float | None) -> bool:
    """Whether a round replaces the best so far; where nothing was ever validated the last one does."""
    if quality is None:
        return best is None
    return best is None or quality > best


def join_tables(tables: Sequence[Table]) -> dict[str, NDArray[Any]]:
    """Return one table of the rows of all, in the order given; at least one, all with the same columns."""
    return {name: np.concatenate([np.asarray(table[name]) for table in tables]) for name in tables[0]}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to learn.

    Attributes:
        name: As the configuration and the run folder spell it.
        label: Which labels of a radiograph it reads.
        examples: ``(cohort, split, config) -> Examples``; only radiographs that have the label and this split.
        network: ``(description, config) -> nn.Module`` with freshly drawn weights from torch's global generator.
        loss: ``(training examples, config) -> Loss``; may depend on the center's own priors.
        validate: ``(model, examples, config, device) -> Sums``, at the network's resolution: cheap, each round.
        quality: ``Sums of all centers -> float``; larger is better, chooses the round; NaN: nothing to validate.
        measure: ``(model, radiographs of a split, config, device) -> Table``, at the radiographs' own resolution.
        summarize: ``(table of any centers, description, config, resamples, seed, centers=()) -> scopes`` of
            ``metrics.json``: ``{"pooled": .., "macro": .., "centers": ..}``; ``centers`` are listed even without a row.
        is_plausible: ``(sums of one center, its validation examples) -> bool``: whether they can be true.
        columns: ``(description, config) -> columns`` of the table that ``measure`` returns; empty where any will do.
        counts: ``(training examples, config) -> Counts``; empty unless the configuration asks centers for them.
        groups: ``(training examples, config) -> (rows,)`` groups of rows that take turns in the steps; None for none.
        settle: ``(config, Counts of all centers) -> config`` with which the centers train.
        decide: ``(config, center -> Sums of the chosen round) -> (config, words)``: with which knobs to measure the
            test split, and what ``decision.json`` says of them; no words where the knobs stay as they are.
        head: ``network -> its last, small part``, which learns alone under ``trainable = "head"``; None where there is
            no such part.
        contributions: How it validates under ``evaluation = "paid"``; None: it refuses that.
    """

    name: str
    label: Literal["masks", "scores"]
    examples: Callable[[Cohort, Split, Any], Examples]
    network: Callable[[Description, Any], nn.Module]
    loss: Callable[[Examples, Any], Loss]
    validate: Callable[[nn.Module, Examples, Any, torch.device], Sums]
    quality: Callable[[Sums], float]
    measure: Callable[[nn.Module, Cohort, Split, Any, torch.device], Table]
    summarize: Callable[..., dict[str, Any]]
    is_plausible: Callable[[Sums, int], bool] = any_sums
    columns: Callable[[Description, Any], Mapping[str, Column]] = any_columns
    counts: Callable[[Examples, Any], Counts] = no_counts
    groups: Callable[[Examples, Any], NDArray[Any] | None] = no_groups
    settle: Callable[[Any, Counts], Any] = as_it_is
    decide: Callable[[Any, Mapping[str, Sums]], tuple[Any, Mapping[str, Any]]] = nothing_to_decide
    head: Callable[[nn.Module], nn.Module] | None = None
    contributions: Contributions | None = None

    def validation(self) -> Contributions:
        """Return how the task validates with noise.

        Raises:
            ConfigError: It does not say.
        """
        if self.contributions is None:
            raise ConfigError(
                f"evaluation is 'paid', and the task {self.name} does not say what a patient adds to a validation and "
                "how much at most; give its Task contributions, or take evaluation = 'none'"
            )
        return self.contributions

    def restore(self, weights: Mapping[str, torch.Tensor], card: Card, device: torch.device) -> nn.Module:
        """Return the network that ``card`` describes with these weights, ready to predict.

        Raises:
            RunError: The weights are not of that network.
        """
        network = self.untrained(card.description, TASK_CONFIGS.get(self.name, TrainingConfig).read(card.training))
        try:
            network.load_state_dict(dict(weights))
        except RuntimeError as error:
            raise RunError(f"the weights of {self.name} are not of the network that their file describes") from error
        return network.to(device).eval()

    def untrained(self, description: Description, config: TrainingConfig) -> nn.Module:
        """Return the network with any weights, leaving the global generator as it was.

        Raises:
            ConfigError: Its head is to learn alone, and it has none.
        """
        with torch.random.fork_rng(devices=[]):
            network = self.network(description, config)
        if config.trainable == "head":
            if self.head is None:
                raise ConfigError(f"trainable is 'head', and the task {self.name} names no head; take 'all'")
            freeze_all_but(network, self.head(network))
        return network

    def of(self, cohort: Cohort, split: Split | None = None) -> Cohort:
        """Return the part of ``cohort`` that has this task's labels, in ``split`` where one is named."""

        def has(radiograph: Any) -> bool:
            present = radiograph.masks is not None if self.label == "masks" else bool(radiograph.scores)
            own = radiograph.mask_split if self.label == "masks" else radiograph.score_split
            return present and (own == split if split else own is not None)

        return cohort.keep(radiograph for radiograph in cohort.radiographs if has(radiograph))


def settled(config: RunConfig, task: Task, counts: Iterable[Counts]) -> RunConfig:
    """Return the run's configuration as centers with these counts train ``task``."""
    total = dict(sum(map(Counter, counts), Counter[str]()))
    return config.with_training(task.name, task.settle(config.training(task.name), total))


__all__ = [
    "TEXT",
    "Column",
    "Contributions",
    "Counts",
    "Examples",
    "Loss",
    "Sums",
    "Table",
    "Task",
    "TrainingConfig",
    "is_better",
    "join_tables",
    "settled",
]
