"""What a run leaves behind, and the one door to the test split.

```
RUN/
  config.toml   manifest.json   rounds.jsonl   metrics.json   baselines.json
  decision.json                 where thresholds or probabilities were chosen on validation
  models/<task>.safetensors
  models/centers/<center>/<task>.safetensors   of methods that leave tensors at the centers; simulation only
  predictions/<task>.csv        simulation only
  checkpoints/
  overlays/     report.html
  tensorboard/                  curves of the rounds; not the same bytes twice: they carry the clock
```
"""

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import tomli_w
from numpy.typing import NDArray
from torch import Tensor

from ramw_fed.config import RunConfig
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.errors import RunError
from ramw_fed.knobs import flatten
from ramw_fed.learning.weights_file import Card, load_weights, save_weights
from ramw_fed.tasks.task import Table
from ramw_fed.wording import as_file_name

_OWN = {
    "config.toml",
    "manifest.json",
    "rounds.jsonl",
    "metrics.json",
    "baselines.json",
    "decision.json",
    "test-opened.json",
    "report.html",
}
DECISION = "decision.json"
_OWN_FOLDERS = {"models", "predictions", "checkpoints", "overlays", "tensorboard"}
_TEXTS = {"center", "patient", "name", "joint"}


@dataclass(frozen=True)
class RunFolder:
    """A folder with the files of one run; see the module for what is where."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: RunConfig, *, overwrite: bool = False, resume: bool = False) -> "RunFolder":
        """Make the folder for a new run, or open it to resume one.

        Raises:
            RunError: It holds another run and neither was allowed; or the run to resume was configured otherwise.
        """
        folder = cls(path)
        if resume and folder.config_path.exists():
            folder._refuse_other(config)
            return folder
        if path.is_dir() and any(not is_leftover(entry) for entry in path.iterdir()):
            if not overwrite:
                raise RunError(f"{path} is not empty; choose another --out, or --resume or --overwrite what is there")
            folder._clear()
        make_folder(path)
        write_atomically(folder.config_path, tomli_w.dumps(config.tree()))
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open a finished run.

        Raises:
            RunError: There is none.
        """
        folder = cls(path)
        if not folder.config_path.exists():
            raise RunError(f"{path} holds no run (no config.toml); give the folder that `ramw-fed run --out` wrote")
        return folder

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.toml"

    @property
    def checkpoints(self) -> Path:
        """Folder of what resuming needs."""
        return self.path / "checkpoints"

    @property
    def curves(self) -> Path:
        """Folder of what TensorBoard shows."""
        return self.path / "tensorboard"

    def config(self) -> RunConfig:
        """Return the run's configuration."""
        return resolve(read_toml(self.config_path))

    def decided_config(self) -> RunConfig:
        """Return the run's configuration with the knobs that it chose on validation."""
        config = self.config()
        decisions = self.read_json(DECISION) if (self.path / DECISION).exists() else {}
        for task, decision in decisions.items():
            training = config.training(task)
            config = config.with_training(task, type(training).read({**training.write(), **decision["knobs"]}))
        return config

    def append_round(self, record: Mapping[str, Any]) -> None:
        """Add a line to ``rounds.jsonl``."""
        with (self.path / "rounds.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, sort_keys=True, allow_nan=False) + "\n")

    def keep_rounds(self, last: int) -> None:
        """Drop the lines of rounds after ``last``: a killed run may have logged one that it did not save."""
        kept = [record for record in self.rounds() if record["round"] <= last]
        lines = "".join(json.dumps(record, sort_keys=True) + "\n" for record in kept)
        write_atomically(self.path / "rounds.jsonl", lines)

    def rounds(self) -> list[dict[str, Any]]:
        """Return the lines of ``rounds.jsonl``; a line that a kill cut short is left out.

        Raises:
            RunError: A line is no record of a round.
        """
        path = self.path / "rounds.jsonl"
        records: list[dict[str, Any]] = []
        for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], start=1):
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not (isinstance(record, dict) and type(record.get("round")) is int):
                raise RunError(f"line {number} of {path} is no record of a round; put the file back from a copy")
            records.append(record)
        return records

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write ``metrics.json``, ``manifest.json`` or ``baselines.json``."""
        write_atomically(self.path / name, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Read what ``write_json`` wrote.

        Raises:
            RunError: The run has not come that far, or the file was changed or removed since.
        """
        path = self.path / name
        if not path.exists() and self.is_measured:
            raise RunError(
                f"{self.path} is finished but has no {name}: it was removed after the run; put it back from a copy, "
                "or --overwrite the run"
            )
        if not path.exists():
            raise RunError(
                f"{self.path} has no {name}: the run did not finish; `ramw-fed run ... --resume` goes on with it"
            )
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise RunError(f"{path} is no JSON ({error}); put it back from a copy, or --overwrite the run") from error
        if not isinstance(content, dict):
            raise RunError(f"{path} holds no table; put it back from a copy, or --overwrite the run")
        return content

    @property
    def is_measured(self) -> bool:
        """Whether the run has come to its metrics, the last file that a federation writes."""
        return (self.path / "metrics.json").exists()

    def save_model(self, weights: Mapping[str, Tensor], card: Card) -> None:
        """Write ``models/<task>.safetensors``."""
        save_weights(self.path / "models" / f"{card.task}.safetensors", weights, card)

    def load_model(self, task: str) -> tuple[dict[str, Tensor], Card]:
        """Read a task's weights and card.

        Raises:
            RunError: They are missing, cannot be read, or are another task's.
        """
        path = self.path / "models" / f"{task}.safetensors"
        weights, card = load_weights(path)
        if card.task != task:
            raise RunError(f"{path} holds weights of {card.task!r}; those of {task!r} are wanted: put them back")
        return weights, card

    def save_own(self, center: str, own: Mapping[str, Tensor], card: Card) -> None:
        """Write the tensors that ``center`` has of its own beside those of ``models/<task>.safetensors``."""
        save_weights(self._own_models / as_file_name(center) / f"{card.task}.safetensors", own, card)

    def load_own(self, task: str) -> dict[str, dict[str, Tensor]]:
        """Read, by center, the tensors that each has of its own; none where the method shares all of them.

        Raises:
            RunError: A file cannot be read, or is another task's.
        """
        own = {}
        for path in sorted(self._own_models.glob(f"*/{task}.safetensors")):
            tensors, card = load_weights(path)
            if card.task != task:
                raise RunError(f"{path} holds tensors of {card.task!r}; those of {task!r} are wanted: put them back")
            own[unquote(path.parent.name)] = tensors
        return own

    @property
    def _own_models(self) -> Path:
        return self.path / "models" / "centers"

    def write_predictions(self, task: str, table: Table) -> None:
        """Write a task's table of measurements as CSV; columns of several numbers are spread."""
        (self.path / "predictions").mkdir(exist_ok=True)
        with (self.path / "predictions" / f"{task}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(_rows(table))

    def read_predictions(self, task: str) -> Table:
        """Read back what ``write_predictions`` wrote: names as texts, all else as float64, spread columns together.

        Raises:
            RunError: There is no such table.
        """
        path = self.path / "predictions" / f"{task}.csv"
        if not path.exists():
            raise RunError(
                f"{self.path} has no predictions/{task}.csv: the task was not measured, or the values of single "
                "radiographs stayed at the centers (only a simulation leaves them)"
            )
        with path.open(newline="", encoding="utf-8") as file:
            names, *rows = list(csv.reader(file)) or [[]]
        columns = {
            name: np.array([row[index] for row in rows], np.str_ if name in _TEXTS else np.float64)
            for index, name in enumerate(names)
        }
        return _gathered(columns)

    def open_test_split(self, chosen: Mapping[str, str], decisions: Mapping[str, Any] | None = None) -> None:
        """Open the test split, once, and keep what was decided without it.

        Args:
            chosen: Task to a hash of the weights that were chosen without it. A run that was killed while it measured
                may ask again with the same weights, which gives the same numbers.
            decisions: What else was chosen, for ``decision.json``; None or empty for nothing.

        Raises:
            RunError: It was opened before.
        """
        path = self.path / "test-opened.json"
        frozen = dict(chosen)
        if decisions:
            frozen[DECISION] = hashlib.sha256(json.dumps(decisions, sort_keys=True).encode()).hexdigest()
        content = json.dumps(frozen, sort_keys=True)
        if (self.path / "metrics.json").exists() or (path.exists() and path.read_text(encoding="utf-8") != content):
            raise RunError(
                "the test split was opened before: its numbers may have been looked at, so nothing may be chosen and "
                "measured again in this run; start a new one"
            )
        if decisions:
            self.write_json(DECISION, decisions)
        write_atomically(path, content)

    def _refuse_other(self, config: RunConfig) -> None:
        before, now = flatten(self.config().deciding()), flatten(config.deciding())
        differing = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        if differing:
            lines = ", ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in differing)
            raise RunError(f"{self.path} cannot be resumed with another configuration: {lines}")

    def _clear(self) -> None:
        # A kill may have left a file half written.
        names = {entry.name.removesuffix(".part") for entry in self.path.iterdir()}
        strangers = names - _OWN - _OWN_FOLDERS
        if strangers:
            raise RunError(f"{self.path} holds more than a run ({', '.join(sorted(strangers)[:5])}): not overwritten")
        for entry in self.path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def is_study(folder: Path) -> bool:
    """Whether a folder is that of a study, finished or not, and no run."""
    path = folder / "config.toml"
    return path.exists() and "study" in read_toml(path)


def is_leftover(path: Path) -> bool:
    """Whether a file is what a kill leaves of one that was being written, or a lock."""
    return path.suffix == ".part" or path.name == ".lock"


def make_folder(path: Path) -> None:
    """Make a folder for results, and those above it; one that is there already is taken.

    Raises:
        RunError: A file stands there or above, or the system does not allow it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"no folder can be made at {path}: {error.strerror}; name another place with --out, where nothing stands "
            "in the way and this account may write"
        ) from error


def refuse_blocked(folder: Path) -> None:
    """Refuse a folder that cannot be made because a file stands there or above, before anything is computed for it.

    Raises:
        RunError: With the file.
    """
    standing = next(place for place in (folder, *folder.parents) if place.exists())
    if not standing.is_dir():
        raise RunError(f"no folder can be made at {folder}: {standing} is a file; name another place with --out")


def write_atomically(path: Path, text: str) -> None:
    """Write so that a reader, or a run after a kill, sees the old file or the new one."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _rows(table: Table) -> Iterable[list[Any]]:
    names = list(table)
    spread = {name: np.asarray(table[name]).reshape(len(table[name]), -1) for name in names}
    widths = {name: column.shape[1] for name, column in spread.items()}
    yield [name if widths[name] == 1 else f"{name}_{i}" for name in names for i in range(widths[name])]
    for row in range(len(table[names[0]]) if names else 0):
        yield [value for name in names for value in spread[name][row].tolist()]


def _gathered(columns: Mapping[str, NDArray[Any]]) -> Table:
    spread: dict[str, list[NDArray[Any]]] = {}
    for name, column in columns.items():
        found = re.fullmatch(r"(.+)_\d+", name)
        spread.setdefault(found[1] if found else name, []).append(column)
    return {name: parts[0] if name in columns else np.stack(parts, axis=1) for name, parts in spread.items()}
