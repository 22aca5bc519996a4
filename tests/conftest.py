import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramw_fed.config import PhantomConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.data.reading import read_cohort

sys.path.insert(0, str(Path(__file__).parent))  # tests import knees, pages and dicom_files by name

SMALL = PhantomConfig(patients=24, size=64, seed=7, prevalence=0.2, label_skew=0.3)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing of the user's cache is read or filled by the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAMW_FED_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom, written once: read it, copy it, never change it."""
    root = tmp_path_factory.mktemp("cohorts") / "phantom"
    write_phantom(SMALL, root)
    return root


@pytest.fixture(scope="session")
def phantom_cohort(phantom_root: Path) -> Cohort:
    return read_cohort(phantom_root)
