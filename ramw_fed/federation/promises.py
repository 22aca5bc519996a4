"""What the coordinator can tell of a charge: whether it is the one that follows from the run and from what it has seen.

That the noise is real, and that a center's ledger is the only one of its patients, only the center can see to.
"""

import math
from dataclasses import asdict
from typing import Any

from ramw_fed.config import RunConfig
from ramw_fed.federation.enrolment import Roll
from ramw_fed.federation.validation import PRIVACY, coded
from ramw_fed.knobs import required
from ramw_fed.privacy.account import Charge
from ramw_fed.privacy.accounting import claimed_epsilon
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.ledger_file import Witness
from ramw_fed.privacy.workload import noise_of, run_workloads

# A float that was solved on another machine.
_SAME = 1e-6


class Promises:
    """The charges of a run, center by center, as they are kept in its checkpoint.

    A record is ``asdict(Charge)`` of the latest release, with ``releases``: the events of all that came.
    """

    def __init__(self, config: RunConfig, roll: Roll, kept: dict[str, dict[str, Any]]) -> None:
        """Go on from what a checkpoint holds."""
        self._config, self._roll, self._kept = config, roll, kept

    def witness(self, center: str) -> Witness | None:
        """Return the last entry of a center's ledger that the coordinator was told of."""
        return Witness(**self._kept[center]["witness"]) if center in self._kept else None

    def keep(self, center: str, charge: Charge | None) -> None:
        """Note what an answer cost, before anything else of it is looked at: it is owed whether or not it is taken."""
        if charge is None:
            return
        before = self._kept.get(center, {"releases": {}, "witness": {"number": -1}})
        event = {name: getattr(charge, name) for name in ("sampling_rate", "noise_multiplier", "steps")}
        releases = {**before["releases"], str(charge.witness.number): event}
        newest = asdict(charge) if charge.witness.number > before["witness"]["number"] else before
        self._kept[center] = {**newest, "releases": releases}

    def check(self, center: str, charge: Charge | None, *, is_update: bool) -> None:
        """Raise unless a charge is what the run and the releases so far come to.

        Raises:
            UpdateError: It says less noise, less epsilon or more delta than that, or passes its own cap.
        """
        if charge is None:
            return
        most = required(self._config.delta, "delta") or 1 / max(charge.patients, 2)
        if charge.delta > most:
            raise coded(PRIVACY, f"delta is {charge.delta:.3g}; at most {most:.3g} is wanted")
        if charge.is_seeded and not self._roll.is_simulated:
            raise coded(PRIVACY, "noise came from a seed, outside of a simulation: nobody is protected")
        wanted = self._noise(center, charge) if is_update else charge.noise_multiplier
        if not math.isclose(charge.noise_multiplier, wanted, rel_tol=_SAME):
            raise coded(PRIVACY, f"the noise multiplier is {charge.noise_multiplier:g}; the run comes to {wanted:g}")
        self._check_sums(center, charge)

    def _check_sums(self, center: str, charge: Charge) -> None:
        seen = self._kept[center]["releases"]
        events = [Event(**event) for number, event in seen.items() if int(number) <= charge.witness.number]
        least = claimed_epsilon(events, charge.delta)
        if not charge.epsilon.claimed >= least * (1 - _SAME):
            raise coded(PRIVACY, f"epsilon is {charge.epsilon.claimed:.4g}; what came so far makes it {least:.4g}")
        if not charge.spent <= charge.cap * (1 + 10 * _SAME):
            raise coded(PRIVACY, f"{charge.spent:.4g} is spent, over the center's own cap of {charge.cap:.4g}")

    def _noise(self, center: str, charge: Charge) -> float:
        patients = {task: own[center].patients for task, own in self._roll.enrolments.items() if center in own}
        return noise_of(self._config, run_workloads(self._config, patients), charge.delta)
