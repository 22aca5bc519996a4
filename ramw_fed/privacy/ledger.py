"""The privacy ledger: what was ever spent on a center's patients, over all studies, runs, tasks and trials.

Before patients are touched a center *reserves* what a release would cost; before the release leaves, it is marked
*released*. Both are on disk when the call returns, so whatever left was charged, wherever the process dies. A
reservation of which nothing left may be used again at no charge; all reservations count as spent.
"""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

from ramw_fed.errors import BudgetError, LedgerError, PrivacyError
from ramw_fed.privacy.accounting import Epsilons, claimed_epsilon, epsilons
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.ledger_book import RELEASE, Book, Reservation, one_spelling, opaque, reservation_body
from ramw_fed.privacy.ledger_file import Witness, linked, locked, read_chain, write_chain
from ramw_fed.privacy.ledger_folder import Shelf

# A plan that spends exactly the cap must not fail by the last digits of its noise multiplier.
CAP_TOLERANCE = 1e-6

Key = tuple[str, str, int, str]


class Ledger:
    """One center's ledger of one set of patients. Several processes may hold it: each call takes the folder's lock."""

    def __init__(self, shelf: Shelf, book: Book) -> None:
        """Hold the ledger that ``open`` or ``init`` found."""
        self._shelf = shelf
        self._header = book.header

    @classmethod
    def init(
        cls,
        folder: Path,
        center: str,
        patients: Collection[str],
        *,
        cap: float,
        delta: float | None = None,
        carry_over: bool = False,
    ) -> Self:
        """Make the ledger of patients on whom nothing was ever spent here; of others with ``carry_over`` only.

        Args:
            folder: Where the ledgers of all centers lie; made where missing, for its owner alone.
            center: Name.
            patients: Names; they are kept as salted hashes.
            cap: Epsilon that everything together may not pass.
            delta: By default 1 / (10 patients).
            carry_over: Charge all patients for what was spent on any of them, and close those ledgers.

        Raises:
            LedgerError: A patient is in a ledger already, or one is damaged or lost.
            PrivacyError: The cap or delta is no such number.
        """
        count = len(one_spelling(patients))
        delta = 1 / (10 * count) if delta is None and count else delta
        _refuse_senseless(count, cap, delta)
        shelf = Shelf(folder, center)
        return cls(shelf, shelf.add(patients, float(cap), float(delta or 0), carry_over=carry_over))

    @classmethod
    def open(cls, folder: Path, center: str, patients: Collection[str]) -> Self:
        """Return the ledger that has all of these patients; it may have more, whom it charges too.

        Raises:
            LedgerError: It is missing, altered, cut off, older than its head, or another center's; or a patient is in
                another ledger. The text says how to restore it.
        """
        if not patients:
            raise LedgerError(f"{center!r} has no patients, so that there is nothing to charge; check its data")
        shelf = Shelf(folder, center)
        return cls(shelf, shelf.find(patients))

    @property
    def name(self) -> str:
        """Random name of the file."""
        return self._header.ledger

    @property
    def center(self) -> str:
        """Name of the center."""
        return self._header.center

    @property
    def num_patients(self) -> int:
        """How many patients it charges."""
        return len(self._header.patients)

    @property
    def cap(self) -> float:
        """Epsilon that everything together may not pass."""
        return self._header.cap

    @property
    def delta(self) -> float:
        """At which epsilon is computed."""
        return self._header.delta

    def opaque(self, text: str) -> str:
        """Return a name for ``text``, such as a patient's, that means nothing outside of this ledger."""
        return opaque(self._header.salt, text)

    def reserve(
        self,
        run: str,
        task: str,
        round_number: int,
        what: str,
        events: Sequence[Event],
        *,
        seeded: bool = False,
        again: bool = False,
    ) -> Reservation:
        """Charge what a release will cost, before anything is computed for it.

        Args:
            run: Opaque name of the run.
            task: Name of the task.
            round_number: Of the run.
            what: What would leave, such as ``"update"``.
            events: What it costs.
            seeded: Whether the noise comes from a seed.
            again: What left, or may have, is lost or would differ: charge it anew.

        Returns:
            A new reservation; or the earlier one of the same release, if nothing left of it.

        Raises:
            BudgetError: The cap would be passed; the file stays as it is.
            LedgerError: The release left already, or is reserved for other events, and ``again`` is not set; or the
                ledger cannot be read or written.
        """
        key = (run, task, round_number, what)
        self._prepare(events)
        if not any(event.steps for event in events):
            raise PrivacyError(f"{what} of round {round_number} of {task} is to cost nothing; name its events")
        with locked(self._shelf.place):
            book = self._read()
            _refuse_closed(book)
            earlier = book.latest(key)
            if earlier and not again:
                _refuse_other(earlier, events)
            if earlier and not again and earlier.left is None and earlier.events == tuple(events):
                return earlier
            spent = self._afford(book, events)
            body = reservation_body(key, earlier.attempt + 1 if earlier else 1, events, is_seeded=seeded)
            lines = linked(book.lines, {**body, "epsilon": asdict(spent)})
            write_chain(self._path, lines)
            return Reservation.read(lines[-1], None)

    def release(self, reservation: Reservation, sha256: str) -> Witness:
        """Note what is about to leave; only when this has returned may it.

        Args:
            reservation: As ``reserve`` gave it.
            sha256: Of the bytes.

        Returns:
            What a coordinator may keep, to find out later that a center has put an older ledger back.

        Raises:
            LedgerError: Something else left of this reservation before, or the ledger cannot be read or written.
        """
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise LedgerError(f"{sha256[:70]!r} is no SHA-256: 64 hexadecimal digits are wanted")
        with locked(self._shelf.place):
            book = self._read()
            if not any(one.sha256 == reservation.sha256 for one in book.reservations):
                raise LedgerError("this ledger does not know the reservation: an older copy was put back; restore it")
            earlier = book.releases.get(reservation.number)
            if earlier and earlier["left"] != sha256:
                raise LedgerError(
                    f"{reservation.what} of round {reservation.round_number} of {reservation.task} was released "
                    "before, with other bytes: send those again, or reserve it again, which costs anew"
                )
            if earlier:
                return Witness(earlier["number"], earlier["sha256"])
            _refuse_closed(book)
            body = {"entry": RELEASE, "of": reservation.number, "left": sha256}
            return write_chain(self._path, linked(book.lines, body))

    def find(self, run: str, task: str, round_number: int, what: str) -> Reservation | None:
        """Return the last reservation of a release, with the hash of what left; None where it was never reserved."""
        return self.read().latest((run, task, round_number, what))

    def refuse_older(self, witness: Witness) -> None:
        """Refuse if this ledger does not hold what a coordinator has seen of it.

        A ledger that carries on the reservation which the coordinator has seen is no older.

        Raises:
            LedgerError: It is an older copy, or was made anew.
        """
        book = self.read()
        lines = book.lines
        is_carried = any(one.origin == witness.sha256 for one in book.reservations)
        is_here = witness.number < len(lines) and lines[witness.number]["sha256"] == witness.sha256
        if not is_here and not is_carried:
            raise LedgerError(
                f"the privacy ledger of {self.center!r} is older than this run, or was made anew: the run has seen "
                f"entry {witness.number} of it, which is not in it (it ends at {len(lines) - 1}). Put {self._path} "
                "and its head back from the latest copy; what was spent stays spent"
            )

    def events(self) -> list[Event]:
        """Return all that was spent, released or only reserved."""
        return self.read().events

    def reservations(self) -> tuple[Reservation, ...]:
        """Return all reservations in order, with what was carried over."""
        return self.read().reservations

    def epsilons(self) -> Epsilons:
        """Return what all of it amounts to, by three accountants."""
        return epsilons(self.events(), self.delta)

    def witness(self) -> Witness:
        """Return the last entry."""
        last = self.read().lines[-1]
        return Witness(last["number"], last["sha256"])

    def read(self) -> Book:
        """Return the whole ledger as it is on disk now.

        Raises:
            LedgerError: It was altered, cut off, replaced, or cannot be read.
        """
        with locked(self._shelf.place):
            return self._read()

    @property
    def _path(self) -> Path:
        return self._shelf.path(self.name)

    def _read(self) -> Book:
        book = Book.read(read_chain(self._path), self.name, self.center)
        if book.header != self._header:
            raise LedgerError(f"the privacy ledger {self._path} was replaced while it was in use; restore it")
        return book

    def _prepare(self, events: Sequence[Event]) -> None:
        """Compute before the lock what takes seconds: inside, it is remembered, unless another process came first."""
        wanted = [*self.read().events, *events]
        if claimed_epsilon(wanted, self.delta) <= self.cap:
            epsilons(wanted, self.delta)

    def _afford(self, book: Book, events: Sequence[Event]) -> Epsilons:
        """Return what would be spent, or refuse."""
        wanted = claimed_epsilon([*book.events, *events], self.delta)
        # "not" so that a NaN is refused.
        if not wanted <= self.cap * (1 + CAP_TOLERANCE):
            spent = claimed_epsilon(book.events, self.delta) if book.events else 0.0
            raise BudgetError(
                f"budget exhausted: the cap of {self.center!r} is epsilon {self.cap:g} at delta {self.delta:g}, "
                f"{spent:.4f} of it is spent, and this would make it {wanted:.4f}; take fewer steps or rounds, or more "
                "noise, or stop here. Nothing was read or charged"
            )
        return epsilons([*book.events, *events], self.delta)


