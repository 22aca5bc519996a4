"""What a federation needs to go on after any kill: a file a round; the last complete one stays valid."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ramw_fed.errors import RunError, UpdateError
from ramw_fed.federation.packets import Packet, pack, unpack
from ramw_fed.knobs import flatten
from ramw_fed.learning.weights_file import write_lasting
from ramw_fed.methods.method import Method, Weights

_NAME = "round-{:05d}.safetensors"
_FACTS = ("run", "round", "cohort", "charges")


@dataclass(kw_only=True)
class TaskState:
    """Where the federation of one task stands.

    Attributes:
        weights: Shared weights after the last round.
        best: Weights of the best round so far.
        best_round: That round; 0 before the first.
        best_quality: Its quality; None where nothing could be validated.
        best_sums: What each center validated of it, by name of the center.
        failed_rounds: Rounds in a row, up to now, without enough valid updates.
        own_start: Where the method leaves tensors at the centers, those with which every center begins; none of them
            ever comes from a center.
        own_rounds: Center to the round of its last update that was taken: it goes on from its own tensors of then. A
            center that is not listed still stands at ``own_start``.
        best_own_rounds: The same, as it stood after the best round.
    """

    weights: dict[str, Tensor]
    best: dict[str, Tensor]
    best_round: int = 0
    best_quality: float | None = None
    best_sums: dict[str, dict[str, float]] = field(default_factory=dict)
    failed_rounds: int = 0
    own_start: dict[str, Tensor] = field(default_factory=dict)
    own_rounds: dict[str, int] = field(default_factory=dict)
    best_own_rounds: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class State:
    """Where a federation stands after ``round`` complete rounds, over the radiographs of hash ``cohort``.

    ``run`` is its opaque name, which it keeps when it is resumed: centers find their own tensors by it. ``charges`` is
    what each center last said of its patients' privacy, with all that it released (``promises.py``).
    """

    run: str = ""
    round: int = 0
    cohort: str = ""
    charges: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, TaskState] = field(default_factory=dict)


def start_state(weights: Mapping[str, Weights], method: Method) -> State:
    """Return the state before the first round, from task to weights."""
    parts = {task: method.part(tensors) for task, tensors in weights.items()}
    return State(
        tasks={
            task: TaskState(weights=shared, best=dict(shared), own_start=own) for task, (shared, own) in parts.items()
        }
    )


def save_checkpoint(folder: Path, state: State, deciding: Mapping[str, Any]) -> Path:
    """Write the state after a round; older checkpoints go once the new one is safe on the disk.

    Args:
        folder: Where checkpoints lie; made where missing.
        state: What to save.
        deciding: The knobs that decide the run's numbers, from ``RunConfig.deciding``.
    """
    path = folder / _NAME.format(state.round)
    write_lasting(path, pack(_packet(state, deciding)))
    for older in _complete(folder)[:-1]:
        older.unlink()
    return path


def load_checkpoint(folder: Path, deciding: Mapping[str, Any]) -> State | None:
    """Return the last complete state, or None where there is none; removes what a kill left half written.

    Raises:
        RunError: It belongs to another configuration (the difference is named), or cannot be read.
    """
    for leftover in folder.glob("*.part"):
        leftover.unlink()
    complete = _complete(folder)
    if not complete:
        return None
    try:
        packet = unpack(complete[-1].read_bytes())
        before, state = packet.header["deciding"], _state(packet)
    except (OSError, UpdateError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{complete[-1]} is no checkpoint: {error}; remove it to start this run anew") from error
    _refuse_other(flatten(before), flatten(deciding))
    return state


def _packet(state: State, deciding: Mapping[str, Any]) -> Packet:
    facts = ("best_round", "best_quality", "best_sums", "failed_rounds", "own_rounds", "best_own_rounds")
    tasks = {name: {fact: getattr(task, fact) for fact in facts} for name, task in sorted(state.tasks.items())}
    tensors: dict[str, Tensor] = {}
    for name, task in state.tasks.items():
        tensors |= {f"{name}/weights/{key}": tensor for key, tensor in task.weights.items()}
        tensors |= {f"{name}/best/{key}": tensor for key, tensor in task.best.items()}
        tensors |= {f"{name}/start/{key}": tensor for key, tensor in task.own_start.items()}
    return Packet(
        header={name: getattr(state, name) for name in _FACTS} | {"tasks": tasks, "deciding": dict(deciding)},
        tensors=tensors,
    )


def _state(packet: Packet) -> State:
    tasks = {
        name: TaskState(
            weights=_below(packet.tensors, f"{name}/weights/"),
            best=_below(packet.tensors, f"{name}/best/"),
            own_start=_below(packet.tensors, f"{name}/start/"),
            **facts,
        )
        for name, facts in packet.header["tasks"].items()
    }
    return State(**{name: packet.header[name] for name in _FACTS}, tasks=tasks)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _complete(folder: Path) -> list[Path]:
    return sorted(folder.glob(_NAME.replace("{:05d}", "*")))


def _refuse_other(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differing = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if differing:
        lines = ", ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in differing)
        raise RunError(f"the checkpoint belongs to another configuration: {lines}; resume with the old one")
