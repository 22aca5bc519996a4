"""What a study costs and what it can find, before it is made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_rows import dsc, table

from ramw_fed.config import PhantomConfig
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.data.reading import read_cohort
from ramw_fed.statistics.power import StudySize, paired_power, pilot_deviation
from ramw_fed.studies.config import Study
from ramw_fed.studies.cost import plan_study
from ramw_fed.studies.planner import plan_power
from ramw_fed.studies.results import Results
from ramw_fed.studies.work import Work
from ramw_fed.tasks import get_task

CENTERS = ("HMCRD", "HU", "SCGH")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three centers of eight patients, three of whom are tested."""
    folder = tmp_path_factory.mktemp("cohorts") / "three"
    write_phantom(PhantomConfig(patients=24, centers=3, size=48), folder)
    return folder


def work(root: Path, folder: Path, **knobs: Any) -> Work:
    own = {"designs": ["matched-arms"], "methods": ["fedavg"], "seeds": 2, **knobs}
    raw = {
        "tasks": "segmentation",
        "cohort": str(root),
        "centers": list(CENTERS),
        "workers": 1,
        "device": "cpu",
        "segmentation": {"image-size": 32, "depth": 3, "num-rounds": 3, "local-epochs": 2, "batch-size": 4},
        "study": own,
    }
    return Work(Study.of("small", raw), folder, {"": root})


def test_steps_are_epochs_over_batches_and_pooled_radiographs_fill_theirs(root: Path, tmp_path: Path) -> None:
    cost = plan_study(work(root, tmp_path))
    cohort = read_cohort(root)
    sizes = [len(get_task("segmentation").of(cohort.at(center), "train").radiographs) for center in CENTERS]
    each = sum(-(-size // 4) for size in sizes)
    wanted = 2 * 3 * 2 * (each + each + -(-sum(sizes) // 4))  # seeds, rounds, epochs; alone, federated, central
    (task,) = cost.tasks
    assert (task.trainings, task.finished, task.steps) == (2 * 5, 0, wanted)
    assert cost.models == {"matched-arms": 2 * (3 + 3 + 3)}
    assert task.hours == pytest.approx(wanted * task.seconds_per_step / 3600)


def test_a_grid_is_counted_at_the_first_seed_and_one_point_at_the_others(root: Path, tmp_path: Path) -> None:
    cost = plan_study(work(root, tmp_path, tune=["learning-rate = 0.1 | 0.2 | 0.3"]))
    assert cost.tasks[0].trainings == 3 * 5 + 5


def test_what_is_finished_is_not_counted_again(root: Path, tmp_path: Path) -> None:
    under_way = work(root, tmp_path)
    done = under_way.order(min(cell.training for cell in under_way.cells())).folder
    done.mkdir(parents=True)
    (done / "metrics.json").write_text("{}")
    assert plan_study(under_way).tasks[0].finished == 1


def test_power_takes_the_pilots_deviation_in_place_of_the_assumed_one(root: Path, tmp_path: Path) -> None:
    asked = work(root, tmp_path, contrasts=["fedavg - central"], metrics=["dsc"])
    (assumed,) = plan_power(asked, None)
    assert assumed["basis"] == "assumed deviation 0.05"
    differences = [0.02, -0.01, 0.03, 0.0, 0.05, 0.01]
    rows = [dsc("central", "HU", str(n), 0.5) for n in range(6)]
    rows += [dsc("fedavg", "HU", str(n), 0.5 + value) for n, value in enumerate(differences)]
    (piloted,) = plan_power(asked, Results(table(rows), seed=0, resamples=100))
    cohort = get_task("segmentation").of(asked.cohort(), "test")
    patients = len({one.patient for one in cohort.radiographs})
    size = StudySize(patients_per_center=patients / 3, centers=3)
    wanted = paired_power(size, deviation=pilot_deviation(np.array(differences)))
    assert piloted["smallest"] == pytest.approx(wanted.smallest)
    assert piloted["patients"] == patients
    assert piloted["smallest"] != assumed["smallest"]


def test_the_family_of_contrasts_raises_what_can_be_found(root: Path, tmp_path: Path) -> None:
    one = plan_power(work(root, tmp_path, contrasts=["fedavg - central"], metrics=["dsc"]), None)
    two = plan_power(
        work(root, tmp_path, contrasts=["fedavg - central", "fedavg - local"], metrics=["dsc", "nsd"]), None
    )
    assert len(two) == 4
    assert {row["contrasts"] for row in two} == {4}
    assert two[0]["smallest"] > one[0]["smallest"]


def test_over_folds_every_patient_is_tested_and_counts_once(root: Path, tmp_path: Path) -> None:
    (row,) = plan_power(work(root, tmp_path, contrasts=["fedavg - central"], metrics=["dsc"], folds=3), None)
    assert row["patients"] == len({(one.center, one.patient) for one in read_cohort(root).radiographs if one.masks})
