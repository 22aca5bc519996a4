import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import openpyxl
import pytest
from dicom_files import write as write_dicom
from PIL import Image
from rich.console import Console

from ramw_fed.config import PhantomConfig
from ramw_fed.data.checks import check_cohort
from ramw_fed.data.findings import SAYINGS
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import CohortError

SCORES = "SvdHBEScoreClassification/JointBE_SvdH_GT.json"
BOXES = "JointLocationDetection/Joints.coco.json"


@pytest.fixture(scope="module")
def two_centers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As small as a cohort can be that has everything: each planted fault costs a copy of it."""
    root = tmp_path_factory.mktemp("cohorts") / "two"
    write_phantom(PhantomConfig(centers=2, patients=8, size=64, seed=1, prevalence=0.3), root)
    return root


@pytest.fixture
def copy(two_centers: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_centers, tmp_path / "copy"))


def image(root: Path, number: int = 0) -> Path:
    return sorted((root / "BoneSegmentation" / "images").iterdir())[number]


def masks(root: Path, number: int = 0) -> Path:
    return sorted((root / "BoneSegmentation" / "masks").rglob("*.npy"))[number]


def crop(root: Path) -> Path:
    return sorted((root / "SvdHBEScoreClassification").rglob("Lunate.bmp"))[0]


def bitmap(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".bmp", pixels)[1].tobytes())


def change_json(path: Path, change: Callable[[object], object]) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def change_cell(root: Path, row: int, column: str, value: object) -> None:
    workbook = openpyxl.load_workbook(root / "Metadata.xlsx")
    sheet = workbook.active
    header = [cell.value for cell in sheet[1]]
    sheet.cell(row, header.index(column) + 1).value = value
    workbook.save(root / "Metadata.xlsx")


def bomb(path: Path) -> None:
    """A header that promises 60,000 x 60,000 pixels over a small body."""
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<ii", 60_000, 60_000)
    path.write_bytes(bytes(content))


def two_frames(path: Path) -> None:
    frame = Image.fromarray(np.eye(64, dtype=np.uint8))
    frame.save(path, save_all=True, append_images=[frame])


def as_dicom(path: Path, **tags: object) -> None:
    write_dicom(path.with_suffix(".dcm"), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), **tags)
    path.unlink()


def save_masks(root: Path, array: np.ndarray) -> None:
    np.save(masks(root), array, allow_pickle=True)


def zip_as_masks(root: Path) -> None:
    with masks(root).open("wb") as file:
        np.savez(file, array=np.zeros((14, 64, 64), np.uint8))


def one_hand_elsewhere(root: Path) -> None:
    folder = root / "BoneSegmentation" / "masks" / "train"
    hand = next(p for p in sorted(folder.glob("*_L.npy")) if (folder / p.name.replace("_L", "_R")).exists())
    hand.rename(root / "BoneSegmentation" / "masks" / "val" / hand.name)


def link_outside(root: Path) -> None:
    outside = root.parent / "outside.bmp"
    image(root).rename(outside)
    image(root).with_stem("0999_0001_R").symlink_to(outside)


def remove_crops_of_one(root: Path) -> None:
    name = crop(root).parent.name
    shutil.rmtree(crop(root).parent)
    change_json(root / BOXES, lambda table: without_boxes(table, name))


def without_boxes(table: dict, name: str) -> dict:
    number = next(entry["id"] for entry in table["images"] if entry["file_name"] == f"{name}.bmp")
    kept = [entry for entry in table["annotations"] if entry["image_id"] != number]
    return {**table, "annotations": kept}


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


PLANTED: list[tuple[str, str, Callable[[Path], object]]] = [
    ("error", "file-empty", lambda r: image(r).write_bytes(b"")),
    ("error", "file-empty", lambda r: (r / SCORES).write_bytes(b"")),
    ("error", "image-truncated", lambda r: image(r).write_bytes(image(r).read_bytes()[:-100])),
    ("error", "image-truncated", lambda r: crop(r).write_bytes(crop(r).read_bytes()[:-10])),
    ("error", "image-not-an-image", lambda r: image(r).write_bytes(b"this is no image")),
    ("error", "image-wrong-extension", lambda r: image(r).rename(image(r).with_suffix(".png"))),
    ("error", "image-too-large", lambda r: bomb(image(r))),
    (
        "error",
        "image-coloured",
        lambda r: image(r).write_bytes(bitmap(np.eye(64, dtype=np.uint8)[..., None] * [1, 2, 3])),
    ),
    ("error", "image-depth", lambda r: cv2.imwrite(str(image(r).with_suffix(".tiff")), np.eye(64, dtype=np.float32))),
    ("note", "image-converted", lambda r: cv2.imwrite(str(image(r).with_suffix(".png")), np.eye(64, dtype=np.uint16))),
    ("error", "image-multi-frame", lambda r: two_frames(image(r).with_suffix(".tiff"))),
    ("error", "dicom-unreadable", lambda r: image(r).rename(image(r).with_suffix(".dcm"))),
    ("error", "dicom-identity", lambda r: as_dicom(image(r), PatientName="Doe^John")),
    ("error", "dicom-annotation", lambda r: as_dicom(image(r), BurnedInAnnotation="YES")),
    ("error", "image-twice", lambda r: cv2.imwrite(str(image(r).with_suffix(".png")), np.eye(64, dtype=np.uint8))),
    ("error", "mask-unreadable", lambda r: masks(r).write_bytes(masks(r).read_bytes()[:-5])),
    ("error", "mask-unreadable", lambda r: save_masks(r, np.zeros((14, 64, 64), np.float32))),
    ("error", "mask-unreadable", lambda r: save_masks(r, np.array([{"a": 1}], object))),
    ("error", "mask-unreadable", zip_as_masks),
    ("error", "mask-values", lambda r: save_masks(r, np.load(masks(r)) * 3)),
    ("error", "mask-values", lambda r: save_masks(r, np.arange(14 * 64 * 64).reshape(14, 64, 64).astype(np.uint8))),
    ("error", "mask-shape", lambda r: save_masks(r, np.ones((14, 32, 64), np.uint8))),
    ("error", "mask-shape", lambda r: save_masks(r, np.ones((13, 64, 64), np.uint8))),
    ("error", "mask-shape", lambda r: save_masks(r, np.ones((64, 64), np.uint8))),
    ("error", "mask-empty", lambda r: save_masks(r, np.zeros((14, 64, 64), np.uint8))),
    ("note", "bone-absent", lambda r: save_masks(r, np.load(masks(r)) * (np.arange(14) > 0)[:, None, None])),
    ("error", "mask-without-image", lambda r: masks(r).rename(masks(r).with_stem("0001_0099_R"))),
    (
        "error",
        "mask-in-two-splits",
        lambda r: shutil.copy(masks(r), r / "BoneSegmentation/masks/train" / masks(r).name),
    ),
    (
        "error",
        "crop-in-two-splits",
        lambda r: shutil.copytree(crop(r).parent, r / "SvdHBEScoreClassification/train" / crop(r).parent.name),
    ),
    ("error", "name-malformed", lambda r: image(r).rename(image(r).with_stem("wrist"))),
    ("error", "patient-in-two-splits", one_hand_elsewhere),
    ("error", "link-leaves-folder", link_outside),
    ("error", "link-leaves-folder", lambda r: (r / "loop").symlink_to(r / "loop")),
    ("error", "link-leaves-folder", lambda r: (r / "BoneSegmentation" / "up").symlink_to(r.parent.parent)),
    ("error", "metadata-missing", lambda r: (r / "Metadata.xlsx").unlink()),
    ("error", "metadata-unreadable", lambda r: (r / "Metadata.xlsx").write_bytes(b"PK no workbook")),
    ("error", "metadata-unreadable", lambda r: zipfile.ZipFile(r / "Metadata.xlsx", "w").close()),
    ("error", "metadata-column-missing", lambda r: change_cell(r, 1, "InstitutionName", "Where")),
    ("error", "study-contradicted", lambda r: change_cell(r, 3, "Mapped Image Stem", image(r).stem[:-2])),
    ("error", "center-missing", lambda r: change_cell(r, 2, "InstitutionName", None)),
    ("warning", "patient-number-differs", lambda r: change_cell(r, 2, "NormalizedPatientID", 999)),
    ("warning", "score-differs", lambda r: [change_cell(r, n, f"Lu_{s}", 5) for n in range(2, 8) for s in "LR"]),
    ("warning", "spacing-malformed", lambda r: change_cell(r, 2, "ImagerPixelSpacing", "wide")),
    ("warning", "center-names-alike", lambda r: change_cell(r, 2, "InstitutionName", "hm crd")),
    ("warning", "center-of-one-patient", lambda r: change_cell(r, 2, "InstitutionName", "Alone")),
    ("note", "study-without-image", lambda r: change_cell(r, 2, "Mapped Image Stem", "0999_0001")),
    ("error", "scores-unreadable", lambda r: (r / SCORES).write_text("[{")),
    ("error", "scores-unreadable", lambda r: (r / SCORES).write_text('{"a": 1}')),
    ("error", "score-malformed", lambda r: change_json(r / SCORES, lambda t: t[0]["joints"].update(Lunate=6))),
    ("error", "score-malformed", lambda r: change_json(r / SCORES, lambda t: t[0]["joints"].update(Lunate=-1))),
    ("error", "score-malformed", lambda r: change_json(r / SCORES, lambda t: t[0]["joints"].update(Lunate=True))),
    ("error", "score-malformed", lambda r: change_json(r / SCORES, lambda t: t[0]["joints"].update(Lunate="2"))),
    (
        "error",
        "score-malformed",
        lambda r: change_json(r / SCORES, lambda t: t[0]["joints"].update(Lunate=float("nan"))),
    ),
    ("error", "score-malformed", lambda r: change_json(r / SCORES, lambda t: t[0]["joints"].update(Lunate=10**400))),
    ("error", "score-malformed", lambda r: change_json(r / SCORES, lambda t: t.append(3))),
    ("error", "score-twice", lambda r: change_json(r / SCORES, lambda t: t.append(t[0]))),
    ("warning", "joint-unknown", lambda r: change_json(r / SCORES, lambda t: t[0]["joints"].update(Hip=1))),
    (
        "warning",
        "score-without-image",
        lambda r: change_json(r / SCORES, lambda t: t[0].update(identifier="0999_0001_L")),
    ),
    ("warning", "crop-without-score", lambda r: change_json(r / SCORES, lambda t: t[1:])),
    ("warning", "score-without-crop", remove_crops_of_one),
    ("note", "score-partial", lambda r: change_json(r / SCORES, lambda t: t[0]["joints"].pop("Lunate") and None)),
    ("note", "score-original-differs", lambda r: change_json(r / SCORES.replace("GT", "GT_Ori"), lambda t: t[1:])),
    ("error", "boxes-unreadable", lambda r: (r / BOXES).write_text("[]")),
    ("error", "boxes-unreadable", lambda r: (r / BOXES).write_text("{")),
    ("warning", "box-malformed", lambda r: change_json(r / BOXES, lambda t: t["annotations"][0].update(bbox=[1, 2]))),
    (
        "warning",
        "box-malformed",
        lambda r: change_json(r / BOXES, lambda t: t["annotations"][0].update(bbox=[900, 0, 5, 5])),
    ),
    ("warning", "box-malformed", lambda r: change_json(r / BOXES, lambda t: t["images"].pop(0) and None)),
    ("warning", "image-duplicated", lambda r: shutil.copy(image(r), image(r, 9))),
    ("warning", "image-duplicated", lambda r: image(r, 9).write_bytes(bitmap(cv2.imread(str(image(r)))[:, ::-1]))),
    ("warning", "image-copies-differ", lambda r: image(r).write_bytes(bitmap(np.eye(64, dtype=np.uint8)))),
    ("warning", "image-blank", lambda r: image(r).write_bytes(bitmap(np.zeros((64, 64), np.uint8)))),
    (
        "note",
        "image-without-label",
        lambda r: shutil.copy(image(r), image(r).with_stem(image(r).stem[:-1] + "X").with_stem("0001_0050_R")),
    ),
    ("note", "label-without-split", lambda r: masks(r).rename(r / "BoneSegmentation/masks" / masks(r).name)),
    ("note", "file-unknown", lambda r: (r / "Thumbs.db").write_bytes(b"x")),
    ("error", "description-unreadable", lambda r: (r / "cohort.toml").write_text("kind = 3")),
    ("warning", "center-name-unused", lambda r: append(r / "cohort.toml", '\n[centers]\n"St Elsewhere" = "SE"\n')),
    ("warning", "total-differs", lambda r: (r / "cohort.toml").unlink()),
    ("error", "radiograph-missing", lambda r: [shutil.rmtree(folder) for folder in r.iterdir() if folder.is_dir()]),
    ("error", "folder-missing", lambda r: shutil.rmtree(r)),
]


@pytest.mark.parametrize(("level", "code", "plant"), PLANTED, ids=[f"{n}-{row[1]}" for n, row in enumerate(PLANTED)])
def test_a_planted_fault_is_named(copy: Path, level: str, code: str, plant: Callable[[Path], object]) -> None:
    plant(copy)
    findings = check_cohort(copy)
    found = [finding for finding in findings if finding.code == code]
    assert found, [finding.code for finding in findings]
    assert found[0].level == level
    # The reader and the check agree, and the reader fails in no other way.
    if findings.errors:
        with pytest.raises(CohortError, match=findings.errors[0].code):
            read_cohort(copy)
    else:
        read_cohort(copy)
    json.loads(findings.to_json())
    Console(file=io.StringIO()).print(*findings.text())


def test_the_phantom_has_neither_error_nor_warning(phantom_root: Path) -> None:
    findings = check_cohort(phantom_root)
    assert findings.is_usable
    assert findings.at("warning") == ()
    assert {finding.code for finding in findings} <= {"one-class-only", "label-missing-at-center"}


def test_counts_are_those_of_the_files(phantom_root: Path) -> None:
    counts = check_cohort(phantom_root).counts
    num_masks = len(list((phantom_root / "BoneSegmentation" / "masks" / "test").iterdir()))
    assert counts["totals"]["segmentation test"] == num_masks
    assert sum(c["segmentation"]["test"]["images"] for c in counts["centers"].values()) == num_masks
    entries = json.loads((phantom_root / SCORES).read_text())
    eroded = sum(grade > 0 for entry in entries for grade in entry["joints"].values())
    assert sum(j["eroded"] for c in counts["centers"].values() for j in c["joints"].values()) == eroded
    assert counts["totals"]["images with scores"] == len(entries)
    assert counts["totals"]["patients"] == 24


def test_the_same_folder_gives_the_same_bytes_and_no_patients_number_by_itself(phantom_root: Path) -> None:
    first, second = check_cohort(phantom_root).to_json(), check_cohort(phantom_root).to_json()
    assert first == second
    assert '"patient"' not in first


def test_equal_pixels_in_both_bitmap_modes_count_as_duplicates(copy: Path) -> None:
    grey = cv2.imread(str(image(copy)), cv2.IMREAD_GRAYSCALE)
    for folder in ("BoneSegmentation", "JointLocationDetection"):
        (copy / folder / "images" / image(copy, 5).name).write_bytes(bitmap(grey))
        (copy / folder / "images" / image(copy).name).write_bytes(bitmap(np.repeat(grey[..., None], 3, axis=2)))
    duplicated = next(finding for finding in check_cohort(copy) if finding.code == "image-duplicated")
    assert duplicated.places == (f"{image(copy).stem} = {image(copy, 5).stem}",)
    grouped = {r.patient: r.mask_split for r in read_cohort(copy, split="grouped").radiographs}
    assert grouped[image(copy).stem[:4]] == grouped[image(copy, 5).stem[:4]]


def test_a_bomb_is_not_decoded(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    bomb(image(copy))
    small = ImageFile.ImageFile.load

    def load(opened: ImageFile.ImageFile) -> object:
        assert opened.width < 60_000
        return small(opened)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert [finding.code for finding in check_cohort(copy).errors] == ["image-too-large"]


def test_every_saying_can_be_planted() -> None:
    # The first are planted in test_manifest, test_dicom and test_conversion, folder-unreadable needs another user.
    elsewhere = {
        "description-missing", "manifest-unreadable", "manifest-column-missing", "column-unknown", "row-twice",
        "cell-missing", "side-malformed", "split-malformed", "path-leaves-folder", "file-missing",
        "dicom-undecodable", "dicom-without-image", "patient-unknown",
        "folder-unreadable", "file-too-large", "patient-at-two-centers", "patient-splits-differ",
        "score-without-arthritis", "one-class-only", "label-missing-at-center",
    }  # fmt: skip
    assert set(SAYINGS) - {code for _, code, _ in PLANTED} == elsewhere


def test_the_documentation_lists_every_saying() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    table = text.partition("| code | level | meaning |")[2].splitlines()[2:]
    assert table == [f"| `{code}` | {level} | {meaning} |" for code, (level, meaning) in SAYINGS.items()]


def test_odd_patients_are_noted(copy: Path) -> None:
    workbook = openpyxl.load_workbook(copy / "Metadata.xlsx")
    sheet = workbook.active
    header = [cell.value for cell in sheet[1]]
    for row in range(2, sheet.max_row + 1):
        sheet.cell(row, header.index("IsRA") + 1).value = 0
        if sheet.cell(row, 1).value.endswith("_0002"):
            sheet.cell(row, header.index("InstitutionName") + 1).value = "Elsewhere"
    workbook.save(copy / "Metadata.xlsx")
    for split, other in (("train", "hold"), ("val", "train"), ("hold", "val")):
        folder = copy / "SvdHBEScoreClassification"
        (folder / split).rename(folder / other)
    codes = {finding.code for finding in check_cohort(copy)}
    assert {"patient-at-two-centers", "patient-splits-differ", "score-without-arthritis"} <= codes


def test_center_without_scores_and_split_of_one_class_are_noted(copy: Path) -> None:
    change_json(copy / SCORES, lambda table: [{**e, "joints": dict.fromkeys(e["joints"], 0)} for e in table[:1]])
    notes = {finding.code: finding.places for finding in check_cohort(copy).at("note")}
    assert len(notes["one-class-only"]) == 1
    assert len(notes["label-missing-at-center"]) == 1
