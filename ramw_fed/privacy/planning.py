"""What a run would cost each center's patients, before it starts: noise, epsilon, and what that is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from ramw_fed.errors import PrivacyError
from ramw_fed.privacy.accounting import Epsilons, claimed_epsilon, epsilons
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.guarantee import Guarantee, guarantee, in_percent
from ramw_fed.privacy.workload import Workload, solve_beside
from ramw_fed.wording import counted

# exp(10) is 22,000: a test with a false positive in 22,000 could find every patient.
_LITTLE_SAID = 10.0


@dataclass(frozen=True, kw_only=True)
class Balance:
    """A center's ledger before and after a planned run, at the ledger's delta.

    Attributes:
        cap: Epsilon that all runs together may not pass.
        spent: Epsilon of all that was taken until now.
        after: Epsilon of that and the planned run together.
    """

    cap: float
    spent: float
    after: float


@dataclass(frozen=True, kw_only=True)
class CenterPlan:
    """What a run would draw from one center.

    Attributes:
        center: Name.
        patients: Of the center, whether they are trained on or not.
        workloads: Task to how it draws on its training patients.
        target: Epsilon that was asked for; None: the noise was.
        delta: Of the guarantee.
        noise_multiplier: Deviation of the noise in units of the clip norm, the same for all tasks.
        epsilons: Of all tasks and rounds of the run together.
        balance: What the center's ledger says; None where there is no ledger.
        validations: What the run's validations cost, where they are paid for.
    """

    center: str
    patients: int
    workloads: Mapping[str, Workload]
    target: float | None
    delta: float
    noise_multiplier: float
    epsilons: Epsilons
    balance: Balance | None = None
    validations: tuple[Event, ...] = ()

    @cached_property
    def guarantee(self) -> Guarantee:
        """What it is worth to one patient."""
        return guarantee(self.events, self.delta)

    @property
    def events(self) -> list[Event]:
        """All that the run would draw."""
        return [*_events(self.workloads, self.noise_multiplier), *self.validations]

    @property
    def epsilon_of_validations(self) -> float:
        """What the run's validations would cost by themselves."""
        return claimed_epsilon(self.validations, self.delta)

    def noise_per_step(self, task: str) -> float:
        """Deviation of the noise in one direction of the averaged gradient, in units of the clip norm."""
        return self.noise_multiplier / _expected(self.workloads[task])

    @property
    def warnings(self) -> list[str]:
        """What makes the guarantee empty, or the training."""
        return [*self._of_balance(), *self._of_delta(), *self._of_epsilon(), *self._of_sampling(), *self._of_noise()]

    def _of_balance(self) -> list[str]:
        if self.balance is None or self.balance.after <= self.balance.cap:
            return []
        return [
            f"the center's ledger would refuse the last rounds: {self.balance.spent:.3g} of its cap "
            f"{self.balance.cap:g} is spent, and after this run it would be {self.balance.after:.3g}; take fewer "
            "rounds or more noise"
        ]

    def _of_delta(self) -> list[str]:
        if self.delta * self.patients < 1:
            return []
        return [
            f"delta {self.delta:.2g} is at least 1 / {self.patients} patients: publishing the whole record of one "
            f"patient drawn at random would meet such a guarantee; take 1 / (10 patients) = "
            f"{1 / (10 * self.patients):.2g} or less"
        ]

    def _of_epsilon(self) -> list[str]:
        if self.epsilons.claimed <= _LITTLE_SAID:
            return []
        found = in_percent(self.guarantee.largest_sensitivity(0.01))
        return [
            f"epsilon {self.epsilons.claimed:.3g} says little in the worst case: an attack that names 1 % of the "
            f"others wrongly may find {found} of the patients; `ramw-fed privacy audit` shows what attacks reach"
        ]

    def _of_sampling(self) -> list[str]:
        return [
            f"{task}: {counted(work.patients, 'patient')}, and each is in every step, so that sampling adds no "
            "privacy; take fewer patients-per-step"
            for task, work in self.workloads.items()
            if work.sampling_rate == 1
        ]

    def _of_noise(self) -> list[str]:
        return [
            f"{task}: nothing is likely to be learned: in each direction a step's noise ({self.noise_multiplier:.3g} "
            f"clip norms) is as large as all that its patients ({_expected(work):.3g} on average) can add up to if "
            "they agree; take more patients-per-step, fewer steps or a larger epsilon"
            for task, work in self.workloads.items()
            if self.noise_per_step(task) >= 1
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "center": self.center,
            "patients": self.patients,
            "target_epsilon": self.target,
            "delta": self.delta,
            "noise_multiplier": self.noise_multiplier,
            "epsilon": self.epsilons.as_dict(),
            "epsilon_of_validations": self.epsilon_of_validations,
            "ledger": asdict(self.balance) if self.balance else None,
            "tasks": {
                task: {
                    "patients": work.patients,
                    "sampling_rate": work.sampling_rate,
                    "rounds": work.rounds,
                    "steps_per_round": work.steps,
                    "steps": work.steps * work.rounds,
                    "noise_per_step": self.noise_per_step(task),
                }
                for task, work in self.workloads.items()
            },
            "attacker": self.guarantee.as_dict(),
            "meaning": self.guarantee.sentences(),
            "warnings": self.warnings,
        }


