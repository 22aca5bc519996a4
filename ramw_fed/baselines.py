"""What a federated model must beat: one center alone, and methods that learn next to nothing.

All see the training split only, and are measured on the test split after the run has chosen its weights.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.center import Center
from ramw_fed.config import RunConfig, SegmentationConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.reading import read_run_cohort, run_centers
from ramw_fed.data.resizing import unfit
from ramw_fed.learning.weights_file import in_precision
from ramw_fed.methods import FEDAVG, Weights
from ramw_fed.progress import Watch
from ramw_fed.starting_weights import starting_weights
from ramw_fed.tasks import get_task
from ramw_fed.tasks.erosion import ErosionExamples
from ramw_fed.tasks.segmentation import SegmentationExamples, tabulate
from ramw_fed.tasks.task import Table, Task, is_better, join_tables, settled

Thumbnails = NDArray[np.float64]
_THUMBNAIL = 32


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One thing to be held against a run, small enough to travel to another process.

    Attributes:
        title: As tables show it.
        task: Name of the task.
        center: The only center whose training data it sees; empty for those of all centers.
    """

    title: str
    task: str
    center: str = ""


def list_baselines(config: RunConfig) -> list[Baseline]:
    """Return the baselines of a run: the center with most patients to train on alone, and the trivial methods."""
    baselines, cohort = [], read_centers(config)
    for name in config.tasks:
        largest = largest_center(cohort, get_task(name))
        if largest:
            baselines.append(Baseline(title=f"{largest} alone", task=name, center=largest))
        baselines += [Baseline(title=title, task=name) for title in TRIVIAL.get(name, {})]
    return baselines


def read_centers(config: RunConfig) -> Cohort:
    """Return the run's cohort with the centers that take part."""
    cohort = read_run_cohort(config)
    centers = run_centers(config, cohort)
    return cohort.keep(one for one in cohort.radiographs if one.center in centers)


def largest_center(cohort: Cohort, task: Task) -> str:
    """Return the center with most patients to train ``task`` on, the first by name of equals; empty without any."""
    patients = {
        center: len({radiograph.patient for radiograph in task.of(cohort.at(center), "train").radiographs})
        for center in cohort.centers
    }
    best = max(patients.values(), default=0)
    return next((center for center in sorted(patients) if patients[center] == best), "") if best else ""


def measure_baselines(config: RunConfig, watch: Watch) -> dict[str, dict[str, Any]]:
    """Return what ``baselines.json`` holds, ``{title: {task: {"test": scopes}}}``; processes share the work."""
    wanted = list_baselines(config)
    found: dict[str, dict[str, Any]] = {}
    context = get_context("forkserver")
    context.set_forkserver_preload(["ramw_fed.baselines"])
    with ProcessPoolExecutor(min(config.workers, len(wanted)), mp_context=context) as pool:
        results = pool.map(measure_baseline, wanted, [config] * len(wanted))
        for done, (baseline, scopes) in enumerate(zip(wanted, results, strict=True), start=1):
            watch("baselines", done, len(wanted))
            found.setdefault(baseline.title, {})[baseline.task] = {"test": scopes}
    return found


def measure_baseline(baseline: Baseline, config: RunConfig) -> dict[str, Any]:
    """Return the scopes of ``metrics.json`` that ``baseline`` reaches on the test split of ``config.cohort``."""
    cohort = read_centers(config)
    task = get_task(baseline.task)
    if baseline.center:
        table = train_alone(baseline.center, task, cohort, config)
    else:
        table = TRIVIAL[baseline.task][baseline.title](cohort, config)
    training = config.training(task.name)
    centers = cohort.centers
    return task.summarize(table, cohort.description, training, config.resamples, config.seed, centers=centers)


