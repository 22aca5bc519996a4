"""A study from its file to its table: what is trained, chosen, opened and written, in pieces that survive any kill.

```
STUDY/
  config.toml   study.json   table.csv   table.parquet   analysis.json   opened.json
  runs/<key>/                 a run folder each, without a test split
  measured/<key>/<center>/    what a run's weights measured on a center's test patients
```
"""

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w

from ramw_fed.config import PhantomConfig
from ramw_fed.config_sources import read_toml
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.radiograph import SPLITS
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import StudyError
from ramw_fed.manifest import git_commit, versions
from ramw_fed.progress import Watch, nobody
from ramw_fed.run_folder import make_folder, write_atomically
from ramw_fed.studies import cross_site_matrix, dose_response, leave_one_center_out, matched_arms, scale_up, table
from ramw_fed.studies.analysis import analyse
from ramw_fed.studies.config import Study
from ramw_fed.studies.held_out import Door, refuse_touched
from ramw_fed.studies.store import Order, Question, Trained, as_dict, measure, read_measured, train
from ramw_fed.studies.training import Cell, Ground, Sites, Training
from ramw_fed.studies.workers import share
from ramw_fed.tasks import get_task

CELLS: Mapping[str, Callable[[Ground], Iterator[Cell]]] = MappingProxyType(
    {
        module.DESIGN: module.cells
        for module in (matched_arms, cross_site_matrix, leave_one_center_out, scale_up, dose_response)
    }
)

PhantomFolder = Callable[[PhantomConfig], Path]
"""Where the phantom of a configuration lies; makes it where it is missing."""


@dataclass
class Work:
    """A study under way in its folder.

    Attributes:
        study: What is asked.
        folder: Where everything is kept.
        roots: Dose to the folder of its cohort; ``""`` is the cohort as it is.
        watch: Told how far each phase is.
    """

    study: Study
    folder: Path
    roots: Mapping[str, Path]
    watch: Watch = nobody
    _cohorts: dict[tuple[str, str], Cohort] = field(default_factory=dict)
    _trained: dict[Training, Trained] = field(default_factory=dict)

    def cohort(self, fold: str = "", dose: str = "") -> Cohort:
        """Return the cohort of a dose, dealt into the splits of a fold, with the study's centers only."""
        if (fold, dose) not in self._cohorts:
            config = Training(arm="local", task=self.study.base.tasks[0], seed=0, fold=fold, centers=()).config(
                self.study
            )
            found = read_cohort(
                self.roots[dose],
                split=config.split,
                quarantine=config.quarantine,
                allow_leakage=config.allow_leakage,
                tested=config.tested_fold,
            )
            wanted = found.chosen_centers(self.study.base.centers)
            self._cohorts[fold, dose] = found.keep(one for one in found.radiographs if one.center in wanted)
        return self._cohorts[fold, dose]

    def order(self, training: Training) -> Order:
        """Return the run that makes a training, in its place."""
        root = self.roots[training.dose]
        key = training.key(self.study, self.cohort(training.fold, training.dose).sha256)
        config = training.config(self.study, str(root.resolve()))
        folder = self.folder / "runs" / key
        return Order(training=training, config=replace(config, out=str(folder.resolve())), folder=folder)

    def cells(self) -> list[Cell]:
        """Return what the designs ask for, sorted; tuned knobs are not chosen yet."""
        ground = self.ground()
        found = sorted({cell for design in self.study.config.designs for cell in CELLS[design](ground)})
        if not found:
            raise StudyError("no design finds two centers with labels to train on and one to test; check the cohort")
        return found

    def ground(self) -> Ground:
        """Return who can train and test, in every fold and dose that a design may ask for."""
        asked = set(self.study.config.designs)
        doses = [""] if asked - {dose_response.DESIGN} else []
        doses += list(self.study.config.settings()) if dose_response.DESIGN in asked else []
        folds = Ground(study=self.study, sites={}).folds
        tasks = self.study.base.tasks
        sites = {(fold, dose): Sites.of(self.cohort(fold, dose), tasks) for fold in folds for dose in doses}
        return Ground(study=self.study, sites=sites)

    def train_all(self, trainings: Sequence[Training], phase: str) -> None:
        """Train what is not yet trained; the longest first, so that no process is left with one alone."""
        missing = sorted({one for one in trainings if one not in self._trained})
        orders = [self.order(one) for one in sorted(missing, key=lambda one: (-len(one.centers), one))]
        self.watch(phase, 0, len(orders))
        for done, (order, trained) in enumerate(share(train, orders, self.study.base.workers), start=1):
            self._trained[order.training] = trained
            self.watch(phase, done, len(orders))

    def choose(self, wanted: Sequence[Training]) -> dict[Training, Training]:
        """Return each training with its knobs: those whose first seed did best on its own validation patients.

        Without a grid there is nothing to choose. Of equals the first point of the grid is taken.
        """
        first = self.study.base.seed
        points = {one: self.study.points(one.task, one.method) for one in wanted}
        tuned = {replace(one, seed=first): grid for one, grid in points.items() if len(grid) > 1}
        candidates = [replace(one, point=point) for one, grid in sorted(tuned.items()) for point in grid]
        if candidates:
            self.train_all(candidates, "tuning: trainings")

        def best(one: Training) -> Training:
            grid = points[one]
            if len(grid) == 1:
                return replace(one, point=grid[0])
            options = [replace(one, seed=first, point=point) for point in grid]
            quality = [self._trained[option].quality for option in options]
            order = sorted(range(len(grid)), key=lambda index: -_or_worst(quality[index]))
            return replace(one, point=grid[order[0]])

        return {one: best(one) for one in wanted}

    def measure_all(self, cells: Mapping[Cell, Training], door: Door) -> dict[tuple[Training, str], Question]:
        """Open the test patients that the cells ask for, each for its model, and measure."""
        questions: dict[tuple[Training, str], Question] = {}
        wanted = []
        for cell, chosen in cells.items():
            for center in cell.test_centers:
                if cell.design == leave_one_center_out.DESIGN and center not in cell.training.centers:
                    refuse_touched(center, chosen, self._trained[chosen])
                if (chosen, center) not in questions:
                    order = self.order(chosen)
                    out = self.folder / "measured" / order.folder.name / center
                    questions[chosen, center] = Question(order=order, center=center, out=out)
                    weights = table.file_hash(order.folder / "models" / f"{chosen.task}.safetensors")
                    wanted.append((order.folder.name, center, weights))
        door.open(wanted)
        jobs = list(questions.values())
        self.watch("test splits", 0, len(jobs))
        for done, _ in enumerate(share(measure, jobs, self.study.base.workers), start=1):
            self.watch("test splits", done, len(jobs))
        return questions

    def trained(self, training: Training) -> Trained:
        """Return what a training left."""
        return self._trained[training]


