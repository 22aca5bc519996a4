"""What a federation leaves in its run folder, in every engine."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ramw_fed.config import RunConfig
from ramw_fed.errors import ConfigError, RunError
from ramw_fed.federation.checkpoint import State, load_checkpoint, save_checkpoint
from ramw_fed.federation.coordinator import Outcome
from ramw_fed.federation.measurements import Measured
from ramw_fed.federation.opening import run_tasks, simulated_state
from ramw_fed.federation.own_tensors import OwnTensors
from ramw_fed.federation.privacy_record import privacy_record
from ramw_fed.federation.records import hash_weights
from ramw_fed.learning.weights_file import Card, in_precision
from ramw_fed.manifest import VERSION, git_commit, own_peak_mb, summarize_seconds, versions, workers_of
from ramw_fed.metrics.scopes import Scope, macro
from ramw_fed.progress import Watch, nobody
from ramw_fed.report import scalars
from ramw_fed.run_folder import DECISION, RunFolder
from ramw_fed.starting_weights import given_weights, notes_of_start
from ramw_fed.tasks.task import Table, join_tables


class FolderRecorder:
    """Writes rounds and checkpoints as they come, then weights, predictions, metrics and manifest."""

    def __init__(self, folder: RunFolder, config: RunConfig, watch: Watch = nobody, *, engine: str = "") -> None:
        self.folder = folder
        self.config = config
        self.watch = watch
        self.engine = engine or config.engine
        self.outcome: Outcome | None = None
        self._started = time.monotonic()

    @classmethod
    def at(cls, config: RunConfig, *, engine: str = "") -> "FolderRecorder":
        """Open the run folder that the configuration names, to begin a run or to go on with it.

        Args:
            config: The run.
            engine: What carries its messages, for the manifest; empty for what the configuration says.

        Raises:
            ConfigError: ``out`` is no absolute path.
        """
        if not Path(config.out).is_absolute():
            raise ConfigError(f"out is {config.out!r}; the coordinator runs elsewhere, so an absolute path is wanted")
        return cls(RunFolder.create(Path(config.out), config, resume=True), config, engine=engine)

    def resume(self) -> State | None:
        """Return the last complete round's state, or None; drops what was logged after it."""
        state = load_checkpoint(self.folder.checkpoints, self.config.deciding())
        self.folder.keep_rounds(state.round if state else 0)
        scalars.keep_rounds(self.folder.curves, state.round if state else 0)
        own = simulated_state(self.config)
        if state is None and own is not None:  # what centers keep of a run that never came to a checkpoint
            shutil.rmtree(own, ignore_errors=True)
        return state

    def on_round(self, records: Sequence[Mapping[str, Any]], state: State) -> None:
        """Log the round, then make it the one to resume from."""
        for record in records:
            self.folder.append_round(record)
            scalars.append(self.folder.curves, record)
        save_checkpoint(self.folder.checkpoints, state, self.config.deciding())

    def open_test(self, chosen: Mapping[str, str], decisions: Mapping[str, Any]) -> None:
        """Open the test split for these weights and decisions."""
        self.folder.open_test_split(chosen, decisions)

    def finish(self, outcome: Outcome) -> None:
        """Write models, predictions, metrics and manifest."""
        self.outcome = outcome
        if outcome.decisions:
            self.folder.write_json(DECISION, outcome.decisions)
        for name, weights in outcome.chosen.items():
            self.folder.save_model(weights, self._card(name, outcome))
            if outcome.roll.is_simulated:
                self._save_own(name, outcome)
        for name, measured in outcome.measured.items():
            if measured.tables:
                self.folder.write_predictions(name, join(measured.tables))
        self.folder.write_json("manifest.json", self._manifest(outcome))
        self.folder.write_json("metrics.json", metrics(outcome))

    def _save_own(self, name: str, outcome: Outcome) -> None:
        """Take together what the simulated centers kept of the weights that were measured."""
        state, kept = outcome.state.tasks[name], simulated_state(self.config)
        for center in outcome.roll.enrolments[name] if state.own_start else ():
            round_number, own = state.best_own_rounds.get(center, 0), state.own_start
            if round_number and kept is not None:
                own = OwnTensors(kept, outcome.roll.run, center).load(name, round_number)
            card = self._card(name, outcome)
            card = replace(card, notes={**card.notes, "center": center})
            self.folder.save_own(center, in_precision(own, self.config.precision), card)

    def _card(self, task: str, outcome: Outcome) -> Card:
        return Card(
            task=task,
            training=outcome.config.training(task).write(),
            description=outcome.roll.description,
            cohort=outcome.roll.cohort,
            round=outcome.state.tasks[task].best_round,
            version=VERSION,
            notes=_protection(self.config, outcome.state) | notes_of_start(run_tasks(self.config)[task], self.config),
        )

    def _start(self, name: str) -> dict[str, Any]:
        """Return what the run started a task from, other than seeded weights; nothing where that is gone by now."""
        try:
            found = given_weights(run_tasks(self.config)[name], self.config)
        except RunError:
            return {}
        return {"sha256": hash_weights(found[0]), "kind": found[1].description.kind} if found else {}

    def _manifest(self, outcome: Outcome) -> dict[str, Any]:
        rounds = self.folder.rounds()
        privacy = privacy_record(self.config, outcome.state.charges, rounds, outcome.roll.nodes)
        return {
            **({"privacy": privacy} if privacy else {}),
            "run": outcome.roll.run,
            "start": {name: start for name in outcome.chosen if (start := self._start(name))},
            "versions": versions(),
            "git_commit": git_commit(),
            "cohort": {"sha256": outcome.roll.cohort, "kind": outcome.roll.description.kind},
            "engine": self.engine,
            "seed": self.config.seed,
            "device": ", ".join(sorted({one["device"] for record in rounds for one in record["centers"].values()})),
            "centers": {
                task: {center: asdict(enrolment) for center, enrolment in enrolled.items()}
                for task, enrolled in outcome.roll.enrolments.items()
            },
            "left_out": dict(outcome.roll.left_out),
            "seconds": summarize_seconds(time.monotonic() - self._started, outcome.seconds),
            "workers": workers_of(rounds),
            # Under Flower's own commands nobody sees all processes: `peak_rss_mb` of all is written by `ramw-fed run`.
            "coordinator_peak_rss_mb": own_peak_mb(),
        }


