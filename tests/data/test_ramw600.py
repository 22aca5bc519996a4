import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from ramw_fed.data.cohort import Cohort, Description
from ramw_fed.data.layout import BONES, JOINTS, RAMW600
from ramw_fed.data.phantom.anatomy import BONES as DRAWN_BONES
from ramw_fed.data.phantom.anatomy import JOINTS as DRAWN_JOINTS
from ramw_fed.data.radiograph import read_grey
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import CohortError

REAL = Path(__file__).parents[3] / "shared" / "data" / "ramw600"
SCORES = "SvdHBEScoreClassification/JointBE_SvdH_GT.json"


@pytest.fixture
def copy(phantom_root: Path, tmp_path: Path) -> Path:
    """A phantom of one's own, to be changed."""
    return Path(shutil.copytree(phantom_root, tmp_path / "copy"))


def edit_table(root: Path, change: object) -> None:
    workbook = openpyxl.load_workbook(root / "Metadata.xlsx")
    change(workbook.active)  # type: ignore[operator]
    workbook.save(root / "Metadata.xlsx")


def test_the_phantom_is_read_whole(phantom_cohort: Cohort, phantom_root: Path) -> None:
    assert phantom_cohort.centers == ("BTXRD", "DHA", "FA", "HMCRD", "HU", "SCGH")
    assert phantom_cohort.description.kind == "phantom"
    files = sorted(path.stem for path in (phantom_root / "BoneSegmentation" / "images").iterdir())
    assert [radiograph.name for radiograph in phantom_cohort.radiographs] == files
    assert dict(phantom_cohort.left_out) == {}
    for radiograph in phantom_cohort.radiographs:
        assert radiograph.masks is not None
        assert radiograph.mask_split == radiograph.masks.parent.name
        assert set(radiograph.boxes) == set(JOINTS)
        # drawn with 64 pixels a side where the detector has 600 of .149 mm
        assert radiograph.spacing_mm == pytest.approx((0.149 * 600 / 64,) * 2)
        assert set(radiograph.scores) in ({*JOINTS}, set())
        assert set(radiograph.crops) == set(radiograph.scores)
        assert radiograph.score_split == (radiograph.mask_split if radiograph.scores else None)
    assert {bool(radiograph.scores) for radiograph in phantom_cohort.radiographs} == {True, False}


def test_phantom_and_reader_know_the_same_bones_and_joints() -> None:
    assert (DRAWN_BONES, DRAWN_JOINTS) == (BONES, JOINTS)
    # pair (0, 6) of the published table
    assert ("Capitate", "Scaphoid") in RAMW600.overlap_pairs
    assert len(RAMW600.overlap_pairs) == 14


def test_image_masks_and_crops_fit_each_other(phantom_cohort: Cohort) -> None:
    radiograph = next(radiograph for radiograph in phantom_cohort.radiographs if radiograph.crops)
    assert radiograph.read_image().shape == radiograph.read_masks().shape[1:] == (64, 64)
    from_file = radiograph.read_crop("Lunate")
    x0, y0, x1, y1 = (int(value) for value in radiograph.boxes["Lunate"])
    assert np.array_equal(from_file, radiograph.read_image()[y0:y1, x0:x1])


def test_a_cohort_travels_to_another_process(phantom_cohort: Cohort) -> None:
    assert pickle.loads(pickle.dumps(phantom_cohort)) == phantom_cohort


