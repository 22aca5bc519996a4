"""The pair of Flower apps that all engines run, unmodified: a coordinator and a center."""

import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from ramw_fed.center import Center
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import read_declared
from ramw_fed.errors import CohortError, ConfigError, PrivacyError, RamwFedError
from ramw_fed.federation import records
from ramw_fed.federation.coordinator import Recorder, coordinate
from ramw_fed.federation.kept_releases import KeptReleases
from ramw_fed.federation.opening import Opened, open_account, open_center, promised, run_tasks
from ramw_fed.federation.own_tensors import OwnTensors
from ramw_fed.federation.recorder import FolderRecorder
from ramw_fed.federation.records import Order, Registration, read_order
from ramw_fed.learning.weights_file import Card, in_precision
from ramw_fed.manifest import VERSION, versions
from ramw_fed.methods import Weights
from ramw_fed.privacy.account import UPDATE, VALIDATION, Account
from ramw_fed.privacy.ledger_book import Reservation
from ramw_fed.privacy.ledger_file import Witness
from ramw_fed.tasks.task import Table, Task

# A mean over one patient is that patient's: such a center answers, and takes no part.
_FEWEST_PATIENTS = 2

_LOG = logging.getLogger("ramw_fed.center")

Handler = Callable[[Message, Context], Message]
Answer = Callable[[Message, Order, Opened], Message]


def server_app(config: RunConfig | None = None, recorder: Recorder | None = None) -> ServerApp:
    """Return the coordinator.

    Args:
        config: The run; None reads it from Flower's run-config.
        recorder: Who keeps what comes out; None writes the run folder that the configuration names.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        resolved = config or read_declared(context.run_config)
        coordinate(grid, resolved, recorder or FolderRecorder.at(resolved, engine="flwr run"))

    return app


def client_app() -> ClientApp:
    """Return a center, for every engine and every center."""
    app = ClientApp()
    app.query()(_guarded(_enrol))
    app.train()(_guarded(_train))
    app.evaluate("validate")(_guarded(_validate))
    app.evaluate("measure")(_guarded(_measure))
    return app


def _enrol(message: Message, order: Order, opened: Opened) -> Message:
    return records.registration_answer(message, order, _register(opened, order.config))


def _train(message: Message, order: Order, opened: Opened) -> Message:
    task = _task(order)
    if order.config.is_private:
        packed = _paid(UPDATE, order, opened, partial(_train_privately, task, order, _own(opened)))
        return records.update_answer(message, order, packed)
    update = _own(opened).train(task, _all_weights(order, opened), order.ticket.round)
    if update.own:
        own = _own_tensors(order, opened)
        own.save(update.own, _card(task, order, opened))
        own.keep(task.name, (order.ticket.round, order.ticket.own, order.best_own))
    return records.update_answer(message, order, records.pack_update(update))


def _paid(what: str, order: Order, opened: Opened, make: Callable[[Account, Reservation], bytes]) -> bytes:
    """Return what is paid for; if it was before, and may have left, it is sent again and never made again."""
    account, ticket, kept = open_account(opened, order.config), order.ticket, _pinned(order, opened)
    last = order.config.training(ticket.task).num_rounds
    if not 1 <= ticket.round <= last:
        raise PrivacyError(f"round {ticket.round} of {ticket.task} is asked for, and the run has {last}")
    if order.witness:
        account.ledger.refuse_older(order.witness)
    reservation = account.reserve(ticket.run, ticket.task, ticket.round, what)
    packed = kept.load(reservation, ticket.base)
    if packed is None and (reservation.left is not None or kept.has_other(reservation)):
        reservation = account.reserve(ticket.run, ticket.task, ticket.round, what, again=True)
    opened.remember(Witness(reservation.number, reservation.sha256))
    if packed is None:
        packed = make(account, reservation)
        kept.save(reservation, ticket.base, packed)
    account.ledger.release(reservation, hashlib.sha256(packed).hexdigest())
    return packed


def _pinned(order: Order, opened: Opened) -> KeptReleases:
    """Return what the center keeps of a private run, whose configuration cannot change from order to order."""
    kept = KeptReleases(_state(order, opened), order.ticket.run, _own(opened).name)
    kept.pin(promised(order.config))
    return kept


def _train_privately(task: Task, order: Order, center: Center, account: Account, reservation: Reservation) -> bytes:
    rows, round_number = center.training_patients(task), order.ticket.round
    private = account.steps(task.name, rows, round_number, attempt=reservation.attempt)
    update = center.train(task, order.weights, round_number, private)
    return records.pack_update(replace(update, charge=account.charge(reservation)))


def _validate(message: Message, order: Order, opened: Opened) -> Message:
    center, task = _own(opened), _task(order)
    _refuse_to_tell(order, opened)
    if order.config.pays_to_validate and len(center.validation_patients(task)):
        packed = _paid(VALIDATION, order, opened, partial(_validate_privately, task, order, center))
    elif order.config.pays_to_validate:
        packed = records.pack_sums(center.name, {})  # nobody to ask, as was enrolled: nothing to pay
    else:
        packed = records.pack_sums(center.name, center.validate(task, _all_weights(order, opened)))
    return records.sums_answer(message, order, packed)


def _validate_privately(task: Task, order: Order, center: Center, account: Account, reservation: Reservation) -> bytes:
    private = account.sums(task.name, center.validation_patients(task), order.ticket.round, attempt=reservation.attempt)
    sums = center.validate(task, order.weights, private)
    return records.pack_sums(center.name, sums, account.charge(reservation, private.patients))


def _measure(message: Message, order: Order, opened: Opened) -> Message:
    center, task = _own(opened), _task(order)
    _refuse_to_tell(order, opened)
    weights = in_precision(_all_weights(order, opened), order.config.precision)
    table = center.measure(task, weights, order.split)
    if opened.peers:  # one machine simulates all centers: no border is crossed
        return records.table_answer(message, order, center.name, table)
    if opened.shares_values:
        return records.table_answer(message, order, center.name, without_names(table))
    training = order.config.training(task.name)
    scopes = task.summarize(table, center.description, training, order.config.resamples, order.config.seed)
    return records.summary_answer(message, order, center.name, scopes)


def _refuse_to_tell(order: Order, opened: Opened) -> None:
    """Validation and test patients are the center's patients too."""
    if order.config.is_private:
        _pinned(order, opened)
    if order.config.is_private and order.ticket.purpose == "measure" and order.split != "test":
        raise PrivacyError(f"patients of the {order.split} split are to be measured; only those of test may be")
    is_paid = order.config.pays_to_validate and order.ticket.purpose == "validate"
    if not order.config.is_evaluated and not is_paid:
        raise PrivacyError(
            f"the run protects patients and says evaluation = {order.config.evaluation!r}, so nothing of "
            f"{'test' if order.config.pays_to_validate else 'validation or test'} patients leaves; measure the weights "
            "here, with `ramw-fed evaluate`"
        )


