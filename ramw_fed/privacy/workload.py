"""How a run will draw on a center's patients: how often, with which noise. All of it follows from public numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ramw_fed.config import RunConfig, TrainingConfig
from ramw_fed.errors import BudgetError, PrivacyError
from ramw_fed.knobs import required
from ramw_fed.privacy.accounting import claimed_epsilon, solve_noise
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.randomness import Randomness
from ramw_fed.privacy.sgd import PatientSteps


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One task at one center.

    Attributes:
        patients: Patients with a training example; a public number (docs/privacy.md).
        sampling_rate: Probability with which a patient is in a step.
        steps: Steps of a round.
        rounds: Rounds of the run.
    """

    patients: int
    sampling_rate: float
    steps: int
    rounds: int

    def event(self, noise_multiplier: float, *, rounds: int = 1) -> Event:
        """Return what ``rounds`` rounds release."""
        return Event(sampling_rate=self.sampling_rate, noise_multiplier=noise_multiplier, steps=self.steps * rounds)


def workload(training: TrainingConfig, patients: int) -> Workload:
    """Return how a run draws on ``patients`` (at least one) with these knobs.

    An epoch is as many steps as draw each patient once on average; a center with fewer patients than
    ``patients-per-step`` has all of them in every step.
    """
    rate = min(1.0, required(training.patients_per_step, "patients-per-step") / patients)
    steps = max(1, round(training.local_epochs / rate))
    return Workload(patients=patients, sampling_rate=rate, steps=steps, rounds=training.num_rounds)


def patient_steps(
    drawn: Workload,
    training: TrainingConfig,
    patients: NDArray[np.str_],
    *,
    noise_multiplier: float,
    randomness: Randomness,
) -> PatientSteps:
    """Return the private steps of a round over the rows of these ``patients``."""
    return PatientSteps(
        patients,
        sampling_rate=drawn.sampling_rate,
        steps=drawn.steps,
        noise_multiplier=noise_multiplier,
        clip_norm=required(training.clip_norm, "clip-norm"),
        randomness=randomness,
        # Most patients in one piece, as small batches are slow; still less memory than a plain step of all.
        rows_at_once=2 * training.batch_size,
    )


def run_workloads(config: RunConfig, patients: Mapping[str, int]) -> dict[str, Workload]:
    """Return, by task in the order of names, how the run draws on a center with so many patients for each."""
    return {task: workload(config.training(task), patients[task]) for task in sorted(patients) if patients[task] > 0}


def validation(training: TrainingConfig, patients: int) -> Workload:
    """Return how a paid validation draws on ``patients``: all of them, once a round."""
    return Workload(patients=patients, sampling_rate=1.0, steps=1, rounds=training.num_rounds)


def validations(config: RunConfig, tasks: Iterable[str]) -> list[Event]:
    """Return what validating every round of these tasks costs a center; nothing where validation is not paid for.

    A center without validation patients is never asked, and keeps its share.
    """
    if not config.pays_to_validate:
        return []
    noise = required(config.evaluation_noise, "evaluation-noise")
    rounds = [config.training(task).num_rounds for task in sorted(tasks)]
    return [Event(sampling_rate=1.0, noise_multiplier=noise, steps=number) for number in rounds]


def noise_of(config: RunConfig, workloads: Mapping[str, Workload], delta: float) -> float:
    """Return the noise multiplier of a center: the run's, or the one with which all tasks end at ``target-epsilon``.

    The target is of updates and paid validations together.

    Raises:
        PrivacyError: No noise reaches the target.
    """
    given = required(config.noise_multiplier, "noise-multiplier")
    if given:
        return given
    total = [(one.sampling_rate, one.steps * one.rounds) for _, one in sorted(workloads.items())]
    target, fixed = required(config.target_epsilon, "target-epsilon"), validations(config, workloads)
    return solve_beside(total, target, delta, fixed)


def solve_beside(workloads: Sequence[tuple[float, int]], target: float, delta: float, fixed: Sequence[Event]) -> float:
    """Return the noise with which (sampling rate, steps) reach a target together with validations of a fixed cost.

    Raises:
        BudgetError: No noise reaches the target.
        PrivacyError: The validations alone leave nothing of it.
    """
    try:
        return solve_noise(workloads, target, delta, before=fixed)
    except BudgetError as error:
        if not fixed:
            raise
        rounds, noise = sum(event.steps for event in fixed), max(event.noise_multiplier for event in fixed)
        raise PrivacyError(
            f"{rounds} paid validations with evaluation-noise = {noise:g} cost epsilon "
            f"{claimed_epsilon(fixed, delta):.4g} at delta {delta:.3g}, which leaves nothing of target-epsilon = "
            f"{target:g} to train with; take more evaluation-noise, fewer rounds, a larger target, or evaluation 'none'"
        ) from error