def run_study(study: Study, folder: Path, phantom_folder: PhantomFolder, watch: Watch = nobody) -> dict[str, Any]:
    """Train, choose, open, measure, write the table and analyse it; whatever is there already is not done again.

    Args:
        study: What is asked.
        folder: New, empty, or that of the same study.
        phantom_folder: Where phantoms lie.
        watch: Told how far each phase is.

    Returns:
        The analysis.

    Raises:
        StudyError: The folder holds something else, a run failed, or a rule of the test split would be broken.
    """
    started = time.monotonic()
    with claimed(study, folder):
        work = Work(study, folder, cohort_roots(study, phantom_folder), watch)
        cells = work.cells()
        wanted = sorted({cell.training for cell in cells})
        chosen = work.choose(wanted)
        work.train_all(list(chosen.values()), "trainings")
        door = Door(folder)
        door.freeze({work.order(one).folder.name: work.trained(one).best_round for one in chosen.values()})
        by_cell = {cell: chosen[cell.training] for cell in cells}
        questions = work.measure_all(by_cell, door)
        rows = (
            row
            for cell, training in by_cell.items()
            for center in cell.test_centers
            for row in table.rows_of(study.name, cell, center, read_measured(questions[training, center]))
        )
        table.write_table(folder, rows)
        watch("analysis", 0, 1)
        manifest = describe(work, chosen, door, time.monotonic() - started)
        write_atomically(folder / "study.json", _json(manifest))
        analysis = analyse(table.read_table(folder), manifest)
        write_atomically(folder / "analysis.json", _json(analysis))
        watch("analysis", 1, 1)
    return analysis


