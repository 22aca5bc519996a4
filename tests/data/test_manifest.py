import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from dicom_files import write as write_dicom
from knees import BONES, COHORT, HEADER, JOINTS, rows, write_knees, write_rows

from ramw_fed.data.checks import check_cohort
from ramw_fed.data.manifest_table import COLUMNS
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import CohortError


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("cohorts") / "knees", 6)


@pytest.fixture
def copy(knees: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(knees, tmp_path / "copy"))


def test_a_manifest_is_read_whole(knees: Path) -> None:
    cohort = read_cohort(knees)
    assert (cohort.description.bones, cohort.description.joints, cohort.description.max_grade) == (BONES, JOINTS, 4)
    assert cohort.centers == ("Clinic 1", "Clinic 2", "Clinic 4", "Clinic 5", "Clinic 6", "Third")
    assert len(cohort.radiographs) == 36
    first = cohort.radiographs[0]
    assert (first.name, first.patient, first.exam, first.side) == ("images/010_L", "K010", "E010", "L")
    assert (first.mask_split, first.score_split) == ("train", "train")
    assert first.scores == {"MedialTibia": 1, "LateralTibia": 2}
    assert first.boxes["LateralTibia"] == (20, 18, 33, 36)
    assert first.read_crop("LateralTibia").shape == (18, 13)
    assert first.read_masks().shape == (2, 48, 40)
    assert {radiograph.spacing_mm for radiograph in cohort.radiographs} == {(0.2, 0.3)}
    assert {radiograph.image.suffix for radiograph in cohort.radiographs} == {  # type: ignore[union-attr]
        ".png", ".tif", ".dcm", ".bmp", ".jpg", ".tiff",
    }  # fmt: skip


def test_bone_is_bright_in_every_format(knees: Path) -> None:
    for radiograph in read_cohort(knees).radiographs:
        image, masks = radiograph.read_image(), radiograph.read_masks()
        assert image[masks[0]].mean() > image[~masks.any(axis=0)].mean() + 40, radiograph.name


def test_the_check_finds_nothing_but_conversions(knees: Path) -> None:
    findings = check_cohort(knees)
    assert {finding.code for finding in findings} == {"image-converted", "one-class-only"}
    assert findings.counts["totals"]["centers"] == 6
    assert findings.counts["centers"]["Third"]["joints"]["MedialTibia"]["grades"] == [2, 0, 0, 2, 2]


def test_order_of_rows_and_columns_and_the_look_of_titles_do_not_count(copy: Path) -> None:
    expected = read_cohort(copy)
    header, *lines = rows(copy)
    turned = [[*reversed(line)] for line in [[title.upper().replace(" ", "_") for title in header], *reversed(lines)]]
    write_rows(copy, turned)
    text = (copy / "manifest.csv").read_text().replace("images/", "./images/")
    quoted = re.sub(r"^([^,]+)", r'"\1"', text)
    (copy / "manifest.csv").write_text(f"\ufeff{quoted}\n\n", encoding="utf-8")
    assert read_cohort(copy).radiographs == expected.radiographs


def test_optional_columns_may_be_missing(copy: Path) -> None:
    header, *lines = rows(copy)
    write_rows(copy, [[line[header.index(name)] for name in ("image", "patient", "side", "center")]
                      for line in (header, *lines)])  # fmt: skip
    first = read_cohort(copy).radiographs[0]
    assert (first.exam, first.masks, first.mask_split, first.score_split) == ("K010", None, None, None)
    assert (first.scores, first.boxes, first.spacing_mm) == ({}, {}, None)
    dicom = next(one for one in read_cohort(copy).radiographs if one.image and one.image.suffix == ".dcm")
    assert dicom.spacing_mm == (0.2, 0.3)


def test_whole_numbers_as_a_table_program_writes_them_are_grades(copy: Path) -> None:
    change(copy, 1, MedialTibia="3.0", LateralTibia="")
    assert read_cohort(copy).radiographs[0].scores == {"MedialTibia": 3}


def test_the_hash_follows_every_cell_and_every_file(copy: Path) -> None:
    hashes = {read_cohort(copy).sha256}
    change(copy, 1, MedialTibia="4")
    hashes.add(read_cohort(copy).sha256)
    (copy / "cohort.toml").write_text(COHORT.replace("max_grade = 4", "max_grade = 5"))
    hashes.add(read_cohort(copy).sha256)
    np.save(copy / "masks" / "010_L.npy", np.ones((2, 48, 40), np.uint8))
    hashes.add(read_cohort(copy).sha256)
    assert len(hashes) == 4


