"""An evaluation: what a model, or anyone's predictions, reach on a cohort, in the form that a run folder has.

```
EVALUATION/
  manifest.json   metrics.json   predictions/<task>.csv
```
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ramw_fed.arms import measuring_knobs
from ramw_fed.center import Center, initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.data.cohort import Cohort, Description
from ramw_fed.data.radiograph import Split, read_masks
from ramw_fed.errors import PredictionError, RunError
from ramw_fed.learning.weights_file import Card
from ramw_fed.manifest import git_commit, versions
from ramw_fed.methods import Weights, get_method
from ramw_fed.methods.unseen import with_rule
from ramw_fed.progress import Watch, nobody
from ramw_fed.run_folder import RunFolder, make_folder, refuse_blocked
from ramw_fed.starting_weights import shapes
from ramw_fed.submission import Submission, read_submission
from ramw_fed.tasks import SEGMENTATION, Task, get_task
from ramw_fed.tasks.erosion import ErosionExamples
from ramw_fed.tasks.segmentation import Masks, tabulate
from ramw_fed.tasks.task import Table, join_tables
from ramw_fed.trained import weights_for


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured on one split of a cohort.

    Attributes:
        metrics: ``{task: {split: scopes}}`` as in ``metrics.json``.
        tables: Task to what was measured, a row a radiograph or a joint.
        manifest: On what, with which knobs, and what was left out.
        remarks: In words, what was not measured.
    """

    metrics: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, Table]
    manifest: Mapping[str, Any]
    remarks: Sequence[str] = field(default=())

    @classmethod
    def of(
        cls, tables: Mapping[str, Table], cohort: Cohort, config: RunConfig, split: Split, **about: Any
    ) -> "Evaluation":
        """Summarize tables of measurements.

        Args:
            tables: Name of a task, as the configuration spells it, to its measurements.
            cohort: The truth.
            config: Knobs that decide a measure.
            split: What was measured.
            about: More for the manifest.
        """
        own = {get_task(name): (table, config.training(get_task(name).name)) for name, table in tables.items()}
        options = {"resamples": config.resamples, "seed": config.seed, "centers": cohort.centers}
        metrics = {
            task.name: {str(split): task.summarize(table, cohort.description, training, **options)}
            for task, (table, training) in own.items()
        }
        manifest = {
            "evaluation": {
                "split": split,
                "knobs": measuring_knobs(config),
                "reading": _reading_knobs(config),
                "centers": list(cohort.centers),
                "left_out": cohort.left_out_counts,
                "seed": config.seed,
                "resamples": config.resamples,
                **about,
            },
            "cohort": {"sha256": cohort.sha256, "kind": cohort.description.kind},
            "versions": versions(),
            "git_commit": git_commit(),
        }
        by_name = {task.name: table for task, (table, _) in own.items()}
        return cls(metrics=metrics, tables=by_name, manifest=manifest, remarks=about.get("remarks", ()))

    def save(self, out: Path) -> None:
        """Write the folder ``out``, which must be new or empty.

        Raises:
            RunError: As in :func:`refuse_taken`.
        """
        refuse_taken(out)
        make_folder(out)
        folder = RunFolder(out)
        for task, table in self.tables.items():
            folder.write_predictions(task, table)
        folder.write_json("manifest.json", self.manifest)
        folder.write_json("metrics.json", self.metrics)


def _reading_knobs(config: RunConfig) -> dict[str, Any]:
    """Return the knobs that decide which radiographs are read, and in which split each lies, in file spelling."""
    written = config.write()
    return {name: written[name] for name in ("split", "fold", "quarantine", "allow-leakage") if name in written}


def refuse_taken(out: Path) -> None:
    """Refuse a folder for an evaluation that cannot be made or holds something, before anything is measured for it.

    Raises:
        RunError: What stands there.
    """
    refuse_blocked(out)
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty; choose another --out")


def evaluate_run(
    folder: RunFolder,
    cohort: Cohort,
    *,
    split: Split = "test",
    unseen_batch_norm: str | None = None,
    watch: Watch = nobody,
) -> Evaluation:
    """Measure a finished run's models on a cohort, at all of its centers.

    Args:
        folder: Of the run.
        cohort: The truth.
        split: What is measured.
        unseen_batch_norm: The rule for a center that took no part in a run whose method left batch normalisation at
            its centers; None for the run's own.
        watch: Told how many centers are measured.

    Raises:
        RunError: There is no such model, or the cohort has other bones or joints.
        ConfigError: A rule is wanted and there is none, or given and there is nothing for it to do.
    """
    config = with_rule(folder.decided_config(), unseen_batch_norm)
    measured = {name: _measure_model(name, folder, config, cohort, split, watch) for name in config.tasks}
    return Evaluation.of(measured, cohort, config, split, of="run")


