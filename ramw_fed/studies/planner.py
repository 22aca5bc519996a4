"""What a study of these patients can find at all: asked before it is made, or of a pilot."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ramw_fed.comparison import METRICS
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.metrics.classification import CLASSIFICATION_METRICS
from ramw_fed.statistics.power import Power, Ranking, StudySize, auroc_power, paired_power, pilot_deviation
from ramw_fed.studies.matched_arms import DESIGN
from ramw_fed.studies.results import Results
from ramw_fed.studies.scores import less
from ramw_fed.studies.training import Ground
from ramw_fed.studies.work import Work
from ramw_fed.tasks import get_task


def plan_power(work: Work, pilot: Results | None) -> list[dict[str, Any]]:
    """Return, for each metric and declared contrast, the smallest difference that is found with power .8.

    Args:
        work: The study; its cohort says how many test patients there are.
        pilot: A finished study of the same arms: its patients' differences take the place of the assumed deviation.

    Returns:
        An entry a row: ``task``, ``contrast``, ``basis``, and what :class:`Power` holds.
    """
    study = work.study.config
    pairs = study.pairs()
    tested = {task: _tested(work, task) for task in work.study.base.tasks}
    wanted = [(task, metric) for task in tested for metric in study.metrics if metric in METRICS[task]]
    family = max(len(wanted) * len(pairs), 1)
    rows = []
    for task, metric in wanted:
        if metric in CLASSIFICATION_METRICS and metric != "auroc":
            continue  # no formula is known to hold for it
        size = _size(tested[task], family)
        for first, second in pairs or [("one arm", "another")]:
            found, basis = _one(work, pilot, size, tested[task], (task, metric, first, second))
            rows.append({"task": task, "contrast": f"{first} - {second}", "basis": basis, **found.as_dict()})
    return rows


def _one(
    work: Work, pilot: Results | None, size: StudySize, tested: Sequence[Radiograph], asked: tuple[str, str, str, str]
) -> tuple[Power, str]:
    task, metric, first, second = asked
    config = work.study.config
    if metric == "auroc":
        joints = [grade for one in tested for grade in one.scores.values()]
        patients = {(one.center, one.patient) for one in tested}
        share = sum(grade > 0 for grade in joints) / max(len(joints), 1)
        ranking = Ranking(
            auroc=config.expected_auroc,
            joints=len(joints) / max(len(patients), 1),
            prevalence=min(max(share, 1e-3), 1 - 1e-3),
        )
        return auroc_power(size, ranking), f"AUROC {config.expected_auroc:g}, {share:.1%} of joints eroded"
    deviation, basis = config.expected_deviation, f"assumed deviation {config.expected_deviation:g}"
    known = _pilot_differences(pilot, task, metric, first, second) if pilot else np.zeros(0)
    if len(known) > 1 and known.std() > 0:
        deviation = pilot_deviation(known)
        basis = f"pilot of {len(known)} patients, deviation at most {deviation:.3f} (80 %)"
    return paired_power(size, deviation=deviation, metric=metric), basis


def _pilot_differences(pilot: Results, task: str, metric: str, first: str, second: str) -> Any:
    arms = [pilot.scores(metric, pilot.models(design=DESIGN, task=task, arm=arm)) for arm in (first, second)]
    if list(arms[0].patients) != list(arms[1].patients):
        return np.zeros(0)
    values = less(*arms).values
    return np.zeros(0) if values is None else values[~np.isnan(values)]


def _tested(work: Work, task: str) -> list[Radiograph]:
    """Return the test radiographs of all folds: over them each patient is tested once."""
    folds, dose = Ground(study=work.study, sites={}).folds, min(work.roots)
    return [one for fold in folds for one in get_task(task).of(work.cohort(fold, dose), "test").radiographs]


def _size(radiographs: Sequence[Radiograph], contrasts: int) -> StudySize:
    counts = Counter(center for center, _ in {(one.center, one.patient) for one in radiographs})
    return StudySize(patients_per_center=counts.total() / max(len(counts), 1), centers=len(counts), contrasts=contrasts)
