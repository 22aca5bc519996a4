"""The weights of round 0."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ramw_fed.center import initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.data.cohort import Description
from ramw_fed.errors import ConfigError
from ramw_fed.learning.weights_file import Card, load_weights
from ramw_fed.methods import get_method
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks.task import Task


def starting_weights(task: Task, description: Description, config: RunConfig) -> dict[str, Tensor]:
    """Return seeded weights, or those that ``start-from`` names where they are of this task.

    Raises:
        ConfigError: They do not fit the task's network, or the method does not.
    """
    seeded = initial_weights(task, description, config)
    get_method(config.method).refuse_unfit(task.name, list(seeded))
    found = given_weights(task, config)
    if found is None:
        return seeded
    weights, _ = found
    if set(weights) < set(seeded):
        raise ConfigError(
            f"start-from = {config.start_from!r} holds what the centers of a run shared, and they kept {task.name}'s "
            "batch normalisation; start from a run of a method that shares all tensors"
        )
    if shapes(weights) != shapes(seeded):
        raise ConfigError(f"start-from = {config.start_from!r} holds another {task.name} network than the knobs say")
    return weights


def given_weights(task: Task, config: RunConfig) -> tuple[dict[str, Tensor], Card] | None:
    """Return the weights that ``start-from`` names with their card; None where it names none of this task."""
    path = Path(config.start_from)
    if not config.start_from or (path.is_dir() and not (path / "models" / f"{task.name}.safetensors").exists()):
        return None
    weights, card = RunFolder.open(path).load_model(task.name) if path.is_dir() else load_weights(path)
    return (weights, card) if card.task == task.name else None


def shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    """Return type and shape of each tensor: what two networks must share to exchange weights."""
    return {name: (tensor.dtype, tensor.shape) for name, tensor in weights.items()}
