"""The door to the test patients: opened when everything is chosen, once a model, never for one that saw them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramw_fed.errors import StudyError
from ramw_fed.run_folder import write_atomically
from ramw_fed.studies.store import Trained
from ramw_fed.studies.training import Training

_FILE = "opened.json"


@dataclass
class Door:
    """Keeps ``opened.json`` of a study: what was chosen before, and which center's test patients judged which model.

    Attributes:
        folder: The study's.
    """

    folder: Path

    @property
    def path(self) -> Path:
        """The record."""
        return self.folder / _FILE

    def freeze(self, chosen: Mapping[str, Any]) -> None:
        """State what was chosen without the test split; from here on nothing may be chosen otherwise.

        Args:
            chosen: Anything that JSON holds.

        Raises:
            StudyError: The test split was opened after another choice.
        """
        before = self._read()
        if before and before["chosen"] != chosen:
            raise StudyError(
                f"{self.path} says that test patients were opened after another choice: their numbers may have been "
                "looked at, so nothing can be chosen again in this folder; start a study in a new one"
            )
        if not before:
            self._write({"chosen": dict(chosen), "opened": {}, "measured": {}})

    def open(self, wanted: Sequence[tuple[str, str, str]]) -> None:
        """Record that these models meet these centers' test patients, before they do.

        Args:
            wanted: (key of the run, center, hash of the weights).

        Raises:
            StudyError: Nothing was frozen yet, or a run met this center with other weights.
        """
        record = self._read()
        if not record:
            raise StudyError("test patients are asked for before rounds and knobs are chosen; freeze the choice first")
        for key, center, weights in wanted:
            before = record["opened"].setdefault(f"{key}/{center}", weights)
            if before != weights:
                raise StudyError(
                    f"the test patients of {center} judged other weights of run {key} before; a model is judged once"
                )
        self._write(record)

    def seal(self, measured: Mapping[str, str]) -> None:
        """Record what was measured, ``key/center`` to the hash of its table; once recorded it stays.

        Raises:
            StudyError: A table is another one than before.
        """
        record = self._read()
        for name, digest in sorted(measured.items()):
            if record["measured"].setdefault(name, digest) != digest:
                raise StudyError(
                    f"measured/{name} was changed after it was measured; remove that folder, and it is measured anew"
                )
        self._write(record)

    def opened(self) -> dict[str, str]:
        """Return ``key/center`` to the hash of the weights that were judged."""
        record = self._read()
        return dict(record["opened"]) if record else {}

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            record = json.loads(self.path.read_bytes())
            return {name: dict(record[name]) for name in ("chosen", "opened", "measured")}
        except (ValueError, KeyError, TypeError) as error:
            raise StudyError(f"{self.path} cannot be read ({error}); put it back from a copy") from error

    def _write(self, record: Mapping[str, Any]) -> None:
        write_atomically(self.path, json.dumps(record, sort_keys=True, indent=1) + "\n")


def refuse_touched(held_out: str, training: Training, trained: Trained) -> None:
    """Refuse a run in which the center held out took part in any way.

    Raises:
        StudyError: It is named among the centers that train, answered in a round, or was in the pool.
    """
    if held_out in training.centers or held_out in trained.enrolled:
        raise StudyError(
            f"{held_out} is held out, yet {training.arm} ({training.task}, seed {training.seed}) trained on it: "
            "its test patients stay closed for this model"
        )
