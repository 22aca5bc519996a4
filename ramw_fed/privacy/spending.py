"""What a ledger says was spent, run by run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from ramw_fed.privacy.accounting import Epsilons, claimed_epsilon, epsilons
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.ledger_book import Reservation


@dataclass(frozen=True, kw_only=True)
class RunSpending:
    """What one run spent.

    Attributes:
        run: Its opaque name, as its manifest has it.
        tasks: Names, sorted.
        rounds: Rounds, each counted once a task.
        steps: Noisy sums over patients.
        released: Reservations of which something left.
        reserved: Those of which nothing left yet; they are spent as well.
        epsilon: Of everything in the ledger up to the run's last reservation.
        is_seeded: Whether noise came from a seed: a test's, and no privacy.
        is_carried: Whether some of it was spent from an earlier ledger of some of the patients.
    """

    run: str
    tasks: tuple[str, ...]
    rounds: int
    steps: int
    released: int
    reserved: int
    epsilon: float
    is_seeded: bool
    is_carried: bool


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What was spent on the patients of one center.

    Attributes:
        center: Name.
        ledger: Name of the file.
        patients: How many are charged.
        cap: Epsilon that all of it may not pass.
        delta: At which epsilon is computed.
        epsilon: Of all of it, by three accountants.
        runs: In the order of their last reservations.
    """

    center: str
    ledger: str
    patients: int
    cap: float
    delta: float
    epsilon: Epsilons
    runs: tuple[RunSpending, ...]

    @classmethod
    def of(cls, ledger: Ledger) -> Self:
        """Sum a ledger up."""
        found = ledger.reservations()
        return cls(
            center=ledger.center,
            ledger=ledger.name,
            patients=ledger.num_patients,
            cap=ledger.cap,
            delta=ledger.delta,
            epsilon=epsilons([event for one in found for event in one.events], ledger.delta),
            runs=_by_run(found, ledger.delta),
        )

    @property
    def left(self) -> float:
        """How far the cap is above what was spent; what further steps cost is more than their own epsilon says."""
        return max(0.0, self.cap - self.epsilon.pld)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "runs": [asdict(run) for run in self.runs], "left": self.left}


def _by_run(found: Sequence[Reservation], delta: float) -> tuple[RunSpending, ...]:
    last = {one.run: place for place, one in enumerate(found)}
    runs = []
    for run in sorted(last, key=last.__getitem__):
        own = [one for one in found if one.run == run]
        until = [event for one in found[: last[run] + 1] for event in one.events]
        runs.append(
            RunSpending(
                run=run,
                tasks=tuple(sorted({one.task for one in own})),
                rounds=len({(one.task, one.round_number) for one in own}),
                steps=sum(one.steps for one in own),
                released=sum(one.left is not None for one in own),
                reserved=sum(one.left is None for one in own),
                epsilon=claimed_epsilon(until, delta),
                is_seeded=any(one.is_seeded for one in own),
                is_carried=any(one.is_carried for one in own),
            )
        )
    return tuple(runs)
