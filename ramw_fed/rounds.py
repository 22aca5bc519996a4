"""Rounds of federation in one process and without a network: the reference that every engine must equal."""

from collections.abc import Sequence

from torch import Tensor

from ramw_fed.center import Center
from ramw_fed.errors import FederationError
from ramw_fed.methods.method import Method, Weights
from ramw_fed.tasks.task import Task, settled


def federate(
    centers: Sequence[Center], method: Method, task: Task, weights: Weights, num_rounds: int
) -> dict[str, Tensor]:
    """Return the weights after ``num_rounds`` rounds from ``weights``.

    A center weighs as many as it has patients to train on; one without any takes no part.
    """
    enrolments = {center.name: center.enrol(task) for center in centers}
    shares = {name: float(enrolment.patients) for name, enrolment in enrolments.items()}
    taking_part = [center for center in centers if shares[center.name] > 0]
    if not taking_part:
        raise FederationError(f"no center has examples to train {task.name}; check the cohort's labels")
    for center in taking_part:
        center.config = settled(center.config, task, (one.counts for one in enrolments.values()))
    current = dict(weights)
    for round_number in range(1, num_rounds + 1):
        ends = {center.name: center.train(task, current, round_number).weights for center in taking_part}
        current |= method.aggregate(
            {name: tensor for name, tensor in current.items() if method.is_shared(name)}, ends, shares
        )
    return current