def test_the_hash_is_of_contents_and_not_of_place_or_time(phantom_cohort: Cohort, copy: Path) -> None:
    assert read_cohort(copy).sha256 == phantom_cohort.sha256
    masks = sorted((copy / "BoneSegmentation" / "masks" / "train").iterdir())[0]
    before = masks.stat()
    array = np.load(masks)
    array[0, :2, :2] ^= 1
    np.save(masks, array)
    # Same length, and the old modification time put back: still another cohort.
    os.utime(masks, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read_cohort(copy).sha256 != phantom_cohort.sha256


def test_unknown_files_do_not_change_the_hash(phantom_cohort: Cohort, copy: Path) -> None:
    (copy / "README.md").write_text("mine")
    assert read_cohort(copy).sha256 == phantom_cohort.sha256


def test_correct_and_other_spellings_are_aliases(copy: Path, phantom_cohort: Cohort) -> None:
    for crop in copy.rglob("Trapzium.bmp"):
        crop.rename(crop.with_name("Trapezium.bmp"))
    entries = json.loads((copy / SCORES).read_text())
    for entry in entries:
        entry["joints"] = {joint.replace("Trapzium", "Trapezium"): s for joint, s in entry["joints"].items()}
    (copy / SCORES).write_text(json.dumps(entries))
    coco = copy / "JointLocationDetection" / "Joints.coco.json"
    coco.write_text(coco.read_text().replace("Metacarpal1st", "1st MC").replace("DistalUlna", "ulna"))

    def rename(sheet: object) -> None:
        for cell in sheet[1]:  # type: ignore[index]
            new = {"IsRA": "isRA", "NormalizedPatientID": "Normalized PatientID", "InstitutionName": "Institution Name"}
            cell.value = new.get(cell.value, cell.value)

    edit_table(copy, rename)
    read = read_cohort(copy)
    assert [r.scores for r in read.radiographs] == [r.scores for r in phantom_cohort.radiographs]
    assert [r.boxes for r in read.radiographs] == [r.boxes for r in phantom_cohort.radiographs]
    assert [set(r.crops) for r in read.radiographs] == [set(r.crops) for r in phantom_cohort.radiographs]
    assert read.centers == phantom_cohort.centers


def test_masks_of_255_are_read_like_masks_of_1(copy: Path, phantom_cohort: Cohort) -> None:
    for path in (copy / "BoneSegmentation" / "masks").rglob("*.npy"):
        np.save(path, np.load(path) * 255)
    read = read_cohort(copy)
    assert np.array_equal(read.radiographs[0].read_masks(), phantom_cohort.radiographs[0].read_masks())


def test_centers_are_renamed_by_the_cohorts_own_table(copy: Path) -> None:
    with (copy / "cohort.toml").open("a") as file:
        file.write('\n[centers]\nHU = "Sapporo"\n')
    assert "Sapporo" in read_cohort(copy).centers
    assert "HU" not in read_cohort(copy).centers


def test_published_spellings_of_bones_and_joints_may_stand_in_cohort_toml(copy: Path) -> None:
    bones = [{"Trapezium": "Trapzium", "Trapezoid": "Trapzoid"}.get(bone, bone) for bone in BONES]
    joints = [joint.replace("Trapezium", "Trapzium") for joint in JOINTS]
    (copy / "cohort.toml").write_text(
        f"bones = {bones}\njoints = {joints}\noverlap_pairs = [['Trapzium', 'Trapzoid']]\n"
        "joint_spaces = [['Trapzium', 'Scaphoid']]\n"
    )
    description = read_cohort(copy).description
    assert (description.bones, description.joints) == (BONES, JOINTS)
    assert description.overlap_pairs == (("Trapezium", "Trapezoid"),)
    assert description.joint_spaces == (("Trapezium", "Scaphoid"),)


def test_joint_spaces_are_written_only_where_they_are_not_the_usual_ones_of_the_bones() -> None:
    # What weights say of their images has no such key for wrists: cards and cohort.toml stay as they were.
    assert len(RAMW600.joint_spaces) == 6
    assert RAMW600.joint_space_indices()[0] == (BONES.index("DistalRadius"), BONES.index("Lunate"))
    assert "joint_spaces" not in RAMW600.to_dict()
    fewer = replace(RAMW600, joint_spaces=(("Lunate", "Capitate"),))
    none = replace(RAMW600, joint_spaces=())
    knee = replace(RAMW600, bones=("Femur", "Tibia"), overlap_pairs=(), joint_spaces=(("Femur", "Tibia"),))
    for description in (RAMW600, fewer, none, knee, replace(knee, joint_spaces=())):
        assert Description.from_dict(description.to_dict()) == description
    assert none.to_dict()["joint_spaces"] == []
    assert "joint_spaces" not in replace(knee, joint_spaces=()).to_dict()


def test_a_wrist_that_shows_fewer_bones_has_the_usual_spaces_between_those(copy: Path) -> None:
    names = [bone if bone in ("Lunate", "Capitate", "Scaphoid") else f"other {bone}" for bone in BONES]
    (copy / "cohort.toml").write_text(f"bones = {names}\njoints = {list(JOINTS)}\n")
    assert read_cohort(copy).description.joint_spaces == (("Scaphoid", "Capitate"), ("Lunate", "Capitate"))


@pytest.mark.parametrize(
    ("line", "factor"),
    [
        ("[phantom]\nsize = 64", 600 / 64),
        ("[phantom]\nsize = 600", 1),
        ("[phantom]\nsize = 720", 1),
        ("[phantom]\nseed = 1", 1),
        ("phantom = 3", 1),
        ("[phantom]\nsize = '64'", 1),
        ("[phantom]\nsize = 0", 1),
    ],
)
def test_the_spacing_of_a_phantom_follows_the_size_at_which_it_was_drawn(copy: Path, line: str, factor: float) -> None:
    (copy / "cohort.toml").write_text(f'kind = "phantom"\n{line}\n')
    for radiograph in read_cohort(copy).radiographs:
        assert radiograph.spacing_mm == pytest.approx((0.149 * factor,) * 2)


def test_the_spacing_of_real_images_is_that_of_the_table(copy: Path) -> None:
    (copy / "cohort.toml").write_text('kind = "real"\n[phantom]\nsize = 64\n')
    assert {radiograph.spacing_mm for radiograph in read_cohort(copy).radiographs} == {(0.149, 0.149)}


def test_other_bones_and_joints_need_no_code(copy: Path) -> None:
    (copy / "cohort.toml").write_text(
        f"bones = {[f'knee bone {n}' for n in range(14)]}\njoints = ['Lunate']\nmirrored_sides = []\n"
    )
    read = read_cohort(copy)
    assert read.description.overlap_pairs == ()
    assert read.description.joint_spaces == ()
    assert all(set(radiograph.scores) <= {"Lunate"} for radiograph in read.radiographs)


def test_hidden_files_of_tools_are_let_be(copy: Path, phantom_cohort: Cohort) -> None:
    (copy / ".cache" / "huggingface").mkdir(parents=True)
    (copy / ".cache" / "huggingface" / "lock").write_text("")
    (copy / "BoneSegmentation" / "images" / "._0001_0001_L.bmp").write_bytes(b"Macintosh")
    assert read_cohort(copy).sha256 == phantom_cohort.sha256


def test_scores_of_no_image_are_left_out_by_name(copy: Path) -> None:
    entries = json.loads((copy / SCORES).read_text())
    (copy / SCORES).write_text(json.dumps([*entries, {**entries[0], "identifier": "0999_0001_L"}]))
    assert read_cohort(copy).left_out == {"0999_0001_L": "score-without-image"}


def test_without_cohort_toml_it_is_the_real_data_set(copy: Path) -> None:
    (copy / "cohort.toml").unlink()
    assert read_cohort(copy).description == RAMW600


def test_without_crops_joints_are_cut_out_by_their_boxes(copy: Path, phantom_cohort: Cohort) -> None:
    for split in ("train", "val", "test"):
        shutil.rmtree(copy / "SvdHBEScoreClassification" / split)
    read = read_cohort(copy, split="grouped")
    scored = [radiograph for radiograph in read.radiographs if radiograph.scores]
    original = {radiograph.name: radiograph for radiograph in phantom_cohort.radiographs}
    assert scored
    for radiograph in scored:
        assert radiograph.score_split is not None
        assert np.array_equal(radiograph.read_crop("Scaphoid"), original[radiograph.name].read_crop("Scaphoid"))


def test_leakage_is_refused_unless_grouped_or_allowed(copy: Path) -> None:
    train = copy / "BoneSegmentation" / "masks" / "train"
    study = next(p.stem[:-2] for p in sorted(train.iterdir()) if (train / f"{p.stem[:-1]}R.npy").exists())
    (train / f"{study}_R.npy").rename(copy / "BoneSegmentation" / "masks" / "test" / f"{study}_R.npy")
    with pytest.raises(CohortError, match=r'patient-in-two-splits.*split = "grouped"'):
        read_cohort(copy)
    assert read_cohort(copy, allow_leakage=True).radiographs
    splits: dict[str, set[str | None]] = {}
    for radiograph in read_cohort(copy, split="grouped").radiographs:
        splits.setdefault(radiograph.patient, set()).add(radiograph.mask_split)
    assert all(len(values) == 1 for values in splits.values())


def test_one_error_lists_everything_that_is_wrong(copy: Path) -> None:
    images = sorted((copy / "BoneSegmentation" / "images").iterdir())
    images[0].write_bytes(b"")
    images[1].write_bytes(images[1].read_bytes()[:-50])
    for masks in (copy / "BoneSegmentation" / "masks" / "train").iterdir():
        np.save(masks, np.full((14, 64, 64), 7, np.uint8))
    with pytest.raises(CohortError) as caught:
        read_cohort(copy)
    text = str(caught.value)
    assert all(code in text for code in ("file-empty", "image-truncated", "mask-values"))
    assert "more" in text
    assert text.count(".npy") <= 3


def test_a_few_faulty_radiographs_may_be_left_out_by_name(copy: Path, phantom_cohort: Cohort) -> None:
    image = sorted((copy / "BoneSegmentation" / "images").iterdir())[3]
    image.write_bytes(b"no image")
    with pytest.raises(CohortError, match="image-not-an-image"):
        read_cohort(copy)
    read = read_cohort(copy, quarantine=0.05)
    assert read.left_out == {image.stem: "image-not-an-image"}
    assert len(read.radiographs) == len(phantom_cohort.radiographs) - 1
    with pytest.raises(CohortError, match=r"at most 1% may be left out"):
        read_cohort(copy, quarantine=0.01)


def test_a_fault_of_the_whole_folder_cannot_be_left_out(copy: Path) -> None:
    (copy / "Metadata.xlsx").unlink()
    with pytest.raises(CohortError, match="metadata-missing"):
        read_cohort(copy, quarantine=0.99)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("")])
