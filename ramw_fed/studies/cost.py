"""What a study would cost before anything is trained, from one measured step a task."""

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.table import Table

from ramw_fed.learning.training import pick_device
from ramw_fed.plan import plan
from ramw_fed.studies.training import CENTRAL, Training
from ramw_fed.studies.work import Work
from ramw_fed.tasks import get_task
from ramw_fed.wording import counted, duration


@dataclass(frozen=True, kw_only=True)
class TaskTrainings:
    """What the trainings of one task would cost.

    Attributes:
        task: Name.
        trainings: Runs, those of the grid among them.
        finished: Of these, found in the study's folder.
        steps: Steps of the optimizer that are left.
        seconds_per_step: Wall time of one on this device.
        hours: Of all that is left, shared by the workers; measuring comes on top.
    """

    task: str
    trainings: int
    finished: int
    steps: int
    seconds_per_step: float
    hours: float


@dataclass(frozen=True, kw_only=True)
class StudyCost:
    """What a study would cost.

    Attributes:
        tasks: By task.
        models: Number of tests of a model at a center, by design.
        workers: Processes at the same time.
        device: What was measured on.
    """

    tasks: tuple[TaskTrainings, ...]
    models: dict[str, int]
    workers: int
    device: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def table(self) -> Table:
        """Return a table for a terminal."""
        left = sum(task.hours for task in self.tasks)
        asked = ", ".join(f"{design} {count}" for design, count in self.models.items())
        table = Table(
            title=f"training cost on {self.device}, {counted(self.workers, 'worker')} (from a measured step)",
            caption=f"all tasks: {duration(3600 * left)} of training; measuring comes on top. Tests of a model at a "
            f"center: {asked}",
            title_justify="left",
            caption_justify="left",
        )
        for name in ("task", "trainings", "of them finished", "steps left", "a step", "all that is left"):
            table.add_column(name, justify="left" if name == "task" else "right")
        for cost in self.tasks:
            times = duration(cost.seconds_per_step), duration(3600 * cost.hours)
            table.add_row(cost.task, str(cost.trainings), str(cost.finished), str(cost.steps), *times)
        return table


def plan_study(work: Work) -> StudyCost:
    """Count the trainings, look which are finished, measure a step of each task and multiply."""
    cells = work.cells()
    trainings = _expanded(work, {cell.training for cell in cells})
    models = Counter(cell.design for cell in cells for _ in cell.test_centers)
    costs, device = [], ""
    workers = work.study.base.workers
    for task in work.study.base.tasks:
        own = sorted(training for training in trainings if training.task == task)
        left = [training for training in own if not (work.order(training).folder / "metrics.json").exists()]
        sample = max(own, key=lambda training: len(training.centers))
        measured = plan(replace(work.order(sample).config, workers=1))
        seconds, device = measured.tasks[0].seconds_per_step, measured.device
        steps = sum(_steps(work, training) for training in left)
        is_shared = pick_device(work.study.base.device).type != "cpu"  # workers on one GPU wait for each other
        at_once = 1 if is_shared else min(workers, max(len(left), 1))
        costs.append(
            TaskTrainings(
                task=task,
                trainings=len(own),
                finished=len(own) - len(left),
                steps=steps,
                seconds_per_step=seconds,
                hours=steps * seconds / at_once / 3600,
            )
        )
    return StudyCost(tasks=tuple(costs), models=dict(models), workers=workers, device=device)


def _expanded(work: Work, wanted: set[Training]) -> set[Training]:
    """Return the trainings with their knobs: the whole grid at the first seed, one point at the others."""
    first = work.study.base.seed
    found: set[Training] = set()
    for training in wanted:
        grid = work.study.points(training.task, training.method)
        found |= {replace(training, point=point) for point in (grid if training.seed == first else grid[:1])}
        if len(grid) > 1:
            found |= {replace(training, seed=first, point=point) for point in grid}
    return found


def _steps(work: Work, training: Training) -> int:
    config = work.order(training).config.training(training.task)
    cohort, task = work.cohort(training.fold, training.dose), get_task(training.task)
    sizes = [len(task.of(cohort.at(center), "train").radiographs) for center in training.centers]
    if training.task == "erosion":
        sizes = [
            sum(len(one.scores) for one in task.of(cohort.at(center), "train").radiographs)
            for center in training.centers
        ]
    batches = [sum(sizes)] if training.arm == CENTRAL else sizes
    return sum(-(-size // config.batch_size) for size in batches) * config.local_epochs * config.num_rounds
