"""What a run would cost each center's patients, as a table and in words for a terminal."""

from collections.abc import Sequence

from rich.table import Table

from ramw_fed.privacy.planning import CenterPlan

_NUMBERS = ("patients", "delta", "noise", "epsilon", "PRV", "RDP")
_OF_TASK = ("sampling rate", "steps", "noise a step")


def plan_page(plans: Sequence[CenterPlan]) -> list[Table | str]:
    """Return a table of all centers, what the largest epsilon means, and each center's warnings."""
    worst = max(plans, key=lambda plan: plan.epsilons.claimed)
    of = f" (the largest epsilon, at {worst.center})" if len(plans) > 1 else ""
    meaning = [f"What it means{of}:", *(f"- {sentence}" for sentence in worst.guarantee.sentences())]
    remarks = [f"Warning: {plan.center}: {warning}" for plan in plans for warning in plan.warnings]
    return [_table(plans), *_validating(worst), *meaning, *remarks]


def _validating(plan: CenterPlan) -> list[str]:
    releases = sum(event.steps for event in plan.validations)
    noise = ", ".join(sorted({f"{event.noise_multiplier:g}" for event in plan.validations}))
    alone = f"epsilon {plan.epsilon_of_validations:.4f} by themselves (at {plan.center})"
    return [f"Of it, {releases} paid validations with noise {noise}: {alone}."] if releases else []


def _table(plans: Sequence[CenterPlan]) -> Table:
    table = Table(
        title="noise and what it guarantees each patient, all rounds of all tasks together",
        caption="noise: in clip norms, of the patients' summed gradient; a step: of their mean. epsilon: by PLD, "
        "which is claimed; PRV and RDP beside it",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("center")
    for name in _NUMBERS:
        table.add_column(name, justify="right")
    table.add_column("task", no_wrap=True)
    for name in _OF_TASK:
        table.add_column(name, justify="right")
    for plan in plans:
        for number, task in enumerate(plan.workloads):
            table.add_row(*(_numbers(plan) if number == 0 else [""] * (1 + len(_NUMBERS))), *_of_task(plan, task))
    return table


def _numbers(plan: CenterPlan) -> list[str]:
    found = plan.epsilons
    epsilons = [f"{value:.4f}" for value in (found.pld, found.prv, found.rdp)]
    return [plan.center, str(plan.patients), f"{plan.delta:.3g}", f"{plan.noise_multiplier:g}", *epsilons]


def _of_task(plan: CenterPlan, task: str) -> list[str]:
    work = plan.workloads[task]
    return [task, f"{work.sampling_rate:.4f}", str(work.steps * work.rounds), f"{plan.noise_per_step(task):.3f}"]
