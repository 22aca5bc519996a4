"""The coordinator's run from the roll to the last measurement, over whatever grid carries its messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from flwr.serverapp import Grid

from ramw_fed.config import RunConfig
from ramw_fed.errors import ConfigError, FederationError, RunError
from ramw_fed.federation.checkpoint import State, start_state
from ramw_fed.federation.enrolment import Roll, call_roll
from ramw_fed.federation.measurements import Measured
from ramw_fed.federation.opening import run_tasks
from ramw_fed.federation.records import hash_weights
from ramw_fed.federation.strategy import RamwStrategy
from ramw_fed.learning.weights_file import in_precision
from ramw_fed.methods import Method, Weights, get_method
from ramw_fed.starting_weights import starting_weights
from ramw_fed.tasks.task import Task, settled


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a federation leaves in memory.

    Attributes:
        roll: Who took part.
        state: Last and best weights of each task.
        config: The run's configuration with the knobs that were chosen on validation.
        decisions: Task to what is to be said of that choice; only tasks that made one.
        chosen: Task to the weights that were measured: the best ones, in the precision in which they are kept.
        measured: Task to what the centers measured of the best weights on the test split; empty where it stayed closed.
        seconds: Wall time of the exchanges: ``train`` and ``evaluate``.
    """

    roll: Roll
    state: State
    config: RunConfig
    decisions: Mapping[str, Any]
    chosen: Mapping[str, Weights]
    measured: Mapping[str, Measured]
    seconds: Mapping[str, float]


class Recorder(Protocol):
    """Who keeps what comes out of a federation; knows nothing of Flower."""

    def resume(self) -> State | None:
        """Return where an earlier attempt stopped, or None to begin."""
        ...

    def watch(self, phase: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` answers of a phase have come."""
        ...

    def on_round(self, records: Sequence[Mapping[str, Any]], state: State) -> None:
        """Keep a complete round: a record of each task, and what resuming would need."""
        ...

    def open_test(self, chosen: Mapping[str, str], decisions: Mapping[str, Any]) -> None:
        """Allow the one measurement on the test split, or raise ``RunError``.

        Args:
            chosen: Task to the hash of its weights.
            decisions: Task to what else was chosen on validation; only tasks with such a choice.
        """
        ...

    def finish(self, outcome: Outcome) -> None:
        """Keep what came out."""
        ...


def coordinate(grid: Grid, config: RunConfig, recorder: Recorder) -> None:
    """Federate, choose each task's best round by validation, and measure it once on the test split.

    Raises:
        FederationError: Centers are missing, or too many rounds in a row failed; finished rounds are kept.
    """
    tasks = list(run_tasks(config).values())
    method = get_method(config.method)
    roll = call_roll(grid, config, [task.name for task in tasks])
    state = recorder.resume() or start_state(
        {task.name: starting_weights(task, roll.description, config) for task in tasks}, method
    )
    state.run = state.run or roll.run
    roll = replace(roll, run=state.run)
    opens_test = config.open_test and config.is_evaluated
    if opens_test:
        _refuse_without_own(roll, state, method)
    told = config
    for task in tasks:
        told = settled(told, task, (enrolment.counts for enrolment in roll.enrolments[task.name].values()))
    strategy = RamwStrategy(told, method, tasks, roll, state, recorder)
    if state.cohort not in ("", roll.cohort):
        raise RunError("the run to resume was on other radiographs: give the cohort that it began with, or start anew")
    state.cohort = roll.cohort
    if config.is_private and state.round == 0:
        recorder.on_round([], state)  # the run's name lasts: killed in its first round, it is not charged under another
    strategy.federate(grid)
    untrained = [name for name, task in sorted(state.tasks.items()) if not task.best_round]
    if untrained:
        raise FederationError(
            f"{', '.join(untrained)} had no round with min-centers = {config.min_centers} valid updates: nothing was "
            "learned and the test split stays closed. The last round's refusals, of which rounds.jsonl has all: "
            f"{strategy.refusals() or 'none'}"
        )
    chosen = {name: in_precision(task.best, config.precision) for name, task in sorted(state.tasks.items())}
    decided, decisions = _decide(config, tasks, state)
    strategy.config, _ = _decide(told, tasks, state)
    measured: Mapping[str, Measured] = {}
    if opens_test:
        measured = _measure(strategy, grid, chosen, decisions, recorder)
    evaluate = strategy.seconds.get("validate", 0.0) + strategy.seconds.get("measure", 0.0)
    seconds = {"train": strategy.seconds.get("train", 0.0), "evaluate": evaluate}
    recorder.finish(
        Outcome(
            roll=roll,
            state=state,
            config=decided,
            decisions=decisions,
            chosen=chosen,
            measured=measured,
            seconds=seconds,
        )
    )


def _decide(config: RunConfig, tasks: Sequence[Task], state: State) -> tuple[RunConfig, dict[str, Any]]:
    """Return the configuration to measure with, and task to what was chosen for it on validation."""
    decisions: dict[str, Any] = {}
    for task in tasks:
        own, before = state.tasks[task.name], config.training(task.name)
        after, words = task.decide(before, own.best_sums)
        if words:
            knobs = {name: value for name, value in after.write().items() if before.write().get(name) != value}
            decisions[task.name] = {**words, "knobs": knobs, "round": own.best_round}
        config = config.with_training(task.name, after)
    return config, decisions


def _measure(
    strategy: RamwStrategy,
    grid: Grid,
    chosen: Mapping[str, Weights],
    decisions: Mapping[str, Any],
    recorder: Recorder,
) -> Mapping[str, Measured]:
    recorder.open_test({name: hash_weights(weights) for name, weights in chosen.items()}, decisions)
    measured = strategy.measure(grid, chosen, "test")
    _refuse_missing(measured)
    return measured


def _refuse_without_own(roll: Roll, state: State, method: Method) -> None:
    """Where centers keep tensors of their own, one that trains nothing would have none to be measured with."""
    for name, task in sorted(state.tasks.items()):
        idle = sorted(set(roll.testers[name]) - set(roll.enrolments[name]))
        if task.own_start and idle:
            raise ConfigError(
                f"{', '.join(idle)} can be measured on {name} but has nothing to train it on, and method "
                f"{method.name!r} gives every center batch normalisation of its own; leave it out of centers and "
                "measure it afterwards by a rule: ramw-fed evaluate RUN --unseen-batch-norm RULE"
            )


def _refuse_missing(measured: Mapping[str, Measured]) -> None:
    missing = {center for one in measured.values() for center in one.missing}
    if missing:
        told = {f"{each.center}: {each.code} {each.reason}" for one in measured.values() for each in one.rejections}
        raise FederationError(
            f"{', '.join(sorted(missing))} did not measure the final weights ({'; '.join(sorted(told))}); "
            "resume to measure again"
        )
