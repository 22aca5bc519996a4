"""One Flower strategy that runs any method over any tasks: rounds as Flower's hooks, results as plain data.

A round asks all centers of all tasks that still run at once, so that workers are never idle; answers are taken in the
order of (task, center), so that nobody's speed matters to the result.
"""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import count
from typing import Any, Protocol

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from ramw_fed.center import Update
from ramw_fed.config import RunConfig
from ramw_fed.data.radiograph import Split
from ramw_fed.errors import FederationError
from ramw_fed.federation import measurements, records, validation
from ramw_fed.federation.checkpoint import State
from ramw_fed.federation.enrolment import Roll
from ramw_fed.federation.exchange import exchange
from ramw_fed.federation.measurements import Measured
from ramw_fed.federation.packets import shapes
from ramw_fed.federation.promises import Promises
from ramw_fed.federation.records import MESSAGE_TYPES, Purpose, Ticket
from ramw_fed.federation.round_record import add_sums, center_record, is_learned, rejection_records
from ramw_fed.federation.validation import Question, Rejection, Sifted
from ramw_fed.knobs import required
from ramw_fed.methods.method import Method, Weights
from ramw_fed.privacy.account import Charge
from ramw_fed.privacy.workload import validation as plan_validation
from ramw_fed.privacy.workload import workload
from ramw_fed.tasks.task import Sums, Task, is_better

_PHASES: Mapping[Purpose, str] = {
    "train": "training, round",
    "validate": "validation, round",
    "measure": "measuring the test split",
}