def _refuse_senseless(count: int, cap: float, delta: float | None) -> None:
    if not count:
        raise PrivacyError("a ledger of no patients is wanted; check the center's data")
    if not (cap > 0 and math.isfinite(cap)):
        raise PrivacyError(f"the cap on epsilon is {cap!r}; a finite number above 0 is wanted")
    if delta is None or not 0 < delta < 1 / count:
        # At 1 / n a mechanism that publishes one patient at random is private.
        raise PrivacyError(f"delta is {delta!r}; above 0 and below 1 / {count}, the patients, is wanted")


def _refuse_closed(book: Book) -> None:
    if book.is_closed:
        raise LedgerError(
            f"the privacy ledger of {book.header.center!r} was closed while it was in use: another one carries on what "
            "was spent; resume the run, or start it anew, and that one is opened"
        )


def _refuse_other(earlier: Reservation, events: Sequence[Event]) -> None:
    named = f"{earlier.what} of round {earlier.round_number} of {earlier.task} in this run"
    if earlier.left is not None:
        raise LedgerError(f"{named} was released already: send the same bytes again; if they are lost, it costs anew")
    if earlier.events != tuple(events):
        raise LedgerError(
            f"{named} is reserved with other noise, steps or sampling: a setting was changed in the middle of a run. "
            "Put it back, or start a new run"
        )