def plan_center(
    workloads: Mapping[str, Workload],
    *,
    center: str,
    patients: int,
    target: float | None = None,
    noise_multiplier: float | None = None,
    delta: float | None = None,
    validations: Sequence[Event] = (),
) -> CenterPlan:
    """Return what a run would draw from one center.

    Args:
        workloads: Task to how it draws.
        center: Name.
        patients: Of the center.
        target: Epsilon that everything together does not pass, which solves the noise.
        noise_multiplier: In place of ``target``.
        delta: By default 1 / (10 patients).
        validations: What validating costs, inside the target.

    Raises:
        PrivacyError: A number is out of its range, both or none of target and noise are given, or the validations leave
            nothing of the target.
    """
    delta = delta if delta is not None else 1 / (10 * patients)
    if target is not None and noise_multiplier is None:
        total = [(work.sampling_rate, work.steps * work.rounds) for work in workloads.values()]
        noise = solve_beside(total, target, delta, validations)
    elif target is None and noise_multiplier is not None:
        noise = noise_multiplier
    else:
        raise PrivacyError("give either the epsilon that must not be passed or the noise multiplier, one of them")
    return CenterPlan(
        center=center,
        patients=patients,
        workloads=workloads,
        target=target,
        delta=delta,
        noise_multiplier=noise,
        epsilons=epsilons([*_events(workloads, noise), *validations], delta),
        validations=tuple(validations),
    )


def with_ledger(plan: CenterPlan, *, cap: float, delta: float, before: Sequence[Event]) -> CenterPlan:
    """Return the plan with what a ledger of this cap and delta, from which ``before`` was taken, would say to it."""
    spent, after = claimed_epsilon(before, delta), claimed_epsilon([*before, *plan.events], delta)
    return replace(plan, balance=Balance(cap=cap, spent=spent, after=after))


def _events(workloads: Mapping[str, Workload], noise_multiplier: float) -> list[Event]:
    return [work.event(noise_multiplier, rounds=work.rounds) for work in workloads.values()]


def plan_steps(
    patients: int, patients_per_step: float, steps: int, *, target: float, delta: float | None = None
) -> CenterPlan:
    """Return what so many steps at a center of so many patients would cost, without a run's configuration.

    Args:
        patients: Of the center (at least 1).
        patients_per_step: Drawn on average (above 0); with more than there are, all are in every step.
        steps: Over all rounds (at least 1).
        target: Epsilon that is not passed.
        delta: By default 1 / (10 patients).

    Raises:
        PrivacyError: A number is out of its range.
    """
    for name, value, least in (("patients", patients, 1), ("steps", steps, 1)):
        if value < least:
            raise PrivacyError(f"{name} is {value!r}; at least {least} is wanted")
    if not patients_per_step > 0:
        raise PrivacyError(f"the patients per step are {patients_per_step!r}; a number above 0 is wanted")
    rate = min(1.0, patients_per_step / patients)
    work = Workload(patients=patients, sampling_rate=rate, steps=steps, rounds=1)
    return plan_center({"training": work}, center="center", patients=patients, target=target, delta=delta)


def _expected(work: Workload) -> float:
    """Return how many patients a step draws on average."""
    return work.sampling_rate * work.patients