class Listener(Protocol):
    """Who wants to know how a federation goes on; knows nothing of Flower."""

    def watch(self, phase: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` answers of a phase have come."""
        ...

    def on_round(self, records: Sequence[Mapping[str, Any]], state: State) -> None:
        """A round is complete: a record of each task, and what resuming would need."""
        ...


class RamwStrategy(Strategy):
    """Runs ``method`` over ``tasks`` at the centers on the ``roll``.

    State between hooks: ``state``, and the questions of the exchange that is under way.
    """

    def __init__(
        self, config: RunConfig, method: Method, tasks: Sequence[Task], roll: Roll, state: State, listener: Listener
    ) -> None:
        self.config = config
        self.method = method
        self.tasks = {task.name: task for task in tasks}
        self.roll = roll
        self.state = state
        self.listener = listener
        self.promises = Promises(config, roll, state.charges)
        self.seconds: dict[Purpose, float] = {}
        self._round = state.round
        self._questions: list[Question] = []
        self._records: dict[str, dict[str, Any]] = {}
        self._bytes_down: dict[tuple[str, str], int] = {}
        self._expected_s: dict[tuple[str, str, str], float] = {}

    def federate(self, grid: Grid) -> State:
        """Run the rounds that are left and return where the federation stands.

        Raises:
            FederationError: Too many rounds in a row had too few valid updates.
        """
        last = max(self.config.training(name).num_rounds for name in self.tasks)
        for round_number in range(self.state.round + 1, last + 1):
            orders = self.configure_train(round_number, self._arrays(), ConfigRecord(), grid)
            self.aggregate_train(round_number, self._exchange(grid, "train", orders))
            orders = self.configure_evaluate(round_number, self._arrays(), ConfigRecord(), grid)
            self.aggregate_evaluate(round_number, self._exchange(grid, "validate", orders))
            self._complete(round_number)
        return self.state

    def measure(self, grid: Grid, weights: Mapping[str, Weights], split: Split) -> dict[str, Measured]:
        """Return what all centers on the roll measure of ``weights`` (task to weights) on ``split``."""
        packed = {task: records.pack_weights(tensors) for task, tensors in weights.items()}
        orders = self._orders("measure", self.state.round, packed, split)
        replies = self._exchange(grid, "measure", orders)
        sifted = validation.sift(
            self._questions,
            replies,
            lambda reply, question: measurements.check_measurement(
                records.read_measurement(reply),
                question,
                self.tasks[question.ticket.task],
                self.roll.description,
                self.config.training(question.ticket.task),
            ),
        )
        return {task: measurements.of_task(sifted, task, self.roll.testers[task]) for task in weights}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Return an order for each task that still runs and each center on its roll."""
        self._records = {task: {"round": server_round, "task": task} for task in self._running(server_round)}
        return self._orders("train", server_round, self._packed(arrays, self._records))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check the updates, aggregate each task that has enough valid ones, and return all weights.

        Raises:
            FederationError: A task has failed ``max-failed-rounds`` rounds in a row, or a center has lost what it needs
                to go on.
        """
        starts = {task: self.state.tasks[task].weights for task in self._records}
        expected = {task: shapes(start) for task, start in starts.items()}

        def read(reply: Message, question: Question) -> Update:
            task = question.ticket.task
            enrolment = self.roll.enrolments[task][question.center]
            planned = workload(self.config.training(task), enrolment.patients) if self.config.is_private else None
            keep = partial(self.promises.keep, question.center)
            update = validation.read_checked_update(reply, question, expected[task], enrolment, planned, keep)
            self.promises.check(question.center, update.charge, is_update=True)
            self._expected_s["train", task, question.center] = update.seconds
            return update

        sifted = validation.sift(self._questions, replies, read)
        _refuse_lost(sifted.rejections)
        for task in self._records:
            self._aggregate(task, starts[task], sifted)
        return self._arrays(), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Return an order to validate for each task whose weights have moved."""
        moved = [task for task, record in self._records.items() if record["aggregated"] and self.config.is_validated]
        return self._orders("validate", server_round, self._packed(arrays, moved))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Add up the centers' sums and keep the weights of each task's best round."""
        sifted = validation.sift(self._questions, replies, self._read_sums)
        for task, record in self._records.items():
            record["rejections"] += rejection_records(sifted, task)
            own = {center: answer for (name, center), answer in sorted(sifted.answers.items()) if name == task}
            sums = {center: found for center, (found, _) in own.items()}
            if self.config.pays_to_validate:
                record["validation_privacy"] = {center: asdict(charge) for center, (_, charge) in own.items() if charge}
            record["validation"] = add_sums(sums)
            # Rounds are compared over the same patients or not at all: else who stays silent chooses the round.
            is_whole = set(sums) == set(self.roll.enrolments[task])
            self._keep_best(task, server_round, sums if is_whole else {})
        return None

    def refusals(self) -> str:
        """Return which centers' updates of the last round were refused, and under which code."""
        told = {
            f"{each['center']}: {each['code']}" for record in self._records.values() for each in record["rejections"]
        }
        return ", ".join(sorted(told))

    def _read_sums(self, reply: Message, question: Question) -> tuple[Sums, Charge | None]:
        """Return a center's sums, and what they cost where they are paid for."""
        task = question.ticket.task
        name, sums, charge = answer = records.read_sums(reply)
        examples = self.roll.enrolments[task][question.center].validation
        if not self.config.pays_to_validate:
            validation.refuse_other_charge(charge, None)
            return measurements.check_sums((name, sums), question, self.tasks[task], examples), None
        planned = plan_validation(self.config.training(task), examples)
        noise = required(self.config.evaluation_noise, "evaluation-noise")
        self.promises.keep(question.center, charge)
        found = measurements.check_noisy_sums(answer, question, self.tasks[task], planned, noise)
        self.promises.check(question.center, charge, is_update=False)
        return found, charge

    def summary(self) -> None:
        """Say nothing: the listener does."""

    def _complete(self, round_number: int) -> None:
        self.state.round = round_number
        self.listener.on_round([self._records[task] for task in sorted(self._records)], self.state)

    def _aggregate(self, task: str, start: Weights, sifted: Sifted[Update]) -> None:
        state, record = self.state.tasks[task], self._records[task]
        updates = {center: sifted.answers[name, center] for name, center in sorted(sifted.answers) if name == task}
        learned = [name for name in start if is_learned(name, start[name])]
        norms = {center: validation.update_norm(start, update, learned) for center, update in updates.items()}
        refused = validation.too_long(norms, self.config.max_norm_ratio)
        rejections = [
            Rejection(center=center, task=task, code=validation.NORM, reason=reason)
            for center, reason in refused.items()
        ]
        record["rejections"] = rejection_records(sifted, task) + [asdict(rejection) for rejection in rejections]
        valid = {center: update for center, update in updates.items() if center not in refused}
        record["aggregated"] = len(valid) >= self.config.min_centers
        mean: Weights = start
        if record["aggregated"]:
            shares = {center: float(self.roll.enrolments[task][center].patients) for center in valid}
            mean = self.method.aggregate(start, {center: update.weights for center, update in valid.items()}, shares)
            state.weights = dict(mean)
            state.failed_rounds = 0
            if state.own_start:
                state.own_rounds |= dict.fromkeys(valid, record["round"])
        record["centers"] = {
            center: center_record(start, update, mean, learned, norms[center])
            | {"bytes_down": self._bytes_down[task, center], "is_unmoved": norms[center] == 0}
            for center, update in valid.items()
        }
        if not record["aggregated"]:
            self._fail(task, len(valid))

    def _fail(self, task: str, num_valid: int) -> None:
        state, record = self.state.tasks[task], self._records[task]
        state.failed_rounds += 1
        record["reason"] = f"{num_valid} valid updates; min-centers is {self.config.min_centers}: the model stays"
        if state.failed_rounds >= self.config.max_failed_rounds:
            told = "; ".join(f"{each['center']}: {each['code']} {each['reason']}" for each in record["rejections"])
            raise FederationError(
                f"{task} had {state.failed_rounds} rounds in a row with too few valid updates "
                f"(round {record['round']}: {record['reason']}). {told}. "
                "Mend the centers named, then resume; finished rounds are kept"
            )

    def _keep_best(self, task: str, round_number: int, sums: Mapping[str, Sums]) -> None:
        state, record = self.state.tasks[task], self._records[task]
        quality = self.tasks[task].quality(record["validation"]) if record["aggregated"] and sums else float("nan")
        record["quality"] = quality if quality == quality else None
        if record["aggregated"] and is_better(record["quality"], state.best_quality):
            state.best, state.best_round, state.best_quality = state.weights, round_number, record["quality"]
            state.best_sums = {center: dict(own) for center, own in sums.items()}
            state.best_own_rounds = dict(state.own_rounds)
        record["best_round"] = state.best_round

    def _orders(
        self, purpose: Purpose, round_number: int, packed: Mapping[str, bytes], split: Split = "val"
    ) -> list[Message]:
        """Return the orders of an exchange, those that are expected to last longest first."""
        self._questions, messages = [], []
        self._round = round_number
        self._bytes_down = {}
        for task, blob in packed.items():
            base, state = records.fingerprint(blob), self.state.tasks[task]
            start = records.pack_weights(state.own_start) if state.own_start else b""
            own_rounds = state.best_own_rounds if purpose == "measure" else state.own_rounds
            for center in self.roll.testers[task] if purpose == "measure" else self.roll.enrolments[task]:
                nonce, own = secrets.token_hex(16), own_rounds.get(center, 0)
                ticket = Ticket(
                    run=self.roll.run, purpose=purpose, task=task, round=round_number, base=base, nonce=nonce, own=own
                )
                question = Question(node=self.roll.nodes[center], center=center, ticket=ticket)
                config = self.config.with_training(task, self.config.training(task).at(center))
                content = records.order_content(
                    ticket,
                    config,
                    split=split,
                    packed=blob,
                    own_start=b"" if own else start,
                    best_own=state.best_own_rounds.get(center, 0),
                    witness=self.promises.witness(center),
                )
                self._bytes_down[task, center] = len(blob) + (0 if own else len(start))
                message = Message(content, question.node, MESSAGE_TYPES[purpose], group_id=nonce)
                self._questions.append(question)
                messages.append((self._expected_seconds(purpose, task, center), message))
        return [message for _, message in sorted(messages, key=lambda pair: -pair[0])]

    def _expected_seconds(self, purpose: Purpose, task: str, center: str) -> float:
        enrolment = self.roll.enrolments[task].get(center)
        guess = float(enrolment.examples * self.config.training(task).local_epochs) if enrolment else 0.0
        return self._expected_s.get((purpose, task, center), guess)

    def _exchange(self, grid: Grid, purpose: Purpose, orders: Sequence[Message]) -> list[Message]:
        started, done = time.monotonic(), count(1)
        phase = f"{_PHASES[purpose]} {self._round}" if purpose != "measure" else _PHASES[purpose]
        self.listener.watch(phase, 0, len(orders))
        replies = exchange(
            grid, orders, self.config.round_timeout, lambda _: self.listener.watch(phase, next(done), len(orders))
        )
        self.seconds[purpose] = self.seconds.get(purpose, 0.0) + time.monotonic() - started
        return replies

    def _running(self, round_number: int) -> list[str]:
        return [name for name in self.tasks if round_number <= self.config.training(name).num_rounds]

    def _arrays(self) -> ArrayRecord:
        packed = {name: records.pack_weights(task.weights) for name, task in self.state.tasks.items()}
        return records.weights_record(packed)

    def _packed(self, arrays: ArrayRecord, tasks: Iterable[str]) -> dict[str, bytes]:
        blobs = records.read_weights_record(arrays)
        return {task: blobs[task] for task in tasks}


def _refuse_lost(rejections: Sequence[Rejection]) -> None:
    """A center without its own tensors could neither train nor validate again: to go on would be in vain."""
    lost = {each.center: each.reason for each in rejections if each.code == validation.STATE}
    if lost:
        told = "; ".join(f"{center}: {reason}" for center, reason in sorted(lost.items()))
        raise FederationError(
            f"what a center keeps of this run between rounds is lost or not this run's. {told}. Put it back from a "
            "copy, then resume; without it the run must be started anew"
        )


__all__ = ["Listener", "RamwStrategy"]
