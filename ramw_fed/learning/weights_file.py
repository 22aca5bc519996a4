"""Weights as safetensors, with what they are in one metadata key.

safetensors writes several metadata keys in an order that differs between processes: one key with one sorted JSON text
keeps equal weights equal bytes.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ramw_fed.data.cohort import Description
from ramw_fed.errors import RunError

KEY = "ramw-fed"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a file of weights says of itself; enough to build its network.

    Attributes:
        task: Name of the task.
        training: Knobs of the task, in file spelling.
        description: What the images showed; its ``kind`` says whether patients or phantoms taught the weights.
        cohort: Hash of the cohort.
        round: Round of the federation after which these weights stood.
        version: Version of ramw-fed.
    """

    task: str
    training: Mapping[str, Any]
    description: Description
    cohort: str
    round: int
    version: str
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one line of sorted JSON."""
        raw = {name: getattr(self, name) for name in ("task", "cohort", "round", "version")}
        nested = {
            "training": dict(self.training),
            "notes": dict(self.notes),
            "description": self.description.to_dict(),
        }
        return json.dumps(raw | nested, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """Read back what ``to_json`` wrote.

        Raises:
            ValueError: It did not write this.
        """
        try:
            raw = json.loads(text)
            card = cls(**{**raw, "description": Description.from_dict(raw["description"])})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"it is no card ({error})") from error
        if not (isinstance(card.task, str) and isinstance(card.training, dict)):
            raise ValueError("it names no task, or no knobs")
        return card


def save_weights(path: Path, weights: Mapping[str, Tensor], card: Card) -> None:
    """Write atomically: a reader sees the old file or the new one."""
    blob = safetensors.torch.save(
        {name: weights[name].contiguous() for name in sorted(weights)}, metadata={KEY: card.to_json()}
    )
    write_lasting(path, blob)


def write_lasting(path: Path, content: bytes) -> None:
    """Write so that a reader, also after a loss of power, finds the old file or the new one; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a new name in ``folder`` last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_weights(path: Path) -> tuple[dict[str, Tensor], Card]:
    """Read weights, half precision widened to float32, and their card.

    Raises:
        RunError: The file is missing, no safetensors, or was not written by ramw-fed.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"no weights can be read at {path}: {error}; give a run folder or a .safetensors file"
        ) from error
    if KEY not in metadata:
        raise RunError(f"{path} has no {KEY!r} entry: it was not written by ramw-fed and says not what its network is")
    try:
        card = Card.from_json(metadata[KEY])
    except ValueError as error:
        raise RunError(
            f"the {KEY!r} entry of {path} cannot be read: {error}; it was changed after it was written, take a copy"
        ) from error
    widened = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in weights.items()}
    return widened, card


def in_precision(weights: Mapping[str, Tensor], precision: str) -> dict[str, Tensor]:
    """Return weights as ``float32`` or ``float16``; integers stay.

    Raises:
        RunError: A weight is too large for the precision.
    """
    dtype: torch.dtype = getattr(torch, precision)
    cast = {name: one.to(dtype) if one.is_floating_point() else one for name, one in weights.items()}
    if not all(bool(torch.isfinite(one).all()) for one in cast.values()):
        raise RunError(f"a weight does not fit into {precision}; set precision = 'float32' and resume")
    return cast
