"""All ledgers of one center: which of them is that of these patients, and when a new one may be made.

```
FOLDER/<center>/<16 random hexadecimal digits>.jsonl
```

No patient may be in two ledgers that can be spent from. Who joins patients of a ledger with others carries all that was
spent on any of them into the new one, and the old ones are closed: so nobody's spending begins anew.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ramw_fed.errors import LedgerError
from ramw_fed.privacy.ledger_book import CLOSE, Book, Header, Reservation
from ramw_fed.privacy.ledger_file import HEAD, SUFFIX, linked, locked, make_folder, read_chain, read_head, write_chain
from ramw_fed.wording import as_file_name

_NAME = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Shelf:
    """The ledgers of one center.

    Attributes:
        folder: Where those of all centers lie.
        center: Name.
    """

    folder: Path
    center: str

    @property
    def place(self) -> Path:
        """The center's own folder."""
        return self.folder / as_file_name(self.center)

    def path(self, ledger: str) -> Path:
        """Where the ledger of this name lies."""
        return self.place / f"{ledger}{SUFFIX}"

    def find(self, patients: Collection[str]) -> Book:
        """Return the ledger from which is spent whatever is computed on these patients.

        Raises:
            LedgerError: There is none, one is damaged, or a patient is also in another one.
        """
        if not self.place.is_dir():
            raise LedgerError(self._missing())
        with locked(self.place):
            books = self.books()
        mine = [book for book in books if not book.is_closed and book.covers(patients)]
        names = {book.header.ledger for book in mine}
        others = [book for book in books if book.header.ledger not in names and book.overlaps(patients)]
        if not mine:
            raise LedgerError(self._overlapping(others) if others else self._missing())
        if len(mine) > 1 or not all(book.is_closed and mine[0].carries(book) for book in others):
            raise LedgerError(
                f"the privacy ledgers in {self.place} contradict each other: some of these patients are in more than "
                "one; put the folder back from its latest copy, or join them by `ramw-fed privacy ledger init "
                "--carry-over`"
            )
        return mine[0]

    @property
    def is_empty(self) -> bool:
        """Whether there is no trace of a ledger."""
        return not self.place.is_dir() or not any(_NAME.fullmatch(path.stem) for path in self.place.iterdir())

    def has_any(self, patients: Collection[str]) -> bool:
        """Whether one of these patients is in a ledger.

        Raises:
            LedgerError: A ledger is damaged or lost.
        """
        if not self.place.is_dir():
            return False
        with locked(self.place):
            return any(book.overlaps(patients) for book in self.books())

    def add(self, patients: Collection[str], cap: float, delta: float, *, carry_over: bool) -> Book:
        """Make a ledger of these patients.

        Args:
            patients: Names.
            cap: Of the epsilon of all that will be spent, with what is carried over.
            delta: At which it is computed.
            carry_over: Take over what was spent on any of the patients, and close the ledgers that it comes from.

        Raises:
            LedgerError: One of them is in a ledger and nothing is to be carried over, or one is damaged or lost.
        """
        make_folder(self.place)
        with locked(self.place):
            overlapping = [book for book in self.books() if book.overlaps(patients)]
            if overlapping and not carry_over:
                raise LedgerError(self._overlapping(overlapping))
            header = Header.make(self.center, patients, cap, delta)
            lines = linked((), header.body())
            for one in _once(overlapping):
                lines = linked(lines, one.carried())
            # Closed before the new one exists: killed in between, nothing can be spent, and the same command goes on.
            for book in overlapping:
                if not book.is_closed:
                    closing = {"entry": CLOSE, "into": header.ledger}
                    write_chain(self.path(book.header.ledger), linked(book.lines, closing))
            write_chain(self.path(header.ledger), lines)
            return Book.read(lines, header.ledger, self.center)

    def books(self) -> list[Book]:
        """Return all ledgers, verified; wants the lock.

        Raises:
            LedgerError: One is damaged, another center's, or lost: whose patients it had nobody knows.
        """
        names = sorted(path.stem for path in self._files())
        heads = (path.stem for path in self.place.glob(f"*{HEAD}") if _NAME.fullmatch(path.stem))
        lost = [name for name in sorted(heads) if name not in names and self._was_spent_from(name)]
        if lost:
            raise LedgerError(
                f"a privacy ledger is lost: {self.place} has {lost[0]}{HEAD} and not {lost[0]}{SUFFIX}; put it back "
                "from a copy. Do not make a new one: what was spent stays spent"
            )
        return [Book.read(read_chain(self.path(name)), name, self.center) for name in names]

    def clear(self) -> int:
        """Remove the center's ledgers, damaged ones too, and return how many; only for patients who do not exist."""
        if not self.place.is_dir():
            return 0
        with locked(self.place):
            paths = list(self._files())
            heads = [path for path in self.place.glob(f"*{HEAD}") if _NAME.fullmatch(path.stem)]
            for path in (*paths, *heads):
                path.unlink()
        return len(paths)

    def _files(self) -> Iterator[Path]:
        return (path for path in self.place.glob(f"*{SUFFIX}") if _NAME.fullmatch(path.stem))

    def _was_spent_from(self, name: str) -> bool:
        """Whether a head without its file is more than what is left of an ``init`` that was killed."""
        try:
            return read_head(self.path(name)).number > 0
        except ValueError:
            return True

    def _missing(self) -> str:
        return (
            f"there is no privacy ledger of these patients of {self.center!r} in {self.folder}: put it back from a "
            "copy; or, if they were never trained on under privacy here, `ramw-fed privacy ledger init`"
        )

    def _overlapping(self, books: Collection[Book]) -> str:
        closed = sum(book.is_closed for book in books)
        return (
            f"some of these patients of {self.center!r}, or all, are in another ledger already ({len(books)} in "
            f"{self.place}, {closed} closed), and what was spent on them stays spent: `ramw-fed privacy ledger init "
            "--carry-over` makes a ledger that begins with it"
        )


def _once(books: Iterable[Book]) -> list[Reservation]:
    """Return what was spent from the ledgers; what two of them carry on from a third is there once."""
    return list({one.origin: one for book in books for one in book.reservations}.values())
