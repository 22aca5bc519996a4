"""What a center keeps between rounds and never sends: a file a task and round, found by the run's name.

```
FOLDER/<run>/<center>/<task>/round-00003.safetensors
```

A file is a function of its round: whoever serves the center, how often a round is asked for, and whether a process
dies in between do not matter. The coordinator names the round to go on from; a center that lacks it says so.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ramw_fed.errors import RunError, StateError
from ramw_fed.federation.records import hash_weights, refuse_no_run
from ramw_fed.learning.weights_file import Card, load_weights, save_weights
from ramw_fed.wording import as_file_name

_NAME = "round-{:05d}.safetensors"


@dataclass(frozen=True)
class OwnTensors:
    """The tensors that one center keeps of one run.

    Attributes:
        folder: Where those of all runs lie; made where missing.
        run: Opaque name of the run.
        center: Name.
    """

    folder: Path
    run: str
    center: str

    def __post_init__(self) -> None:
        """The run's name comes from another machine, and names a folder here."""
        refuse_no_run(self.run)

    def save(self, tensors: Mapping[str, Tensor], card: Card) -> None:
        """Keep the tensors as they stood after ``card.round``; they last before an update may leave."""
        notes = {"run": self.run, "center": self.center, "sha256": hash_weights(tensors)}
        save_weights(self._path(card.task, card.round), tensors, replace(card, notes=notes))

    def load(self, task: str, round_number: int) -> dict[str, Tensor]:
        """Return the tensors as they stood after a round.

        Raises:
            StateError: They are lost, damaged, or those of another run, center or round.
        """
        path = self._path(task, round_number)
        try:
            tensors, card = load_weights(path)
        except RunError as error:
            raise StateError(
                f"the tensors that {self.center!r} kept of {task} after round {round_number} are lost: {error}; put "
                f"{self.folder} back from a copy and resume, or start the run anew"
            ) from error
        found = (card.notes.get("run"), card.notes.get("center"), card.task, card.round)
        if found != (self.run, self.center, task, round_number):
            raise StateError(
                f"{path} holds what center {found[1]!r} kept of run {found[0]!r}, {found[2]} after round {found[3]}: "
                f"put back that of center {self.center!r}, run {self.run!r}, or start the run anew"
            )
        if card.notes.get("sha256") != hash_weights(tensors):
            raise StateError(f"{path} was changed after it was written: put it back from a copy, or start the run anew")
        return tensors

    def keep(self, task: str, rounds: Collection[int]) -> None:
        """Remove what was kept after other rounds than these."""
        names = {_NAME.format(number) for number in rounds}
        for path in self._path(task, 0).parent.glob("round-*"):
            if path.name not in names:
                path.unlink()

    def _path(self, task: str, round_number: int) -> Path:
        return self.folder / self.run / as_file_name(self.center) / task / _NAME.format(round_number)