def test_the_grouped_split_keeps_knees_of_a_patient_together(copy: Path) -> None:
    splits: dict[str, set[object]] = {}
    for radiograph in read_cohort(copy, split="grouped").radiographs:
        splits.setdefault(radiograph.patient, set()).add((radiograph.mask_split, radiograph.score_split))
    assert {len(found) for found in splits.values()} == {1}


def test_a_faulty_image_can_be_left_out_by_name(copy: Path) -> None:
    (copy / "images" / "010_L.tif").write_bytes(b"")
    with pytest.raises(CohortError, match="file-empty"):
        read_cohort(copy)
    read = read_cohort(copy, quarantine=0.05)
    assert dict(read.left_out) == {"images/010_L": "file-empty"}
    assert len(read.radiographs) == 35
    write_dicom(copy / "images" / "020_L.dcm", np.eye(48, 40, dtype=np.uint16), PatientName="Doe^John")
    left_out = read_cohort(copy, quarantine=0.1).left_out
    assert dict(left_out) == {"images/010_L": "file-empty", "images/020_L": "dicom-identity"}


def test_the_file_of_another_bone_count_or_without_bones_is_refused(copy: Path) -> None:
    (copy / "cohort.toml").write_text('joints = ["MedialTibia"]')
    with pytest.raises(CohortError, match="'bones' is missing"):
        read_cohort(copy)


def change(root: Path, row: int, **cells: str) -> None:
    """Change cells of a row; row 0 holds the titles. Blanks in a title are written as two underscores."""
    table = rows(root)
    for name, value in cells.items():
        table[row][HEADER.index(name.replace("__", " "))] = value
    write_rows(root, table)


def append(root: Path, *cells: str) -> None:
    write_rows(root, [*rows(root), cells])


def link(root: Path) -> None:
    outside = root.parent / "outside.tif"
    (root / "images" / "010_L.tif").rename(outside)
    (root / "images" / "010_L.tif").symlink_to(outside)


