"""What the lines of a privacy ledger mean: whose it is, what was spent, what left.

The header (entry 0) names no patient: of each it holds the HMAC-SHA256 (RFC 2104) under a random salt, which stands
beside it. Who has the file can still test a guess of a name, so the file is its owner's alone.
"""

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from ramw_fed.errors import LedgerError, PrivacyError
from ramw_fed.privacy.accounting import Epsilons
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.ledger_file import Line

VERSION = 1

# What a line is.
LEDGER, RESERVE, RELEASE, CARRY, CLOSE = "ledger", "reserve", "release", "carry", "close"


@dataclass(frozen=True, kw_only=True)
class Header:
    """Whose ledger it is, and what may be spent.

    Attributes:
        ledger: Random name, which is its file's too: a name made from the patients would let one test guesses.
        center: Name.
        salt: 32 random bytes, as hexadecimal digits.
        patients: Of each patient the HMAC of its name, sorted.
        cap: The epsilon that all of it together may not pass.
        delta: At which epsilon is computed.
    """

    ledger: str
    center: str
    salt: str
    patients: tuple[str, ...]
    cap: float
    delta: float

    @classmethod
    def make(cls, center: str, patients: Collection[str], cap: float, delta: float) -> Self:
        """Return the header of a new ledger."""
        salt = secrets.token_hex(32)
        salted = tuple(sorted(opaque(salt, name) for name in one_spelling(patients)))
        return cls(ledger=secrets.token_hex(8), center=center, salt=salt, patients=salted, cap=cap, delta=delta)

    def body(self) -> Line:
        """Return what stands in the line."""
        return {"entry": LEDGER, "version": VERSION, **asdict(self)}

    @classmethod
    def read(cls, line: Line) -> Self:
        """Read back what ``body`` wrote."""
        if line["entry"] != LEDGER or line["version"] != VERSION:
            raise ValueError(f"version {line['version']!r} of a ledger; this version of ramw-fed reads {VERSION}")
        names = ("ledger", "center", "salt", "cap", "delta")
        return cls(patients=tuple(line["patients"]), **{name: line[name] for name in names})

    def salted(self, patients: Iterable[str]) -> set[str]:
        """Return the patients as this header names them."""
        return {opaque(self.salt, name) for name in one_spelling(patients)}


def one_spelling(patients: Iterable[str]) -> set[str]:
    """Return names without what differs between two exports of one patient: case, width and blanks.

    Two patients whose names differ in nothing else are charged as one: more than they spent, never less.

    >>> sorted(one_spelling(["P1", "p1 ", "P2"]))
    ['p1', 'p2']
    """
    return {" ".join(unicodedata.normalize("NFKC", patient).casefold().split()) for patient in patients}