def _protection(config: RunConfig, state: State) -> dict[str, Any]:
    """Return what a file of weights says of the patients' privacy; nothing where they are not protected."""
    if not config.is_private:
        return {}
    worst = max(state.charges.values(), key=lambda charge: charge["epsilon"]["pld"], default=None)
    return {
        "privacy": config.privacy,
        "evaluation": config.evaluation,
        "is_seeded": any(charge["is_seeded"] for charge in state.charges.values()),
        **({"epsilon": worst["epsilon"]["pld"], "delta": worst["delta"]} if worst else {}),
    }


def metrics(outcome: Outcome) -> dict[str, Any]:
    """Return ``metrics.json``: task, split, scope, metric."""
    return {name: {"test": _scopes(name, measured, outcome)} for name, measured in sorted(outcome.measured.items())}


def _scopes(name: str, measured: Measured, outcome: Outcome) -> dict[str, Any]:
    config, description = outcome.config, outcome.roll.description
    task = run_tasks(config)[name]
    training = config.training(task.name)

    def summarize(table: Table, centers: Sequence[str] = ()) -> dict[str, Any]:
        return task.summarize(table, description, training, config.resamples, config.seed, centers=centers)

    if not measured.summaries:
        table = join(measured.tables)
        return summarize(table, centers=sorted(outcome.roll.nodes))
    summaries = dict(measured.summaries)
    for center, rows in measured.tables.items():
        summaries[center] = summarize(rows)
    nothing = {column: rule.empty() for column, rule in task.columns(description, training).items()}
    for center in outcome.roll.nodes if nothing else ():  # all are listed, also those without a test radiograph
        summaries.setdefault(center, summarize(nothing, centers=[center]))
    return from_summaries({center: summaries[center]["centers"][center] for center in sorted(summaries)})


def join(tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return one table of all centers', in the order of their names."""
    return join_tables([tables[center] for center in sorted(tables)])


def from_summaries(centers: Mapping[str, Scope]) -> dict[str, Any]:
    """Return the scopes that can be had from the centers' own: macro is made of them alone, pooled cannot be."""
    together = macro(centers)
    return {"centers": dict(centers), "macro": together, "pooled": _withheld(together)}


def _withheld(scope: Scope) -> Scope:
    """Return a scope of the same entries, none of which has a value."""
    entry = {"value": None, "ci": None, "n": 0, "reason": "values of single radiographs stay at the centers"}
    return {name: dict(entry) if "value" in below else _withheld(below) for name, below in scope.items()}
