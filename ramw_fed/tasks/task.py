"""What a model learns, as data: adding a task is adding a file with one of these."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ramw_fed.config import TrainingConfig
from ramw_fed.data.batches import Examples
from ramw_fed.data.cohort import Cohort, Description
from ramw_fed.data.radiograph import Split
from ramw_fed.learning.losses import Loss

Sums = Mapping[str, float]
"""Numbers that add up across centers, such as ``{"dsc": 31.2, "patients": 40.0}``."""

Table = Mapping[str, NDArray[Any]]
"""Columns of equal length: what a task measured, a row a radiograph or a joint."""


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

    def of(self, cohort: Cohort, split: Split | None = None) -> Cohort:
        """Return the part of ``cohort`` that has this task's labels, in ``split`` where one is named."""

        def has(radiograph: Any) -> bool:
            present = radiograph.masks is not None if self.label == "masks" else bool(radiograph.scores)
            own = radiograph.mask_split if self.label == "masks" else radiograph.score_split
            return present and (own == split if split else own is not None)

        return cohort.keep(radiograph for radiograph in cohort.radiographs if has(radiograph))


__all__ = ["Examples", "Loss", "Sums", "Table", "Task", "TrainingConfig", "join_tables"]
