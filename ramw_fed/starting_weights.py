"""The weights of round 0."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ramw_fed.center import initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.data.cohort import Description
from ramw_fed.errors import ConfigError, PrivacyError, RunError
from ramw_fed.learning.weights_file import Card, load_weights
from ramw_fed.methods import get_method
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks.task import Task

_SHAPING = ("architecture", "encoder", "depth", "decoder-width", "norm", "loss")
START, UNPROTECTED = "start", "unprotected"
"""Note on a card: the weights go back to weights that patients taught without privacy."""


def starting_weights(task: Task, description: Description, config: RunConfig) -> dict[str, Tensor]:
    """Return seeded weights, or those that ``start-from`` names where they are of this task.

    Raises:
        ConfigError: They do not fit the task's network, or the method does not, or a frozen backbone would be random.
        PrivacyError: They would void the guarantee of a private run.
    """
    seeded = initial_weights(task, description, config)
    get_method(config.method).refuse_unfit(task.name, list(seeded))
    found = given_weights(task, config)
    if found is None:
        _refuse_frozen(task, config)
        return seeded
    weights, card = found
    if config.is_private:
        refuse_unprotected_start(card, config)
    if set(weights) < set(seeded):
        raise ConfigError(
            f"start-from = {config.start_from!r} holds what the centers of a run shared, and they kept {task.name}'s "
            "batch normalisation; start from a run of a method that shares all tensors"
        )
    if shapes(weights) != shapes(seeded):
        knobs = config.training(task.name).write()
        other = [f"{name} = {card.training[name]}" for name in _SHAPING if card.training.get(name) != knobs.get(name)]
        raise ConfigError(
            f"start-from = {config.start_from!r} holds another {task.name} network than the knobs say; its knobs are "
            f"{', '.join(other) or 'the same, so its bones or joints are others'}"
        )
    return weights


def given_weights(task: Task, config: RunConfig) -> tuple[dict[str, Tensor], Card] | None:
    """Return the weights that ``start-from`` names with their card; None where it names none of this task."""
    path = Path(config.start_from)
    if not config.start_from or (path.is_dir() and not (path / "models" / f"{task.name}.safetensors").exists()):
        return None
    weights, card = RunFolder.open(path).load_model(task.name) if path.is_dir() else load_weights(path)
    return (weights, card) if card.task == task.name else None


def refuse_unprotected_start(card: Card, config: RunConfig) -> None:
    """Refuse weights that patients taught without privacy as the start of a private run.

    What such weights gave away, no noise added afterwards takes back, and the run would claim an epsilon for it.
    Weights of phantoms cost nothing; those of a private run were paid for, in the ledgers of the centers that taught
    them.

    Args:
        card: What the weights say of themselves.
        config: Of the run that would start from them.

    Raises:
        PrivacyError: With what they are.
    """
    if not is_protected(card):
        raise PrivacyError(
            f"start-from = {config.start_from!r} holds {card.task} weights that were trained on patients without "
            "privacy (or go back to such weights); a private run may start from phantoms (`ramw-fed pretrain`), from "
            "another private run, or from seeded weights"
        )


def is_protected(card: Card) -> bool:
    """Whether weights show patients of no center more than their ledgers say: taught by phantoms, or privately."""
    if card.notes.get(START) == UNPROTECTED:
        return False
    paid = card.notes.get("privacy") == "patient" and card.notes.get("evaluation") != "unprotected"
    return card.description.kind == "phantom" or (paid and not card.notes.get("is_seeded"))


def notes_of_start(task: Task, config: RunConfig) -> dict[str, str]:
    """Return what the card of a run's weights must say of those that it started from; nothing where they are harmless.

    A run on phantoms that starts from patients' weights still holds them. A start that can no longer be read counts as
    such.
    """
    try:
        found = given_weights(task, config)
    except RunError:
        return {START: UNPROTECTED}
    return {} if found is None or is_protected(found[1]) else {START: UNPROTECTED}


def _refuse_frozen(task: Task, config: RunConfig) -> None:
    if config.training(task.name).trainable == "head":
        where = f"start-from = {config.start_from!r} holds none" if config.start_from else "start-from names none"
        raise ConfigError(
            f"{task.name}.trainable is 'head', which freezes the backbone, but {where} of {task.name}: a frozen random "
            "backbone learns nothing. Make one with `ramw-fed pretrain` and set start-from, or take trainable = 'all'"
        )


def shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    """Return type and shape of each tensor: what two networks must share to exchange weights."""
    return {name: (tensor.dtype, tensor.shape) for name, tensor in weights.items()}