def describe(work: Work, chosen: Mapping[Training, Training], door: Door, seconds: float) -> dict[str, Any]:
    """Return ``study.json``: what was asked, of whom, what was chosen, and the seals of the table."""
    study, cohort = work.study, work.cohort(Ground(study=work.study, sites={}).folds[0], min(work.roots))
    opened = door.opened()
    trainings = []
    for training in sorted(set(chosen.values())):
        key = work.order(training).folder.name
        centers = sorted(name.partition("/")[2] for name in opened if name.startswith(f"{key}/"))
        trainings.append(as_dict(training, work.trained(training), key, {"opened": centers}))
    read = table.read_table(work.folder)
    return {
        "name": study.name,
        "kind": cohort.description.kind,
        "cohort": {"sha256": cohort.sha256, "kind": cohort.description.kind},
        "versions": versions(),
        "git_commit": git_commit(),
        "seconds": round(seconds, 1),
        "seed": study.base.seed,
        "resamples": study.base.resamples,
        "seeds": Ground(study=study, sites={}).seeds,
        **{name.replace("-", "_"): value for name, value in _asked(study).items()},
        "availability": availability(cohort),
        "trainings": trainings,
        "table": {
            "rows": len(read["value"]),
            "csv_sha256": table.file_hash(work.folder / "table.csv"),
            "parquet_sha256": table.file_hash(work.folder / "table.parquet"),
        },
        "seals": table.seals(read),
    }


def _asked(study: Study) -> dict[str, Any]:
    config = study.config
    return {
        "tasks": list(study.base.tasks),
        "designs": list(config.designs),
        "methods": list(config.methods),
        "folds": config.folds,
        "metrics": list(config.metrics),
        "contrasts": [list(pair) for pair in config.pairs()],
        "margins": config.equivalence_margins(),
        "tune": {name: list(values) for name, values in config.grid().items()},
        "dial": config.dial if dose_response.DESIGN in config.designs else None,
    }


def availability(cohort: Cohort) -> dict[str, dict[str, dict[str, int]]]:
    """Return, by center and split, patients, radiographs, those with masks, scored and eroded joints."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for center in cohort.centers:
        for split in SPLITS:
            masked = get_task("segmentation").of(cohort.at(center), split).radiographs
            scored = get_task("erosion").of(cohort.at(center), split).radiographs
            grades = [grade for one in scored for grade in one.scores.values()]
            found.setdefault(center, {})[split] = {
                "patients": len({one.patient for one in (*masked, *scored)}),
                "radiographs": len({one.name for one in (*masked, *scored)}),
                "masks": len(masked),
                "scored_joints": len(grades),
                "eroded_joints": sum(grade > 0 for grade in grades),
            }
    return found


def cohort_roots(study: Study, phantom_folder: PhantomFolder) -> dict[str, Path]:
    """Return the cohort of each dose; a dial turns phantoms only.

    Raises:
        StudyError: A dose-response design over a folder of radiographs.
    """
    base, designs = study.base, set(study.config.designs)
    if base.cohort and dose_response.DESIGN in designs:
        raise StudyError("dose-response turns a dial of the phantom; leave cohort out, or the design")
    roots = {}
    if designs - {dose_response.DESIGN}:
        roots[""] = Path(base.cohort).resolve() if base.cohort else phantom_folder(study.phantom(""))
    if dose_response.DESIGN in designs:
        roots |= {dose: phantom_folder(study.phantom(dose)) for dose in study.config.settings()}
    return roots


@contextmanager
def claimed(study: Study, folder: Path) -> Iterator[None]:
    """Hold the folder for this study alone.

    Raises:
        StudyError: It holds something else, another study, or one that is under way.
    """
    path = folder / "config.toml"
    if folder.is_dir() and any(folder.iterdir()) and not path.exists():
        raise StudyError(f"{folder} holds something else than a study; choose another --out")
    make_folder(folder)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StudyError(f"a study is under way in {folder}; wait for it, or choose another --out") from error
        if path.exists():
            _refuse_other(Study.of(study.name, read_toml(path)), study, folder)
        else:
            write_atomically(path, tomli_w.dumps(study.tree_with_study()))
        yield


def _refuse_other(before: Study, now: Study, folder: Path) -> None:
    old, new = before.deciding(), now.deciding()
    if old != new:
        lines = "; ".join(sorted(f"was {line}" for line in old - new) + sorted(f"is {line}" for line in new - old))
        raise StudyError(
            f"{folder} holds a study with other knobs: {lines}. Give it a folder of its own: finished runs are found "
            "again where they are the same (copy runs/ beside it)"
        )


def _or_worst(quality: float | None) -> float:
    return float("-inf") if quality is None else quality


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
