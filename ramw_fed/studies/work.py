"""A study under way: who trains what, which knobs are chosen, whose test patients are opened."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from ramw_fed.config import UNSEEN_RULES, PhantomConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.reading import read_run_cohort
from ramw_fed.errors import StudyError
from ramw_fed.methods import get_method
from ramw_fed.progress import Watch, nobody
from ramw_fed.starting_weights import given_weights
from ramw_fed.studies import cross_site_matrix, dose_response, leave_one_center_out, matched_arms, scale_up
from ramw_fed.studies.config import Study
from ramw_fed.studies.files import file_hash
from ramw_fed.studies.held_out import Door, refuse_touched
from ramw_fed.studies.store import Order, Question, Trained, measure, measured_table, train, weights_hash
from ramw_fed.studies.training import CENTRAL, LOCAL, Cell, Ground, Sites, Training
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
            found = read_run_cohort(config, str(self.roots[dose]))
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
        if not any(cell.training.arm not in (LOCAL, CENTRAL) for cell in found):
            raise StudyError(
                "no task has two centers with labels to train on and one to test, so nothing can be federated; check "
                "centers, the cohort's labels and its splits (a manifest without any needs split = 'grouped')"
            )
        self._refuse_without_rule(found)
        return found

    def _refuse_without_rule(self, cells: Sequence[Cell]) -> None:
        """Refuse, before anything is trained, a method that has nothing for a center which it will be tested at."""
        for cell in cells:
            config = cell.training.config(self.study)
            unseen = sorted(set(cell.test_centers) - set(cell.training.centers))
            if unseen and get_method(config.method).keeps_own and config.unseen_batch_norm in (None, "refuse"):
                raise StudyError(
                    f"{cell.design} tests {config.method} at {', '.join(unseen)}, which took no part in it and has no "
                    f"batch normalisation of its own: set unseen-batch-norm to {' or '.join(UNSEEN_RULES[1:])}"
                )

    def ground(self) -> Ground:
        """Return who can train and test, in every fold and dose that a design may ask for."""
        asked = set(self.study.config.designs)
        doses = [""] if asked - {dose_response.DESIGN} else []
        doses += list(self.study.config.settings()) if dose_response.DESIGN in asked else []
        folds = Ground(study=self.study, sites={}).folds
        tasks = self.study.base.tasks
        sites = {(fold, dose): Sites.of(self.cohort(fold, dose), tasks) for fold in folds for dose in doses}
        return Ground(study=self.study, sites=sites)

    def refuse_known_start(self) -> None:
        """Refuse weights to start from that were trained on the study's own cohort: no center would be unseen.

        Raises:
            StudyError: With the cohort's hash.
        """
        for name in self.study.base.tasks:
            found = given_weights(get_task(name), self.study.base)
            cohorts = {self.cohort(dose=dose).sha256 for dose in self.roots} if found else set()
            if found and found[1].cohort in cohorts:
                raise StudyError(
                    f"start-from holds {name} weights that were trained on this very cohort ({found[1].cohort[:12]}): "
                    "its test patients and centers held out would not be unseen; start from other weights, or none"
                )

    def train_all(self, trainings: Sequence[Training], phase: str) -> None:
        """Train what is not yet trained; the longest first, so that no process is left with one alone."""
        missing = sorted({one for one in trainings if one not in self._trained})
        # Two trainings may be one run: a dose that the phantom has anyway, a point of the grid spelled twice.
        runs: dict[Path, list[Order]] = {}
        for one in sorted(missing, key=lambda one: (-len(one.centers), one)):
            order = self.order(one)
            runs.setdefault(order.folder, []).append(order)
        self.watch(phase, 0, len(runs))
        first = [orders[0] for orders in runs.values()]
        for done, (order, trained) in enumerate(share(train, first, self.study.base.workers), start=1):
            self._trained |= dict.fromkeys((same.training for same in runs[order.folder]), trained)
            self.watch(phase, done, len(runs))

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
                    wanted.append((order.folder.name, center, weights_hash(order)))
        door.open(wanted)
        jobs = list({question.out: question for question in questions.values()}.values())
        self.watch("test splits", 0, len(jobs))
        for done, _ in enumerate(share(measure, jobs, self.study.base.workers), start=1):
            self.watch("test splits", done, len(jobs))
        door.seal({f"{one.out.parent.name}/{one.center}": file_hash(measured_table(one)) for one in jobs})
        return questions

    def trained(self, training: Training) -> Trained:
        """Return what a training left."""
        return self._trained[training]


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


def _or_worst(quality: float | None) -> float:
    return float("-inf") if quality is None else quality