def _all_weights(order: Order, opened: Opened) -> Weights:
    """Return the order's weights, and with them the center's own tensors that belong to them."""
    if not order.ticket.own:
        return order.weights
    return {**order.weights, **_own_tensors(order, opened).load(order.ticket.task, order.ticket.own)}


def _own_tensors(order: Order, opened: Opened) -> OwnTensors:
    return OwnTensors(_state(order, opened), order.ticket.run, _own(opened).name)


def _state(order: Order, opened: Opened) -> Path:
    if opened.state is None:
        raise ConfigError(
            f"out is {order.config.out!r}; each center keeps files of its own between rounds below the run folder, so "
            "its absolute path is wanted"
        )
    return opened.state


def _card(task: Task, order: Order, opened: Opened) -> Card:
    return Card(
        task=task.name,
        training=order.config.training(task.name).write(),
        description=opened.cohort.description,
        cohort=opened.cohort.sha256,
        round=order.ticket.round,
        version=VERSION,
    )


def without_names(table: Table) -> Table:
    """Return the table with patients and radiographs as numbers, in the same order: intervals stay what they were."""
    return {
        column: _ranks(np.asarray(values)) if column in ("patient", "name") else values
        for column, values in table.items()
    }


def _ranks(names: NDArray[np.str_]) -> NDArray[np.str_]:
    known, ranks = np.unique(names, return_inverse=True)
    width = len(str(len(known)))
    return np.array([f"{rank:0{width}d}" for rank in ranks], np.str_)


def _register(opened: Opened, config: RunConfig) -> Registration:
    center, tasks = opened.center, run_tasks(config)
    cohort, left_out = opened.cohort.sha256, opened.cohort.left_out_counts
    if center and config.is_private:
        account = open_account(opened, config)  # a center without its ledger refuses before the first round
        if not opened.peers:  # a hash of files, or a count of faults, would tell when a patient's record changed
            cohort, left_out = account.ledger.opaque("cohort"), {}
    if center and len({radiograph.patient for radiograph in center.cohort.radiographs}) < _FEWEST_PATIENTS:
        tasks = {}
    return Registration(
        center=center.name if center else "",
        centers=opened.peers,
        cohort=cohort,
        description=opened.cohort.description,
        versions=versions(),
        enrolments={name: center.enrol(task) for name, task in tasks.items()} if center else {},
        left_out=left_out,
    )


def _task(order: Order) -> Task:
    tasks = run_tasks(order.config)
    if order.ticket.task not in tasks:
        raise ConfigError(f"task {order.ticket.task!r} is not one of the run's: {', '.join(tasks)}")
    return tasks[order.ticket.task]


def _own(opened: Opened) -> Center:
    if opened.center is None:
        raise CohortError("this node stands for no center: the cohort has fewer centers than there are nodes")
    return opened.center


def _guarded(answer: Answer) -> Handler:
    """Read the order and open the center; the text of any error stays in this center's log."""

    @wraps(answer)
    def handle(message: Message, context: Context) -> Message:
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)  # two threads add in another order: other weights
            order = read_order(message)
            return answer(message, order, open_center(context.node_config, order.config))
        except Exception as error:
            opaque = secrets.token_hex(4)
            _LOG.exception("%s: the coordinator was told this number only", opaque)
            return records.refusal(message, error.code if isinstance(error, RamwFedError) else "E-CENTER", opaque)
        finally:
            torch.set_num_threads(threads)

    return handle


__all__ = ["client_app", "server_app"]