def opaque(salt: str, text: str) -> str:
    """Return HMAC-SHA256 of a text under a salt, both as hexadecimal digits.

    RFC 4231, test case 2:

    >>> opaque("Jefe".encode().hex(), "what do ya want for nothing?")[:16]
    '5bdcc146bf60754e'
    """
    return hmac.new(bytes.fromhex(salt), text.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Something that may be computed on the patients, and is spent whether or not it ever leaves.

    Attributes:
        number: Of its entry.
        sha256: Of its entry.
        origin: Hash of the entry that first charged it: its own, or one of a ledger that this one carries on.
        run: Opaque name of the run.
        task: Name of the task.
        round_number: Of the run.
        what: What would leave, such as ``"update"``.
        attempt: 1, and one more each time that it was charged anew.
        events: What is accounted for.
        is_seeded: Whether the noise came from a seed: a test's, and no privacy.
        epsilon: Of all that was spent up to here; None where it was carried over.
        left: Hash of what left, once it may have; None before.
    """

    number: int
    sha256: str
    origin: str
    run: str
    task: str
    round_number: int
    what: str
    attempt: int
    events: tuple[Event, ...]
    is_seeded: bool = False
    epsilon: Epsilons | None = None
    left: str | None = None

    @property
    def steps(self) -> int:
        """How often the patients' sums are released."""
        return sum(event.steps for event in self.events)

    @property
    def is_carried(self) -> bool:
        """Whether an earlier ledger of some of the patients charged it."""
        return self.origin != self.sha256

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What is charged once."""
        return self.run, self.task, self.round_number, self.what

    def carried(self) -> Line:
        """Return what stands in the line by which another ledger carries it on."""
        body = reservation_body(self.key, self.attempt, self.events, is_seeded=self.is_seeded)
        return {**body, "entry": CARRY, "origin": self.origin, "left": self.left}

    @classmethod
    def read(cls, line: Line, left: str | None) -> Self:
        """Read back a line of either kind."""
        epsilon = line.get("epsilon")
        return cls(
            number=line["number"],
            sha256=line["sha256"],
            origin=line.get("origin", line["sha256"]),
            run=line["run"],
            task=line["task"],
            round_number=line["round"],
            what=line["what"],
            attempt=line["attempt"],
            events=tuple(Event(**event) for event in line["events"]),
            is_seeded=line["seeded"],
            epsilon=Epsilons(**epsilon) if epsilon else None,
            left=line.get("left", left),
        )


def reservation_body(
    key: tuple[str, str, int, str], attempt: int, events: Sequence[Event], *, is_seeded: bool
) -> dict[str, Any]:
    """Return what stands in the line of a reservation, but for its epsilon."""
    run, task, round_number, what = key
    return {
        "entry": RESERVE,
        "run": run,
        "task": task,
        "round": round_number,
        "what": what,
        "attempt": attempt,
        "events": [asdict(event) for event in events],
        "seeded": is_seeded,
    }


@dataclass(frozen=True, kw_only=True)
class Book:
    """A ledger as it is read: nothing in it was altered.

    Attributes:
        lines: As they stand in the file.
        header: The first of them.
        reservations: In order, each with what left of it.
        releases: Number of a reservation to the line of its release.
        is_closed: Whether another ledger carries it on, so that nothing more may be spent from this one.
    """

    lines: tuple[Line, ...]
    header: Header
    reservations: tuple[Reservation, ...]
    releases: Mapping[int, Line]
    is_closed: bool

    @classmethod
    def read(cls, lines: tuple[Line, ...], name: str, center: str) -> Self:
        """Give the lines of the file ``name`` their meaning.

        Raises:
            LedgerError: It is another center's or another file's, or of another version.
        """
        try:
            header = Header.read(lines[0])
            releases = {line["of"]: line for line in lines if line["entry"] == RELEASE}
            spent = (line for line in lines if line["entry"] in (RESERVE, CARRY))
            reservations = tuple(Reservation.read(line, releases.get(line["number"], {}).get("left")) for line in spent)
        except (KeyError, TypeError, ValueError, PrivacyError) as error:
            raise LedgerError(
                f"the privacy ledger {name} is none that this version of ramw-fed writes ({error}); install the "
                "version that wrote it, or put it back from a copy"
            ) from error
        if header.center != center or header.ledger != name:
            raise LedgerError(
                f"the privacy ledger {name} of {center!r} holds that of {header.center!r} under the name "
                f"{header.ledger}: put back the right one, from a copy of this center's folder"
            )
        is_closed = any(line["entry"] == CLOSE for line in lines)
        return cls(lines=lines, header=header, reservations=reservations, releases=releases, is_closed=is_closed)

    @property
    def events(self) -> list[Event]:
        """All that was spent."""
        return [event for one in self.reservations for event in one.events]

    def latest(self, key: tuple[str, str, int, str]) -> Reservation | None:
        """Return the last reservation of ``key`` that was made here."""
        return next((one for one in reversed(self.reservations) if one.key == key and not one.is_carried), None)

    def overlaps(self, patients: Collection[str]) -> bool:
        """Whether a patient is in it."""
        return not self.header.salted(patients).isdisjoint(self.header.patients)

    def covers(self, patients: Collection[str]) -> bool:
        """Whether all patients are in it: then each is charged for all that is spent from it."""
        return self.header.salted(patients) <= set(self.header.patients)

    def carries(self, other: "Book") -> bool:
        """Whether all that was spent from ``other`` is spent from this one too."""
        return {one.origin for one in other.reservations} <= {one.origin for one in self.reservations}
