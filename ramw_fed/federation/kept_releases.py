"""Updates and validations that were paid for from a privacy ledger: kept before they leave, and sent again as they are.

```
FOLDER/<run>/<center>/<task>/update-00003-1-<base>.safetensors   round, attempt, first digits of the weights' hash
                             validation-00003-1-<base>.safetensors
```

To compute one anew would be a second release of the same patients. The file lasts before the ledger says that it left,
so that one that may have left is found, or charged anew.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ramw_fed.errors import PrivacyError
from ramw_fed.federation.records import refuse_no_run
from ramw_fed.learning.weights_file import write_lasting
from ramw_fed.privacy.ledger_book import Reservation
from ramw_fed.wording import as_file_name


@dataclass(frozen=True)
class KeptReleases:
    """The updates and validations that one center keeps of one run.

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

    def save(self, reservation: Reservation, base: str, packed: bytes) -> None:
        """Keep what comes of the weights of hash ``base``; it lasts when this returns."""
        path = self._path(reservation, base)
        write_lasting(path, packed)
        for older in path.parent.glob(f"{reservation.what}-*"):
            if older != path:
                older.unlink(missing_ok=True)

    def load(self, reservation: Reservation, base: str) -> bytes | None:
        """Return what was kept; None where there is nothing, or not what the ledger says has left."""
        path = self._path(reservation, base)
        packed = path.read_bytes() if path.exists() else None
        if packed is not None and reservation.left not in (None, hashlib.sha256(packed).hexdigest()):
            return None
        return packed

    def has_other(self, reservation: Reservation) -> bool:
        """Whether anything is kept of a reservation, also of other weights: the ledger may be older than what left."""
        pattern = f"{reservation.what}-{reservation.round_number:05d}-{reservation.attempt}-*.safetensors"
        return any(self._path(reservation, "").parent.glob(pattern))

    def pin(self, promise: str) -> None:
        """Hold the run to what its first order said.

        Raises:
            PrivacyError: It says something else now.
        """
        path = self.folder / self.run / as_file_name(self.center) / "configuration.sha256"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(promise, encoding="utf-8")
        if path.read_text(encoding="utf-8") != promise:
            raise PrivacyError(
                "the run's configuration is not that of its first order: what was promised to patients cannot change "
                "on the way; begin a new run"
            )

    def _path(self, reservation: Reservation, base: str) -> Path:
        name = f"{reservation.what}-{reservation.round_number:05d}-{reservation.attempt}-{base[:16]}.safetensors"
        return self.folder / self.run / as_file_name(self.center) / as_file_name(reservation.task) / name
