from pathlib import Path

import pytest

from ramw_fed import api
from ramw_fed.config import PhantomConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.phantom.writer import write_phantom

TINY = {
    "device": "cpu",
    "num-rounds": 2,
    "local-epochs": 1,
    "augmentation": "none",
    "image-size": 32,
    "crop-size": 16,
    "workers": 1,
    "baselines": True,
    "resamples": 100,
    "segmentation": {"depth": 3, "decoder-width": 16},
    "erosion": {"threshold": 0.9},  # so little training calls no joint less likely eroded than not
}


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report, erosions in its test split: read it, copy it, never change it."""
    folder = tmp_path_factory.mktemp("reported")
    write_phantom(PhantomConfig(patients=30, size=64, seed=3, prevalence=0.4), folder / "phantom")
    return api.run(resolve({**TINY, "cohort": str(folder / "phantom")}), out=folder / "tiny").path


@pytest.fixture(scope="session")
def decided_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that chose its threshold and corrected its probabilities on validation; never change it."""
    folder = tmp_path_factory.mktemp("decided")
    write_phantom(PhantomConfig(patients=30, size=64, seed=3, prevalence=0.4), folder / "phantom")
    rules = {"threshold-rule": "youden", "calibration": "platt", "own-threshold-patients": 3}
    config = {**TINY, "tasks": "erosion", "num-rounds": 1, "baselines": False, "erosion": rules}
    return api.run(resolve({**config, "cohort": str(folder / "phantom")}), out=folder / "run").path
