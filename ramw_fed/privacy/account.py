"""A center's account in one run: its ledger, what the run will draw from it, and what is paid for.

The order is what keeps the guarantee, whenever a process dies: reserve (lasting, before data are touched), train, keep
the bytes (lasting), release (lasting), send. A validation that is paid for goes the same way as an update.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ramw_fed.config import RunConfig
from ramw_fed.errors import PrivacyError
from ramw_fed.knobs import required
from ramw_fed.privacy.accounting import Epsilons, claimed_epsilon, epsilons
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.ledger_book import Reservation
from ramw_fed.privacy.ledger_file import Witness
from ramw_fed.privacy.randomness import from_environment
from ramw_fed.privacy.sgd import PatientSteps
from ramw_fed.privacy.sums import PatientSums
from ramw_fed.privacy.workload import Workload, noise_of, patient_steps, run_workloads, validation

UPDATE = "update"
"""What of a round is charged: the weights that leave."""

VALIDATION = "validation"
"""What else is: noisy sums over validation patients.

They are other people than those who are trained on, so that each of them bears one of the two only. The ledger charges
both to all of its patients: sequential composition, which is never too little.
"""


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What a center says of the privacy of one release. All of it follows from public numbers and its ledger.

    Attributes:
        patients: Training patients of the task, N; of a validation, those that were validated.
        sampling_rate: With which each was drawn.
        steps: Steps of this round.
        noise_multiplier: Deviation of the noise in units of the most that a patient adds: of an update, the clip norm.
        delta: At which epsilon is computed.
        epsilon: Of all that this run has taken from this center's patients up to this release, over all tasks.
        spent: Claimed epsilon of all that was ever taken from them, at the ledger's delta.
        cap: Claimed epsilon that the center never passes.
        is_seeded: Whether noise and sampling came from a seed: a test's, and no privacy.
        witness: The entry of the ledger that charged it: an older copy of the ledger lacks it.
    """

    patients: int
    sampling_rate: float
    steps: int
    noise_multiplier: float
    delta: float
    epsilon: Epsilons
    spent: float
    cap: float
    is_seeded: bool
    witness: Witness


class Account:
    """What one run may draw from one center's ledger."""

    def __init__(self, ledger: Ledger, config: RunConfig, center: str, patients: Mapping[str, int]) -> None:
        """Plan the run's draws.

        Args:
            ledger: The center's own.
            config: The run's.
            center: Name.
            patients: Task to the center's training patients.

        Raises:
            PrivacyError: The run's target cannot be reached.
        """
        self.ledger = ledger
        self.config = config
        self.center = center
        self.delta = min(required(config.delta, "delta") or 1.0, ledger.delta)
        self.workloads: Mapping[str, Workload] = run_workloads(config, patients)
        self.noise_multiplier = noise_of(config, self.workloads, self.delta)

    def event(self, task: str, what: str = UPDATE) -> Event:
        """Return what one round of ``task`` releases: its update, or its validation."""
        if what == VALIDATION:
            noise = required(self.config.evaluation_noise, "evaluation-noise")
            return validation(self.config.training(task), 0).event(noise)
        return self.workloads[task].event(self.noise_multiplier)

    def reserve(
        self, run: str, task: str, round_number: int, what: str = UPDATE, *, again: bool = False
    ) -> Reservation:
        """Charge a release before any of its data is touched; one that was charged and never left costs nothing more.

        Args:
            run: Opaque name of the run.
            task: Name.
            round_number: From 1.
            what: The round's update, or its validation.
            again: What left is lost, or would be of other weights: charge it anew.

        Returns:
            A reservation; one that ``left`` was paid for and sent before: its bytes may be sent again.

        Raises:
            BudgetError: The cap would be passed; the ledger stays as it is.
            LedgerError: The ledger cannot be trusted or written.
        """
        earlier = None if again else self.ledger.find(run, task, round_number, what)
        if earlier is not None and earlier.left is not None:
            return earlier
        events, seeded = [self.event(task, what)], from_environment().is_seeded
        return self.ledger.reserve(run, task, round_number, what, events, seeded=seeded, again=again)

    def steps(self, task: str, patients: NDArray[np.str_], round_number: int, *, attempt: int = 1) -> PatientSteps:
        """Return the private steps of a round, as :func:`ramw_fed.learning.training.train_round` takes them.

        Args:
            task: Name.
            patients: ``(rows,)`` whose each training row is.
            round_number: From 1.
            attempt: How often this round was charged: fresh noise each time, also where it comes from a seed.

        Raises:
            PrivacyError: They are not the patients that were planned for.
        """
        planned, training = self.workloads[task], self.config.training(task)
        found = len(np.unique(patients))
        if found != planned.patients:
            raise PrivacyError(f"{task} was planned for {planned.patients} patients, and {found} are there")
        return patient_steps(
            planned,
            training,
            patients,
            noise_multiplier=self.noise_multiplier,
            randomness=from_environment(task, round_number, self.center, attempt),
        )

    def sums(self, task: str, patients: NDArray[np.str_], round_number: int, *, attempt: int = 1) -> PatientSums:
        """Return what adds up a round's validation with noise, as :meth:`ramw_fed.center.Center.validate` takes it.

        Args:
            task: Name.
            patients: ``(rows,)`` whose each validation row is.
            round_number: From 1.
            attempt: As in :meth:`steps`.
        """
        return PatientSums(
            len(np.unique(patients)),
            noise_multiplier=self.event(task, VALIDATION).noise_multiplier,
            randomness=from_environment(task, round_number, self.center, attempt, VALIDATION),
        )

    def charge(self, reservation: Reservation, patients: int | None = None) -> Charge:
        """Return what is said of the release that ``reservation`` paid for.

        Args:
            reservation: As ``reserve`` gave it.
            patients: Who were validated; None: who are trained on.
        """
        event = self.event(reservation.task, reservation.what)
        until = [one for one in self.ledger.reservations() if one.number <= reservation.number]
        of_run = [event for one in until if one.run == reservation.run for event in one.events]
        return Charge(
            patients=self.workloads[reservation.task].patients if patients is None else patients,
            sampling_rate=event.sampling_rate,
            steps=event.steps,
            noise_multiplier=event.noise_multiplier,
            delta=self.delta,
            epsilon=epsilons(of_run, self.delta),
            spent=claimed_epsilon([event for one in until for event in one.events], self.ledger.delta),
            cap=self.ledger.cap,
            is_seeded=reservation.is_seeded,
            witness=Witness(reservation.number, reservation.sha256),
        )
