from pathlib import Path

import pytest

from ramw_fed import api
from ramw_fed.config_sources import resolve

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
}


@pytest.fixture(scope="session")
def finished_run(phantom_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report: read it, copy it, never change it."""
    return api.run(resolve({**TINY, "cohort": str(phantom_root)}), out=tmp_path_factory.mktemp("runs") / "tiny").path
