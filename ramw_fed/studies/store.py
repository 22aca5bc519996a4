"""Finished runs by the hash of what decides them: trained once, found again, measured center by center."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ramw_fed.center import Center
from ramw_fed.config import RunConfig
from ramw_fed.data.reading import read_run_cohort
from ramw_fed.errors import RamwFedError, StudyError
from ramw_fed.federation.inline import run_inline
from ramw_fed.federation.recorder import FolderRecorder
from ramw_fed.methods import get_method
from ramw_fed.run_folder import RunFolder
from ramw_fed.studies.files import file_hash
from ramw_fed.studies.training import Training
from ramw_fed.tasks import get_task
from ramw_fed.tasks.task import Table
from ramw_fed.trained import weights_for


@dataclass(frozen=True, kw_only=True)
class Order:
    """A run to make or to find.

    Attributes:
        training: What it trains.
        config: The same, as a run.
        folder: Its place.
    """

    training: Training
    config: RunConfig
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished run.

    Attributes:
        rounds: Rounds that it trained.
        best_round: The one that its validation patients chose; the last where nothing could be validated.
        quality: What they said of it; None where there are none.
        steps: Steps of the optimizer, over all its centers.
        enrolled: Centers that trained or validated; of a pooled run those whose radiographs it was given.
    """

    rounds: int
    best_round: int
    quality: float | None
    steps: int
    enrolled: tuple[str, ...]


def train(order: Order) -> Trained:
    """Train, go on with what a kill left, or find it finished.

    Raises:
        StudyError: The run failed; the message says which and why.
    """
    folder = RunFolder(order.folder)
    try:
        if not folder.is_measured:  # a run whose test split stays closed writes empty metrics, last of all
            folder = RunFolder.create(order.folder, order.config, resume=True)
            run_inline(order.config, FolderRecorder(folder, order.config))
        shutil.rmtree(folder.checkpoints, ignore_errors=True)  # nothing is left to resume
        return summarize(folder, order.training.task)
    except RamwFedError as error:
        who = f"{order.training.arm} {order.training.task} of {', '.join(order.training.centers)}"
        raise StudyError(f"{who}, seed {order.training.seed}: {error}") from error


def summarize(folder: RunFolder, task: str) -> Trained:
    """Return what the log of a finished run says.

    Raises:
        StudyError: The log has no round of the task.
    """
    rounds = [record for record in folder.rounds() if record["task"] == task]
    if not rounds:
        raise StudyError(f"{folder.path} has no round of {task} in rounds.jsonl; remove the folder to train anew")
    best, config = int(rounds[-1]["best_round"]), folder.config()
    answered = {center for record in rounds for center in record["centers"]}
    chosen = next((record for record in rounds if record["round"] == best), rounds[-1])
    return Trained(
        rounds=len(rounds),
        best_round=best,
        quality=chosen["quality"],
        steps=sum(center["steps"] for record in rounds for center in record["centers"].values()),
        enrolled=tuple(sorted(config.centers if config.pool else answered)),
    )


@dataclass(frozen=True, kw_only=True)
class Question:
    """A finished run's weights to be measured on one center's test split.

    Attributes:
        order: The run.
        center: Whose radiographs.
        out: Folder for the table of measurements.
    """

    order: Order
    center: str
    out: Path


def measure(question: Question) -> None:
    """Measure, and leave ``<out>/predictions/<task>.csv``; what is there already stays."""
    training = question.order.training
    if question.out.exists():
        return
    # thresholds and calibration as the run chose them, of the cohort where it lies today
    config = replace(RunFolder(question.order.folder).decided_config(), cohort=question.order.config.cohort)
    task = get_task(training.task)
    cohort = read_run_cohort(replace(config, pool=False))  # pooled or not, centers are measured one by one
    center = Center(question.center, cohort, config, get_method(config.method))
    weights = weights_for(RunFolder(question.order.folder), task, center, config.unseen_batch_norm, "test")
    table = center.measure(task, weights, "test")
    partial = question.out.with_name(question.out.name + ".part")
    partial.mkdir(parents=True, exist_ok=True)
    RunFolder(partial).write_predictions(training.task, table)
    partial.rename(question.out)  # whole or absent


def weights_hash(order: Order) -> str:
    """Return a hash (hex) of all that a finished run predicts with, its centers' own tensors too."""
    models = order.folder / "models"
    files = sorted(
        {*models.glob(f"{order.training.task}.safetensors"), *models.glob(f"centers/*/{order.training.task}*")}
    )
    return hashlib.sha256("".join(map(file_hash, files)).encode()).hexdigest()


def measured_table(question: Question) -> Path:
    """Return the file that :func:`measure` leaves."""
    return question.out / "predictions" / f"{question.order.training.task}.csv"


def read_measured(question: Question) -> Table:
    """Return what :func:`measure` left."""
    return RunFolder(question.out).read_predictions(question.order.training.task)


def as_dict(training: Training, trained: Trained, key: str, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training as ``study.json`` holds it."""
    return {
        "key": key,
        "arm": training.arm,
        "method": training.method,
        "task": training.task,
        "seed": training.seed,
        "fold": training.fold,
        "dose": training.dose,
        "train_centers": list(training.centers),
        "point": dict(training.point),
        "rounds": trained.rounds,
        "best_round": trained.best_round,
        "quality": trained.quality,
        "steps": trained.steps,
        "folder": f"runs/{key}",
        **opened,
    }