def test_a_folder_without_a_cohort_is_an_error(tmp_path: Path, make: object) -> None:
    make(tmp_path / "nothing")  # type: ignore[operator]
    with pytest.raises(CohortError, match=r"folder-missing|radiograph-missing"):
        read_cohort(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('kind = "imagined"', "kind must be"),
        ('bones = ["a", "a"]', "bones must be"),
        ("max_grade = true", "max_grade must be"),
        ('colour = "blue"', "unknown key 'colour'"),
        ('overlap_pairs = [["Lunate", "Femur"]]', "overlap_pairs names a bone that is not in bones"),
        ('joint_spaces = [["Lunate", "Femur"]]', "joint_spaces names a bone that is not in bones"),
        ('joint_spaces = [["Lunate"]]', "joint_spaces must be"),
        ("kind = ", "TOML"),
    ],
)
def test_a_wrong_description_is_named(copy: Path, line: str, fault: str) -> None:
    (copy / "cohort.toml").write_text(line + "\n")
    with pytest.raises(CohortError, match=fault):
        read_cohort(copy)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real radiographs beside the repository")
def test_both_modes_of_real_bitmaps_are_read_as_grey() -> None:
    images = sorted((REAL / "JointLocationDetection" / "images").glob("*.bmp"))
    sizes = {path.stat().st_size for path in images}
    assert sizes == {361_078, 1_080_054}
    for path in images:
        image = read_grey(path)
        assert (image.shape, image.dtype) == ((600, 600), np.uint8)
        assert image.std() > 10