def evaluate_submission(
    predictions: Path,
    cohort: Cohort,
    config: RunConfig,
    *,
    split: Split = "test",
    allow_missing: bool = False,
    watch: Watch = nobody,
) -> Evaluation:
    """Measure masks and scores that someone else made, by the measures of a run.

    Args:
        predictions: Folder as :func:`ramw_fed.submission.read_submission` reads it.
        cohort: The truth.
        config: Centers, threshold, tolerance, seed and resamples are read; the reader's knobs are written down.
        split: Which radiographs are predicted.
        allow_missing: Leave out and count what has no prediction.
        watch: Told how many masks are measured.

    Raises:
        PredictionError: Everything that is wrong with the folder.
        ConfigError: The cohort has no such center.
    """
    whole, chosen = cohort, cohort.chosen_centers(config.centers)
    cohort = whole.keep(radiograph for radiograph in whole.radiographs if radiograph.center in chosen)
    not_asked = {one.name for one in whole.radiographs if one.center not in chosen} | set(whole.left_out)
    examples = ErosionExamples(cohort, split, config.erosion)
    submission = read_submission(predictions, cohort, split, examples, not_asked=not_asked, allow_missing=allow_missing)
    tables: dict[str, Table] = {}
    if submission.masks:
        tables["segmentation"] = _measure_masks(submission, cohort, config, split, watch)
    if submission.scores:
        tables["erosion"] = _list_scores(submission, examples)
    if not tables:
        raise PredictionError(f"{predictions} predicts nothing that has a truth in split {split!r}")
    remarks = submission.remarks()
    about = {"of": "predictions", "missing": submission.missing, "remarks": remarks}
    return Evaluation.of(tables, cohort, config, split, **about)


def _measure_model(
    name: str, folder: RunFolder, config: RunConfig, cohort: Cohort, split: Split, watch: Watch
) -> dict[str, Any]:
    task = get_task(name)
    weights, card = folder.load_model(task.name)
    own, method = folder.load_own(task.name), get_method(config.method)
    _refuse_other_network(weights, own, card, task, cohort.description, config)
    measured = []
    for done, center_name in enumerate(cohort.centers, start=1):
        center = Center(center_name, cohort, config, method)
        full = weights_for(folder, task, center, config.unseen_batch_norm, split)
        measured.append(center.measure(task, full, split))
        watch(f"{name}: centers", done, len(cohort.centers))
    return join_tables(measured)


def _refuse_other_network(
    weights: Weights,
    own: Mapping[str, Weights],
    card: Card,
    task: Task,
    description: Description,
    config: RunConfig,
) -> None:
    wanted, found = (
        (card.description.bones, card.description.joints),
        (description.bones, description.joints),
    )
    if wanted != found:
        raise RunError(f"the model knows other bones or joints than the cohort: {wanted} against {found}")
    shared, start = map(shapes, get_method(config.method).part(initial_weights(task, description, config)))
    if shapes(weights) != shared or any(shapes(tensors) != start for tensors in own.values()):
        raise RunError(f"the run's {task.name} model is another network than its config.toml says; put them back")


def _measure_masks(submission: Submission, cohort: Cohort, config: RunConfig, split: Split, watch: Watch) -> Table:
    """Return the rows center by center, as a run has them."""
    part = SEGMENTATION.of(cohort, split)
    measured = []
    for done, center in enumerate(part.centers, start=1):
        own = part.at(center)
        own = own.keep(radiograph for radiograph in own.radiographs if radiograph.name in submission.masks)
        measured.append(tabulate(own, _pairs(submission, own), config.segmentation))
        watch("segmentation: centers", done, len(part.centers))
    return join_tables(measured)


def _pairs(submission: Submission, part: Cohort) -> Iterator[tuple[Masks, Masks]]:
    """Yield (predicted, truth), mirrored as a run mirrors them: sums over pixels then come in the same order."""
    for radiograph in part.radiographs:
        pair = read_masks(submission.masks[radiograph.name]), radiograph.read_masks()
        is_mirrored = radiograph.side in part.description.mirrored_sides
        predicted, truth = (np.ascontiguousarray(masks[:, :, ::-1]) if is_mirrored else masks for masks in pair)
        yield predicted, truth


def _list_scores(submission: Submission, examples: ErosionExamples) -> Table:
    keys = list(zip(map(str, examples.names), map(str, examples.joints), strict=True))
    rows = [row for row in np.argsort(examples.centers, kind="stable").tolist() if keys[row] in submission.scores]
    scores = [submission.scores[keys[row]] for row in rows]
    table = {
        "center": examples.centers[rows],
        "patient": examples.patients[rows],
        "name": examples.names[rows],
        "joint": examples.joints[rows],
        "probability": np.array([score.probability for score in scores], np.float64),
        "grade": examples.grades[rows],
    }
    grades = [score.grade for score in scores if score.grade is not None]
    return {**table, "predicted_grade": np.array(grades, np.int64)} if grades else table
