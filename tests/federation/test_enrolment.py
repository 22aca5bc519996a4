"""Who takes part, with what was left out of their cohorts."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest

from ramw_fed.config import RunConfig
from ramw_fed.data import layout
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import CohortError, ConfigError
from ramw_fed.federation.enrolment import Roll, call_roll
from ramw_fed.federation.inline import InlineGrid, InProcess
from ramw_fed.federation.opening import forget_centers, simulated_centers
from ramw_fed.federation.recorder import FolderRecorder

Toy = Callable[..., RunConfig]


def roll(config: RunConfig) -> Roll:
    forget_centers()
    with InlineGrid(len(simulated_centers(config)), InProcess()) as grid:
        return call_roll(grid, config, ["six"])


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root, tmp_path / "cohort")
    return tmp_path / "cohort"


def test_faulty_radiographs_are_left_out_only_up_to_the_share_that_a_knob_allows(toy: Toy, copy: Path) -> None:
    image = next(one.image for one in read_cohort(copy).radiographs if one.masks)
    image.write_bytes(image.read_bytes()[:500])
    config = toy("six", cohort=str(copy))
    with pytest.raises(CohortError, match="image-truncated"):
        roll(config)
    assert roll(replace(config, quarantine=0.1)).left_out == {"image-truncated": 1}
    assert replace(config, quarantine=0.1).deciding() != config.deciding()
    with pytest.raises(ConfigError, match="quarantine"):
        replace(config, quarantine=0.6)


def test_a_patient_on_both_sides_of_the_split_is_taken_only_where_a_knob_says_so(toy: Toy, copy: Path) -> None:
    one = next(one for one in read_cohort(copy).radiographs if one.mask_split == "train")
    (copy / layout.BONE_MASKS / "test").mkdir(exist_ok=True)
    (copy / layout.BONE_MASKS / "train" / f"{one.name}.npy").rename(
        copy / layout.BONE_MASKS / "test" / f"{one.name}.npy"
    )
    config = toy("six", cohort=str(copy))
    with pytest.raises(CohortError, match="patient-in-two-splits"):
        roll(config)
    assert len(roll(replace(config, allow_leakage=True)).nodes) == 6
    assert len(roll(replace(config, split="grouped")).nodes) == 6


def test_a_center_of_one_patient_answers_and_takes_no_part(toy: Toy, copy: Path) -> None:
    book = openpyxl.load_workbook(copy / layout.METADATA)
    sheet = book.active
    header = [cell.value for cell in sheet[1]]
    study, center = header.index("Mapped Image Stem") + 1, header.index("InstitutionName") + 1
    rows = [row for row in range(2, sheet.max_row + 1) if sheet.cell(row, center).value == "HU"]
    first = str(sheet.cell(rows[0], study).value).split("_")[0]
    for row in rows:
        if str(sheet.cell(row, study).value).split("_")[0] != first:
            sheet.cell(row, center).value = "FA"
    book.save(copy / layout.METADATA)
    found = roll(toy("six", cohort=str(copy)))
    assert "HU" in found.nodes
    assert sorted(found.enrolments["six"]) == ["BTXRD", "DHA", "FA", "HMCRD", "SCGH"]
    assert "HU" not in found.testers["six"]


def test_the_manifest_says_who_took_part_with_how_much_and_what_was_left_out(toy: Toy, tmp_path: Path) -> None:
    from ramw_fed.federation.inline import run_inline

    config = toy("six", out=str(tmp_path / "run"))
    recorder = FolderRecorder.at(config)
    run_inline(config, recorder)
    manifest = recorder.folder.read_json("manifest.json")
    # toy_tasks.SIX: 3 patients at the first center, one more at each next, a row each.
    assert manifest["centers"]["six"]["FA"]["patients"] == 5
    assert manifest["left_out"] == {}