def train_alone(name: str, task: Task, cohort: Cohort, config: RunConfig) -> Table:
    """Train at one center as it does in the federation, from the same start for as many steps; measure at all centers.

    Its best round is chosen by its own validation split, as the federation's is by that of all.
    """
    alone = replace(config, method="fedavg", proximal_mu=None, unseen_batch_norm=None)
    center = Center(name, cohort, alone, FEDAVG)
    center.config = alone = settled(alone, task, [center.enrol(task).counts])
    weights: Weights = starting_weights(task, cohort.description, alone)
    best, best_quality = weights, None
    for round_number in range(1, config.training(task.name).num_rounds + 1):
        weights = center.train(task, weights, round_number).weights
        sums = center.validate(task, weights)
        found = task.quality(sums) if sums else float("nan")
        quality = found if found == found else None
        if is_better(quality, best_quality):
            best, best_quality = weights, quality
    chosen = in_precision(best, config.precision)
    tables = [Center(other, cohort, alone, FEDAVG).measure(task, chosen, "test") for other in cohort.centers]
    return join_tables(tables)


def nearest_template(cohort: Cohort, config: RunConfig) -> Table:
    """Give each radiograph the masks of the training image that it resembles most, by correlation of thumbnails."""
    train, test = _segmentation(cohort, config)
    thumbnails = _thumbnails(train)

    def predicted() -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        for row, thumbnail in enumerate(_thumbnails(test)):
            nearest = int(np.argmax(thumbnails @ thumbnail))
            yield _fit_to(test, row, train.packed.masks(nearest).astype(np.float32), config.segmentation)

    return tabulate(test.cohort, predicted(), config.segmentation)


def intensity_threshold(cohort: Cohort, config: RunConfig) -> Table:
    """Call a pixel a bone where it is bright (Otsu) and most training images have that bone there."""
    train, test = _segmentation(cohort, config)
    places = np.mean([train.packed.masks(row) for row in range(len(train))], axis=0) >= 0.5

    def predicted() -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        for row in range(len(test)):
            _, bright = cv2.threshold(test.packed.image(row), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
            yield _fit_to(test, row, (places & (bright > 0)).astype(np.float32), config.segmentation)

    return tabulate(test.cohort, predicted(), config.segmentation)


def mean_intensity(cohort: Cohort, config: RunConfig) -> Table:
    """Score a joint by how dark (or bright, whichever the training split says) its crop is."""
    train, test = (ErosionExamples(cohort, split, config.erosion) for split in ("train", "test"))
    levels, unseen = _levels(train), _levels(test)
    eroded = train.grades > 0
    darker = bool(eroded.any()) and levels[eroded].mean() < levels[~eroded].mean()
    sign = -1.0 if darker else 1.0
    ranks = np.searchsorted(np.sort(sign * levels), sign * unseen) / max(len(levels), 1)
    return {
        "center": test.centers,
        "patient": test.patients,
        "name": test.names,
        "joint": test.joints,
        "probability": ranks.astype(np.float64),
        "grade": test.grades,
    }


TRIVIAL: Mapping[str, Mapping[str, Callable[[Cohort, RunConfig], Table]]] = MappingProxyType(
    {
        "segmentation": MappingProxyType(
            {"nearest template": nearest_template, "intensity threshold": intensity_threshold}
        ),
        "erosion": MappingProxyType({"mean intensity": mean_intensity}),
    }
)


def _segmentation(cohort: Cohort, config: RunConfig) -> tuple[SegmentationExamples, SegmentationExamples]:
    return (
        SegmentationExamples(cohort, "train", config.segmentation),
        SegmentationExamples(cohort, "test", config.segmentation),
    )


def _thumbnails(examples: SegmentationExamples) -> Thumbnails:
    """Return ``(rows, pixels)`` of mean 0 and length 1, so that a product of two is their correlation."""
    size = (_THUMBNAIL, _THUMBNAIL)
    small = [cv2.resize(examples.packed.image(row), size, interpolation=cv2.INTER_AREA) for row in range(len(examples))]
    flat = np.array(small, np.float64).reshape(len(small), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9))


def _levels(examples: ErosionExamples) -> NDArray[np.float64]:
    return np.array([examples.crop(row).mean() for row in range(len(examples))], np.float64)


def _fit_to(
    examples: SegmentationExamples, row: int, masks: NDArray[np.float32], config: SegmentationConfig
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (predicted, truth) at the radiograph's own size."""
    radiograph, description = examples.cohort.radiographs[row], examples.cohort.description
    truth = radiograph.read_masks()
    if config.mirror and radiograph.side in description.mirrored_sides:
        truth = np.ascontiguousarray(truth[:, :, ::-1])
    return np.stack([unfit(mask, *truth.shape[1:]) for mask in masks]) >= 0.5, truth
