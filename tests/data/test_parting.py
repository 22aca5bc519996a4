from dataclasses import replace
from pathlib import Path

import pytest
from knees import rows, write_knees

from ramw_fed.data.checks import check_cohort
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.parting import part_by_center
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import CohortError


@pytest.fixture(scope="module")
def parts(phantom_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return dict(part_by_center(phantom_root, tmp_path_factory.mktemp("parts") / "out"))


def without_paths(radiograph: Radiograph) -> Radiograph:
    return replace(radiograph, image=None, masks=None, crops=dict.fromkeys(radiograph.crops, Path()))


@pytest.mark.parametrize("split", ["official", "grouped"])
def test_a_centers_own_folder_reads_like_its_part_of_the_whole(
    parts: dict[str, Path], phantom_root: Path, split: str
) -> None:
    whole = read_cohort(phantom_root, split=split)
    assert set(parts) == set(whole.centers)
    for center, folder in parts.items():
        own = read_cohort(folder, split=split)
        assert own.centers == (center,)
        expected = whole.at(center).radiographs
        assert [without_paths(r) for r in own.radiographs] == [without_paths(r) for r in expected]


def test_a_centers_folder_holds_nothing_of_another(parts: dict[str, Path], phantom_cohort: Cohort) -> None:
    for center, folder in parts.items():
        findings = check_cohort(folder)
        assert {finding.code for finding in findings} <= {"one-class-only", "label-missing-at-center"}
        others = {r.name for r in phantom_cohort.radiographs if r.center != center}
        texts = "".join(path.read_text() for path in folder.rglob("*.json"))
        assert not [name for name in others if name in texts]
        assert not [path for path in folder.rglob("*") if path.stem in others]


def test_a_folder_with_something_in_it_is_refused(phantom_root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(CohortError, match="not an empty folder"):
        part_by_center(phantom_root, tmp_path)


def test_a_manifest_is_parted_row_by_row(tmp_path: Path) -> None:
    whole = read_cohort(write_knees(tmp_path / "knees", 3))
    folders = part_by_center(tmp_path / "knees", tmp_path / "out")
    assert list(folders) == ["Clinic 1", "Clinic 2", "Third"]
    for center, folder in folders.items():
        expected = whole.at(center).radiographs
        assert [without_paths(r) for r in read_cohort(folder).radiographs] == [without_paths(r) for r in expected]
        assert len(rows(folder)) == 7
        assert len(list(folder.rglob("*.*"))) == 2 + 6 + 6