PLANTED: list[tuple[str, str, Callable[[Path], object]]] = [
    ("error", "description-missing", lambda r: (r / "cohort.toml").unlink()),
    ("error", "description-unreadable", lambda r: (r / "cohort.toml").write_text("bones = 3")),
    ("error", "manifest-unreadable", lambda r: (r / "manifest.csv").write_bytes(b"")),
    ("error", "manifest-unreadable", lambda r: (r / "manifest.csv").write_bytes(b"\xff\xfe\x00image")),
    ("error", "manifest-unreadable", lambda r: append(r, "one cell")),
    ("error", "manifest-unreadable", lambda r: change(r, 0, exam="patient")),
    ("error", "manifest-column-missing", lambda r: change(r, 0, center="where")),
    ("error", "radiograph-missing", lambda r: write_rows(r, rows(r)[:1])),
    ("warning", "column-unknown", lambda r: change(r, 0, MedialTibia="Hip")),
    ("error", "row-twice", lambda r: append(r, *rows(r)[1])),
    ("error", "row-twice", lambda r: change(r, 2, image="images/010_L.png")),
    ("error", "cell-missing", lambda r: change(r, 1, image="")),
    ("error", "cell-missing", lambda r: change(r, 1, patient="")),
    ("error", "cell-missing", lambda r: change(r, 1, center=" ")),
    ("error", "side-malformed", lambda r: change(r, 1, side="both")),
    ("error", "split-malformed", lambda r: change(r, 1, split="hold")),
    ("error", "path-leaves-folder", lambda r: change(r, 1, image="../010_L.tif")),
    ("error", "path-leaves-folder", lambda r: change(r, 1, mask="/etc/passwd")),
    ("error", "path-leaves-folder", lambda r: change(r, 1, image="C:\\images\\010_L.tif")),
    ("error", "path-leaves-folder", lambda r: change(r, 1, image=".")),
    ("error", "link-leaves-folder", link),
    ("error", "file-missing", lambda r: change(r, 1, image="images/gone.tif")),
    ("error", "file-missing", lambda r: change(r, 1, mask="masks/gone.npy")),
    ("error", "mask-without-image", lambda r: (r / "images" / "010_L.tif").unlink()),
    ("error", "image-not-an-image", lambda r: change(r, 1, image="cohort.toml")),
    ("error", "mask-unreadable", lambda r: change(r, 1, mask="images/010_R.tif")),
    ("error", "mask-shape", lambda r: np.save(r / "masks" / "010_L.npy", np.ones((3, 48, 40), np.uint8))),
    ("error", "mask-empty", lambda r: np.save(r / "masks" / "010_L.npy", np.zeros((2, 48, 40), np.uint8))),
    ("note", "bone-absent", lambda r: np.save(r / "masks" / "010_L.npy", np.eye(2, dtype=np.uint8)[1].reshape(2, 1, 1)
                                              * np.ones((2, 48, 40), np.uint8))),
    ("error", "dicom-identity", lambda r: write_dicom(r / "images" / "020_L.dcm", np.eye(48, 40, dtype=np.uint16),
                                                      PatientName="Doe^John")),
    ("error", "score-malformed", lambda r: change(r, 1, MedialTibia="5")),
    ("error", "score-malformed", lambda r: change(r, 1, MedialTibia="-1")),
    ("error", "score-malformed", lambda r: change(r, 1, MedialTibia="1.5")),
    ("error", "score-malformed", lambda r: change(r, 1, MedialTibia="NA")),
    ("error", "score-malformed", lambda r: change(r, 1, MedialTibia="inf")),
    ("error", "patient-in-two-splits", lambda r: change(r, 1, split="val")),
    ("warning", "patient-at-two-centers", lambda r: change(r, 1, center="Clinic 5")),
    ("warning", "center-name-unused", lambda r: (r / "cohort.toml").write_text(COHORT + '"Clinic 99" = "No one"\n')),
    ("warning", "center-names-alike", lambda r: change(r, 1, center="CLINIC 1")),
    ("warning", "spacing-malformed", lambda r: change(r, 1, spacing="wide")),
    ("warning", "box-malformed", lambda r: change(r, 1, MedialTibia__box="1 2 3")),
    ("warning", "box-malformed", lambda r: change(r, 1, MedialTibia__box="9 2 2 9")),
    ("warning", "box-malformed", lambda r: change(r, 1, MedialTibia__box="2 9 9 2")),
    ("warning", "box-malformed", lambda r: change(r, 1, MedialTibia__box="90 90 99 99")),
    ("warning", "score-without-crop", lambda r: change(r, 1, MedialTibia__box="")),
    ("warning", "image-duplicated", lambda r: cv2.imwrite(
        str(r / "images" / "011_R.tif"), cv2.imread(str(r / "images" / "010_L.tif"), cv2.IMREAD_UNCHANGED))),
    ("note", "label-without-split", lambda r: change(r, 1, split="")),
    ("note", "score-partial", lambda r: change(r, 1, MedialTibia="")),
    ("note", "file-unknown", lambda r: (r / "images" / "notes.txt").write_text("x")),
    ("note", "image-without-label", lambda r: change(r, 1, mask="", MedialTibia="", LateralTibia="")),
]  # fmt: skip


@pytest.mark.parametrize(("level", "code", "plant"), PLANTED, ids=[f"{n}-{c}" for n, (_, c, _) in enumerate(PLANTED)])
def test_a_planted_fault_is_found_under_its_code(
    copy: Path, level: str, code: str, plant: Callable[[Path], object]
) -> None:
    plant(copy)
    found = {finding.code: finding for finding in check_cohort(copy)}
    assert code in found
    assert found[code].level == level
    if level == "error":
        with pytest.raises(CohortError, match=code):
            read_cohort(copy)
    else:
        read_cohort(copy)


def test_the_documentation_lists_every_column() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for name, meaning in COLUMNS.items():
        assert f"| `{name}` | {meaning} |" in text


def test_the_example_in_the_documentation_is_a_cohort(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for name, content in re.findall(r"cat > (\S+) <<'END'\n(.+?)END\n", text, re.DOTALL):
        (tmp_path / name).write_text(content)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.tif"), np.eye(48, dtype=np.uint16))
    np.save(tmp_path / "masks" / "a.npy", np.ones((2, 48, 48), np.uint8))
    (radiograph,) = read_cohort(tmp_path).radiographs
    assert (radiograph.center, radiograph.scores) == ("Clinic 1", {"MedialTibia": 3})
    assert radiograph.read_crop("MedialTibia").shape == (18, 12)
