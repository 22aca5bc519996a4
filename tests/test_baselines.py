"""A center alone is the same training as a federation of that center only: start, best round and precision alike."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ramw_fed import api
from ramw_fed.baselines import train_alone
from ramw_fed.config import PhantomConfig, RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.data.reading import read_cohort
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks import SEGMENTATION
from ramw_fed.tasks.task import Table


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    root = tmp_path_factory.mktemp("cohorts") / "phantom"
    write_phantom(PhantomConfig(patients=24, size=48), root)
    table = {"image-size": 32, "num-rounds": 3, "local-epochs": 1, "learning-rate": 0.03}
    knobs: dict[str, Any] = {"tasks": "segmentation", "method": "fedavg", "workers": 1, "device": "cpu"}
    return resolve({**knobs, "centers": "HU", "cohort": str(root), "resamples": 100, "segmentation": table})


@pytest.fixture(scope="module")
def first(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return api.run(config, out=tmp_path_factory.mktemp("runs") / "first")


def measured(folder: RunFolder) -> list[str]:
    return (folder.path / "predictions" / "segmentation.csv").read_text().splitlines()


def written(folder: Path, table: Table) -> list[str]:
    RunFolder(folder).write_predictions("segmentation", table)
    return measured(RunFolder(folder))


def test_a_center_alone_is_a_federation_of_that_center(config: RunConfig, first: RunFolder, tmp_path: Path) -> None:
    cohort = read_cohort(Path(config.cohort)).at("HU")
    other = replace(config, start_from=str(first.path), precision="float16")
    assert written(tmp_path, train_alone("HU", SEGMENTATION, cohort, config)) == measured(first)
    again = api.run(other, out=tmp_path / "again")
    assert written(tmp_path, train_alone("HU", SEGMENTATION, cohort, other)) == measured(again)
    assert measured(again) != measured(first)


def test_the_best_round_counts_and_not_the_last(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    # A rate that does not fall: two rounds of three are then a run of two.
    monkeypatch.setattr("ramw_fed.learning.training.learning_rate", lambda _config, _progress: 0.01)
    cohort = read_cohort(Path(config.cohort)).at("HU")
    tables = []
    for qualities in ((0.1, 0.9, 0.5), (0.1, 0.9)):
        told = iter(qualities)
        task = replace(SEGMENTATION, quality=lambda _sums, told=told: next(told))
        segmentation = replace(config.segmentation, num_rounds=len(qualities))
        tables.append(train_alone("HU", task, cohort, replace(config, segmentation=segmentation)))
    assert np.array_equal(tables[0]["nsd"], tables[1]["nsd"], equal_nan=True)
