import datetime
import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import openpyxl
import pytest

from ramw_fed.config import PhantomConfig
from ramw_fed.data.phantom import writer
from ramw_fed.data.phantom.anatomy import BONES
from ramw_fed.data.phantom.plan import plan
from ramw_fed.data.phantom.workbook import COLUMNS, write_metadata
from ramw_fed.data.phantom.writer import draw_wrist, write_phantom
from ramw_fed.errors import CohortError

TINY = PhantomConfig(patients=6, size=48, seed=3)


def contents(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes_for_one_and_two_workers(tmp_path: Path) -> None:
    write_phantom(TINY, tmp_path / "one", workers=1)
    write_phantom(TINY, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_an_image_depends_on_itself_alone_and_not_on_who_was_drawn_before() -> None:
    exposures = plan(TINY)
    alone = draw_wrist(TINY, exposures[-1])
    for exposure in exposures:
        last = draw_wrist(TINY, exposure)
    assert np.array_equal(alone.image, last.image)
    assert np.array_equal(alone.masks, last.masks)


def test_the_tree_is_that_of_ramw600(phantom_root: Path) -> None:
    found = {path.relative_to(phantom_root).as_posix() for path in phantom_root.rglob("*")}
    assert {
        "Metadata.xlsx",
        "BoneSegmentation/images",
        "BoneSegmentation/masks/val",
        "JointLocationDetection/images",
        "JointLocationDetection/Joints.coco.json",
        "SvdHBEScoreClassification/JointBE_SvdH_GT.json",
        "SvdHBEScoreClassification/JointBE_SvdH_GT_Ori.json",
        "cohort.toml",
    } <= found
    crops = next((phantom_root / "SvdHBEScoreClassification" / "test").iterdir())
    names = {"Metacarpal1st", "Trapzium", "Scaphoid", "Lunate", "DistalRadius", "DistalUlna"}
    assert {path.stem for path in crops.iterdir()} == names
    scores = json.loads((phantom_root / "SvdHBEScoreClassification" / "JointBE_SvdH_GT.json").read_text())
    assert set(scores[0]) == {"identifier", "joints"}
    assert set(scores[0]["joints"]) == names


def test_bitmaps_have_both_published_modes_and_sizes_within_one_study(tmp_path: Path) -> None:
    image = np.zeros((600, 600), np.uint8)
    # 361,078 and 1,080,054 bytes: the two file sizes among the published 600-pixel images
    assert [len(writer._bitmap(image, is_colour)) for is_colour in (False, True)] == [361_078, 1_080_054]


def test_both_modes_occur_within_a_study(phantom_root: Path) -> None:
    modes: dict[str, set[int]] = {}
    for path in (phantom_root / "BoneSegmentation" / "images").iterdir():
        channels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ndim
        modes.setdefault(path.stem[:-2], set()).add(channels)
    assert {2, 3} in modes.values()


def test_masks_are_bytes_of_fourteen_bones(phantom_root: Path) -> None:
    paths = list((phantom_root / "BoneSegmentation" / "masks" / "train").iterdir())
    assert paths
    for path in paths:
        masks = np.load(path)
        assert (masks.shape, masks.dtype) == ((len(BONES), 64, 64), np.uint8)
        assert set(np.unique(masks)) == {0, 1}


def test_left_hands_are_mirror_images_with_mirrored_masks_and_boxes() -> None:
    left = next(exposure for exposure in plan(TINY) if exposure.side == "L")
    wrist = draw_wrist(TINY, left)
    scaphoid, hamate = (wrist.masks[BONES.index(bone)] for bone in ("Scaphoid", "Hamate"))
    # In a right hand seen from the front the thumb's side, with the scaphoid, is on the left of the image.
    assert np.argwhere(scaphoid)[:, 1].mean() > np.argwhere(hamate)[:, 1].mean()
    x0, y0, x1, y1 = wrist.boxes["Scaphoid"]
    row, column = np.argwhere(scaphoid).mean(axis=0)
    assert x0 <= column <= x1
    assert y0 <= row <= y1


def test_metadata_has_one_row_a_study_and_the_known_columns(phantom_root: Path) -> None:
    rows = list(openpyxl.load_workbook(phantom_root / "Metadata.xlsx").active.iter_rows(values_only=True))
    assert rows[0] == COLUMNS
    studies = {path.stem[:-2] for path in (phantom_root / "BoneSegmentation" / "images").iterdir()}
    assert {row[0] for row in rows[1:]} == studies
    assert len(rows) - 1 == len(studies)


def test_the_workbook_does_not_know_what_day_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_metadata(plan(TINY), 3, tmp_path / "a.xlsx")
    with zipfile.ZipFile(io.BytesIO((tmp_path / "a.xlsx").read_bytes())) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        this_year = str(datetime.datetime.now(tz=datetime.UTC).year).encode()
        assert all(this_year + b"-" not in archive.read(name) for name in archive.namelist())


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CohortError, match="not an empty folder"):
        write_phantom(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no more disk")

    monkeypatch.setattr(writer, "write_metadata", fail)
    with pytest.raises(RuntimeError, match="no more disk"):
        write_phantom(TINY, tmp_path / "cohort")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    abandoned = tmp_path / ".cohort.partial-999999999"
    abandoned.mkdir()
    write_phantom(TINY, tmp_path / "cohort")
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_progress_counts_to_the_number_of_images(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_phantom(TINY, tmp_path / "cohort", progress=lambda done, total: seen.append((done, total)))
    number = len(plan(TINY))
    assert seen == [(done, number) for done in range(1, number + 1)]


def test_contrast_dims_bone_and_leaves_the_wrist_as_it_is() -> None:
    exposure = plan(TINY)[0]
    plain, same, faint = (draw_wrist(replace(TINY, contrast=contrast), exposure) for contrast in (None, 1.0, 0.4))
    assert np.array_equal(plain.image, same.image)
    assert np.array_equal(plain.masks, faint.masks)
    bone = plain.masks.any(axis=0)
    beside = (cv2.dilate(bone.astype(np.uint8), np.ones((5, 5))) > 0) & ~bone
    gaps = [float(wrist.image[bone].mean() - wrist.image[beside].mean()) for wrist in (plain, faint)]
    assert 0 < gaps[1] < 0.85 * gaps[0]


def test_a_contrast_that_is_not_set_leaves_no_trace_in_the_files(phantom_root: Path) -> None:
    assert "contrast" not in (phantom_root / "cohort.toml").read_text(encoding="utf-8")
