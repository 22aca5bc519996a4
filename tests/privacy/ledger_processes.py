"""What several processes do to one ledger. Run as a script, it answers with one line of JSON.

Importing torch takes seconds, a hundred times over: so each process here is a fork of one that has imported, and opens
the ledger from the disk alone.
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ramw_fed.errors import BudgetError, LedgerError
from ramw_fed.privacy import ledger as ledger_module
from ramw_fed.privacy import ledger_file
from ramw_fed.privacy.accounting import Epsilons
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.ledger_file import POINTS

PATIENTS = ["a", "b", "c"]
RUN = "0123456789abcdef"


def events(steps: int) -> list[Event]:
    return [Event(sampling_rate=0.1, noise_multiplier=2.0, steps=steps)]


def count_in_tenths() -> None:
    def tenths(spent: Sequence[Event], delta: float) -> float:
        return sum(event.steps for event in spent) / 10

    ledger_module.claimed_epsilon = tenths
    ledger_module.epsilons = lambda spent, delta: Epsilons(*[tenths(spent, delta)] * 3)


def child(work: Callable[[], None]) -> int:
    """Do ``work`` in a process of its own and return that process's number."""
    number = os.fork()
    if number == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return number


def ending(number: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def die_at(point: str, skip: int) -> None:
    """From now on be killed at the named point, once it has been passed ``skip`` times."""
    left = skip

    def die(name: str) -> None:
        nonlocal left
        if name == point:
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    ledger_file._point = die


class Place:
    """A center's folder, with its ledger, the updates that it saved, and all that ever left it."""

    def __init__(self, folder: Path) -> None:
        self.ledgers = folder / "ledgers"
        self.network = folder / "network"
        self.updates = folder / "updates"
        self.updates.mkdir()
        self.network.touch()

    def open(self) -> Ledger:
        return Ledger.open(self.ledgers, "HU", PATIENTS)

    def round(self, number: int, point: str = "", skip: int = 0) -> None:
        """Do a round as a center does: reserve, train, save, release, send; die at a point."""
        if point:
            die_at(point, skip)
        ledger = self.open()
        update = self.updates / str(number)
        known = ledger.find(RUN, "erosion", number, "update")
        if known is None or known.left is None or not update.exists():
            known = ledger.reserve(RUN, "erosion", number, "update", events(2), again=bool(known and known.left))
            update.write_bytes(os.urandom(16))  # noise is never the same twice
        content = update.read_bytes()
        ledger.release(known, hashlib.sha256(content).hexdigest())
        with self.network.open("a") as file:
            file.write(f"{number} {content.hex()}\n")

    def sent(self) -> set[tuple[int, str]]:
        """What left: each round with each content that was seen of it."""
        lines = (line.split() for line in self.network.read_text().splitlines())
        return {(int(number), content) for number, content in lines}

    def spent(self) -> int:
        return sum(event.steps for event in self.open().events())


def kills(folder: Path) -> dict[str, Any]:
    """Kill a hundred rounds, at each point of reserving and releasing, and after each go on as a center would."""
    count_in_tenths()
    place = Place(folder)
    Ledger.init(place.ledgers, "HU", PATIENTS, cap=1000.0)
    killed, under, unsent, statuses = 0, [], 0, set()
    for number in range(1, 101):
        # Every fifth round loses its update file after it left: the one case that is charged twice.
        point, skip = POINTS[number % 10], number // 10 % 2
        statuses.add(ending(child(lambda n=number, p=point, s=skip: place.round(n, p, s))))
        killed += 1
        if place.spent() < 2 * len(place.sent()):
            under.append(number)
        unsent += number not in {sent for sent, _ in place.sent()}
        assert ending(child(lambda n=number: place.round(n))) == 0
        if number % 5 == 0:
            (place.updates / str(number)).unlink()
            assert ending(child(lambda n=number: place.round(n))) == 0
    rounds: dict[int, int] = {}
    for number, _ in place.sent():
        rounds[number] = rounds.get(number, 0) + 1
    return {
        "killed": killed,
        "statuses": sorted(statuses),
        "under-counted": under,
        "nothing left at first": unsent,
        "rounds": len(rounds),
        "contents": sum(rounds.values()),
        "spent": place.spent(),
    }


def carry_over(folder: Path) -> dict[str, Any]:
    """Kill ``init --carry-over`` of two ledgers at each point of each of its writes; afterwards do it again."""
    count_in_tenths()
    endings, wrong = [], []
    for skip in range(4):
        for point in POINTS:
            place = folder / f"{skip} {point}"
            for patients in (["a"], ["b"]):
                made = Ledger.init(place, "HU", patients, cap=100.0)
                made.reserve(RUN, "erosion", 1, "update", events(2))

            def join(place: Path = place, point: str = point, skip: int = skip) -> None:
                die_at(point, skip)
                Ledger.init(place, "HU", PATIENTS, cap=100.0, carry_over=True)

            endings.append(ending(child(join)))
            since = set()  # in one ledger the same release is charged once
            for patients in (["a"], ["b"], PATIENTS):
                try:
                    opened = Ledger.open(place, "HU", patients)
                    opened.reserve(RUN, "erosion", 2, "update", events(1))
                except LedgerError:  # closed, or not made yet
                    continue
                since.add(opened.name)
            joined = Ledger.init(place, "HU", PATIENTS, cap=100.0, carry_over=True)
            spent = sum(event.steps for event in joined.events())
            if spent != 4 + len(since):
                wrong.append([skip, point, spent, len(since)])
    return {"killed": endings.count(-signal.SIGKILL), "of": len(endings), "wrong": wrong}


def processes(folder: Path) -> dict[str, Any]:
    """Three rounds in three processes, and three in one, by the real accountants."""
    found = {}
    for name, groups in (("three", [[1], [2], [3]]), ("one", [[1, 2, 3]])):
        (folder / name).mkdir()
        place = Place(folder / name)
        Ledger.init(place.ledgers, "HU", PATIENTS, cap=3.0, delta=1e-3)
        for group in groups:
            assert ending(child(lambda numbers=group, where=place: [where.round(n) for n in numbers])) == 0  # type: ignore[misc]
        ledger = place.open()
        entries = [[one.epsilon.pld, one.epsilon.prv, one.epsilon.rdp] for one in ledger.reservations()]  # type: ignore[union-attr]
        last = ledger.epsilons()
        found[name] = [*entries, [last.pld, last.prv, last.rdp]]
    return found


def crowd(folder: Path) -> dict[str, Any]:
    """Four processes that spend as fast as they can, of which together only so much may."""
    count_in_tenths()
    Ledger.init(folder, "HU", PATIENTS, cap=2.0)
    gate, start = os.pipe()

    def spend(task: str) -> None:
        ledger = Ledger.open(folder, "HU", PATIENTS)
        os.close(start)
        os.read(gate, 1)
        for number in range(1, 100):
            try:
                ledger.reserve(RUN, task, number, "update", events(1))
            except BudgetError:
                os._exit(7)

    numbers = [child(lambda task=task: spend(task)) for task in "abcd"]
    os.close(start)  # all of them start at once
    endings = [ending(number) for number in numbers]
    found = Ledger.open(folder, "HU", PATIENTS).reservations()
    return {"endings": endings, "reserved": len(found), "keys": len({one.key for one in found})}


def same(folder: Path) -> dict[str, Any]:
    """Four processes that reserve the same release."""
    count_in_tenths()
    Ledger.init(folder, "HU", PATIENTS, cap=2.0)

    def reserve() -> None:
        Ledger.open(folder, "HU", PATIENTS).reserve(RUN, "erosion", 1, "update", events(1))

    numbers = [child(reserve) for _ in range(4)]
    return {
        "endings": [ending(number) for number in numbers],
        "events": len(Ledger.open(folder, "HU", PATIENTS).events()),
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
