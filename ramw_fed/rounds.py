"""Rounds of federation in one process and without a network: the reference that every engine must equal."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import safetensors.torch
from torch import Tensor

from ramw_fed.center import Center, Update
from ramw_fed.errors import FederationError
from ramw_fed.methods.method import Method, Weights
from ramw_fed.privacy.account import Account
from ramw_fed.tasks.task import Task, settled


@dataclass(frozen=True, kw_only=True)
class Federated:
    """What rounds end with.

    Attributes:
        weights: The shared tensors: all of them, unless the method leaves some at the centers.
        own: Center to the tensors that never left it.
    """

    weights: dict[str, Tensor]
    own: Mapping[str, Weights]

    def at(self, center: str) -> dict[str, Tensor]:
        """Return all tensors of the network that ``center`` uses."""
        return {**self.weights, **self.own[center]}


def federate(
    centers: Sequence[Center],
    method: Method,
    task: Task,
    weights: Weights,
    num_rounds: int,
    accounts: Mapping[str, Account] | None = None,
) -> Federated:
    """Return what ``num_rounds`` rounds from ``weights`` end with.

    A center weighs as many as it has patients to train on; one without any takes no part.

    Args:
        centers: All of them, or some.
        method: How they are one.
        task: What to learn.
        weights: To start from.
        num_rounds: At least one.
        accounts: Center to its account, where the run protects patients.

    Raises:
        ConfigError: The method does not fit the task's network.
        FederationError: No center has anything to train on.
    """
    method.refuse_unfit(task.name, list(weights))
    enrolments = {center.name: center.enrol(task) for center in centers}
    shares = {name: float(enrolment.patients) for name, enrolment in enrolments.items()}
    taking_part = [center for center in centers if shares[center.name] > 0]
    if not taking_part:
        raise FederationError(f"no center has examples to train {task.name}; check the cohort's labels")
    for center in taking_part:
        center.config = settled(center.config, task, (one.counts for one in enrolments.values()))
    shared, start = method.part(weights)
    own: dict[str, Weights] = {center.name: start for center in taking_part}
    for round_number in range(1, num_rounds + 1):
        updates = {
            center.name: _train(center, task, {**shared, **own[center.name]}, round_number, accounts)
            for center in taking_part
        }
        shared = method.aggregate(shared, {name: update.weights for name, update in updates.items()}, shares)
        own = {name: update.own for name, update in updates.items()}
    return Federated(weights=shared, own=own)


def _train(
    center: Center, task: Task, weights: Weights, round_number: int, accounts: Mapping[str, Account] | None
) -> Update:
    if accounts is None:
        return center.train(task, weights, round_number)
    account = accounts[center.name]
    reservation = account.reserve("reference", task.name, round_number)
    private = account.steps(task.name, center.training_patients(task), round_number)
    update = center.train(task, weights, round_number, private)
    account.ledger.release(reservation, hashlib.sha256(safetensors.torch.save(update.weights)).hexdigest())
    return update
