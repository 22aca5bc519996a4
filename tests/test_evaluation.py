"""Anyone's predictions: measured as a run's own, or refused with every fault at once."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ramw_fed import api
from ramw_fed.config import ErosionConfig, RunConfig, SegmentationConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.errors import CohortError, ConfigError, PredictionError, RunError
from ramw_fed.evaluation import evaluate_submission
from ramw_fed.metrics.classification import CLASSIFICATION_METRICS
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks import EROSION, SEGMENTATION
from ramw_fed.tasks.erosion import ErosionExamples
from ramw_fed.tasks.segmentation import SegmentationExamples
from ramw_fed.tasks.task import join_tables

CPU = torch.device("cpu")
CONFIG = RunConfig(resamples=100, segmentation=SegmentationConfig(image_size=64), erosion=ErosionConfig(crop_size=16))
COLUMNS = ["image", "joint", "probability"]


class Oracle(nn.Module):
    """Answers with prepared logits, in the order in which it is asked; what pads a batch gets the last ones."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.asked = logits, 0

    def forward(self, inputs: Tensor) -> Tensor:
        rows = torch.arange(self.asked, self.asked + len(inputs)).clamp(max=len(self.logits) - 1)
        self.asked += len(inputs)
        return self.logits[rows]


def moved(examples: SegmentationExamples) -> Tensor:
    """Logits of the true masks, moved by some pixels."""
    _, masks = examples.batch(np.arange(len(examples)), augment_key=None)
    return torch.roll(masks.float() * 20 - 10, shifts=(2, 1), dims=(-1, -2))


@pytest.fixture(scope="module")
def joints(phantom_cohort: Cohort) -> list[tuple[str, str]]:
    examples = ErosionExamples(phantom_cohort, "test", CONFIG.erosion)
    return list(zip(examples.names.tolist(), examples.joints.tolist(), strict=True))


@pytest.fixture(scope="module")
def graded(phantom_cohort: Cohort) -> Cohort:
    """The cohort with grades drawn anew: its own test split has none above 0."""
    rng = np.random.default_rng(0)
    drawn = [
        replace(one, scores={joint: int(max(rng.integers(-4, 6), 0)) for joint in one.scores})
        for one in phantom_cohort.radiographs
    ]
    return replace(phantom_cohort, radiographs=tuple(drawn))


def write_scores(folder: Path, rows: list[list[object]], columns: list[str] = COLUMNS) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def outlined(cohort: Cohort) -> Cohort:
    return SEGMENTATION.of(cohort, "test")


@pytest.fixture
def good(phantom_cohort: Cohort, joints: list[tuple[str, str]], tmp_path: Path) -> Path:
    """Right masks, and a probability a joint."""
    folder = tmp_path / "good"
    rng = np.random.default_rng(0)
    write_scores(folder, [[name, joint, rng.random()] for name, joint in joints])
    for radiograph in outlined(phantom_cohort).radiographs:
        np.save(folder / f"{radiograph.name}.npy", radiograph.read_masks().astype(np.uint8))
    return folder


@pytest.fixture
def refusal(phantom_cohort: Cohort) -> Callable[[Path], str]:
    def text(folder: Path) -> str:
        with pytest.raises(PredictionError) as raised:
            evaluate_submission(folder, phantom_cohort, CONFIG)
        return str(raised.value)

    return text


# --- equal to a run ------------------------------------------------------------------------------------------------


def test_masks_score_to_the_bit_as_they_do_in_a_run(phantom_cohort: Cohort, tmp_path: Path) -> None:
    """The run's own way: a network's logits, left wrists mirrored, center by center."""
    measured = []
    for center in phantom_cohort.centers:
        own = phantom_cohort.at(center)
        examples = SegmentationExamples(own, "test", CONFIG.segmentation)
        logits = moved(examples) if len(examples) else torch.zeros(1)
        measured.append(SEGMENTATION.measure(Oracle(logits), own, "test", CONFIG.segmentation, CPU))
        for radiograph, one in zip(examples.cohort.radiographs, logits.numpy() > 0, strict=bool(len(examples))):
            is_mirrored = radiograph.side in own.description.mirrored_sides
            np.save(tmp_path / f"{radiograph.name}.npy", one[:, :, ::-1] if is_mirrored else one)
    table = join_tables(measured)
    found = evaluate_submission(tmp_path, phantom_cohort, CONFIG)
    assert set(found.tables) == {"segmentation"}
    for name, column in table.items():
        np.testing.assert_array_equal(found.tables["segmentation"][name], column, err_msg=name)
    wanted = SEGMENTATION.summarize(
        table, phantom_cohort.description, CONFIG.segmentation, 100, 0, centers=phantom_cohort.centers
    )
    assert found.metrics == {"segmentation": {"test": wanted}}
    assert 0 < wanted["pooled"]["dsc"]["value"] < 1


def test_a_runs_own_probabilities_give_its_metrics_and_predictions_to_the_byte(graded: Cohort, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = EROSION.network(graded.description, CONFIG.erosion).eval()
    parts = [EROSION.measure(network, graded.at(center), "test", CONFIG.erosion, CPU) for center in graded.centers]
    table = join_tables(parts)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_predictions("erosion", table)
    with (run.path / "predictions" / "erosion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    endings = [".png", ".dcm", ""]
    shuffled = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))]
    write_scores(
        tmp_path / "reader",
        [[row["name"] + endings[k % 3], row["joint"], row["probability"]] for k, row in enumerate(shuffled)],
    )
    found = evaluate_submission(tmp_path / "reader", graded, CONFIG)
    wanted = EROSION.summarize(table, graded.description, CONFIG.erosion, 100, 0, centers=graded.centers)
    assert found.metrics == {"erosion": {"test": wanted}}
    assert 0 < wanted["pooled"]["auroc"]["value"] < 1
    found.save(tmp_path / "evaluation")
    written = [folder / "predictions" / "erosion.csv" for folder in (run.path, tmp_path / "evaluation")]
    assert written[0].read_bytes() == written[1].read_bytes()


def test_what_predict_writes_can_be_measured(phantom_cohort: Cohort, phantom_root: Path, tmp_path: Path) -> None:
    part = outlined(phantom_cohort)
    api.predict([radiograph.image for radiograph in part.radiographs if radiograph.image], out=tmp_path / "predicted")
    found = api.evaluate_predictions(tmp_path / "predicted", phantom_root, out=tmp_path / "evaluation")
    assert found.metrics["segmentation"]["test"]["pooled"]["dsc"]["n"] == len({r.patient for r in part.radiographs})
    assert any(".png" in remark for remark in found.remarks)
    manifest = json.loads((tmp_path / "evaluation" / "manifest.json").read_text())
    assert manifest["cohort"] == {"sha256": phantom_cohort.sha256, "kind": "phantom"}
    assert manifest["evaluation"]["knobs"] == {"threshold": 0.5, "tolerance-px": 2.0, "field-of-view": 1.0}
    with pytest.raises(RunError, match="not empty"):
        found.save(tmp_path / "evaluation")


def test_predicted_grades_give_the_measures_of_agreement(
    graded: Cohort, joints: list[tuple[str, str]], tmp_path: Path
) -> None:
    examples = ErosionExamples(graded, "test", CONFIG.erosion)
    rows = [[*joint, int(grade > 0), grade] for joint, grade in zip(joints, examples.grades.tolist(), strict=True)]
    write_scores(tmp_path, rows, ["radiograph", "joint", "probability", "predicted_grade"])
    scopes = evaluate_submission(tmp_path, graded, CONFIG).metrics["erosion"]["test"]
    assert (scopes["pooled"]["qwk"]["value"], scopes["pooled"]["mae"]["value"]) == (1, 0)
    assert scopes["pooled"]["auroc"]["value"] == 1
    assert set(scopes["pooled"]) == {*CLASSIFICATION_METRICS, "by"}


def test_a_higher_threshold_calls_fewer_joints_eroded(good: Path, graded: Cohort) -> None:
    strict = replace(CONFIG, erosion=replace(CONFIG.erosion, threshold=0.9))
    low, high = (
        evaluate_submission(good, graded, config).metrics["erosion"]["test"]["pooled"]["sen"]["value"]
        for config in (CONFIG, strict)
    )
    assert high < low


# --- which radiographs ---------------------------------------------------------------------------------------------


def test_only_the_centers_named_are_measured_and_the_others_predictions_counted(
    good: Path, phantom_root: Path, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    chosen = ("HU", "DHA")
    found = api.evaluate_predictions(good, phantom_root, centers=chosen, out=tmp_path / "evaluation")
    whole = api.evaluate_predictions(good, phantom_root)
    for task, names in (("segmentation", chosen), ("erosion", chosen)):
        scopes = found.metrics[task]["test"]
        assert set(scopes["centers"]) == set(names)
        assert all(scopes["centers"][name] == whole.metrics[task]["test"]["centers"][name] for name in names)
        assert set(found.tables[task]["center"].tolist()) <= set(names)
    manifest = json.loads((tmp_path / "evaluation" / "manifest.json").read_text())["evaluation"]
    assert manifest["centers"] == ["DHA", "HU"]
    assert manifest["reading"] == {"split": "official", "quarantine": 0.0, "allow-leakage": False}
    in_test = {
        one.name: one.center for one in phantom_cohort.radiographs if "test" in (one.mask_split, one.score_split)
    }
    others = sum(center not in chosen for center in in_test.values())
    assert f"{others} predicted radiographs are of other centers" in found.remarks[0]
    with pytest.raises(ConfigError, match="centers names ZZ; the cohort has BTXRD, DHA"):
        api.evaluate_predictions(good, phantom_root, centers=["ZZ"])


def test_a_faulty_radiograph_is_refused_or_left_out_with_its_prediction(
    good: Path, phantom_root: Path, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    root = tmp_path / "cohort"
    shutil.copytree(phantom_root, root)
    faulty = outlined(phantom_cohort).radiographs[0]
    (root / "BoneSegmentation" / "masks" / "test" / f"{faulty.name}.npy").write_bytes(b"no array")
    with pytest.raises(CohortError, match="cannot be used: 1 kind of error, 1 of"):
        api.evaluate_predictions(good, root)
    found = api.evaluate_predictions(good, root, quarantine=0.1, out=tmp_path / "evaluation")
    assert faulty.name not in found.tables["segmentation"]["name"]
    assert len(found.tables["segmentation"]["name"]) == len(outlined(phantom_cohort).radiographs) - 1
    assert any(remark.startswith("1 predicted radiographs are of other centers, or faulty") for remark in found.remarks)
    manifest = json.loads((tmp_path / "evaluation" / "manifest.json").read_text())["evaluation"]
    assert (manifest["reading"]["quarantine"], sum(manifest["left_out"].values())) == (0.1, 1)


def test_a_split_with_a_patient_on_both_sides_is_refused_or_taken(
    good: Path, phantom_root: Path, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    root = tmp_path / "cohort"
    shutil.copytree(phantom_root, root)
    masks = root / "BoneSegmentation" / "masks"
    test = outlined(phantom_cohort).radiographs
    moved_one = next(one for one in test if [other.patient for other in test].count(one.patient) > 1)
    (masks / "test" / f"{moved_one.name}.npy").rename(masks / "train" / f"{moved_one.name}.npy")
    (good / f"{moved_one.name}.npy").unlink()
    with pytest.raises(CohortError, match="patient-in-two-splits"):
        api.evaluate_predictions(good, root)
    found = api.evaluate_predictions(good, root, allow_leakage=True)
    assert len(found.tables["segmentation"]["name"]) == len(test) - 1
    assert found.manifest["evaluation"]["reading"]["allow-leakage"] is True


def test_predicted_joints_of_other_splits_are_counted_and_not_measured(
    phantom_root: Path, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    joint = phantom_cohort.description.joints[0]
    examples = ErosionExamples(phantom_cohort, "test", ErosionConfig())
    wanted = list(zip(examples.names.tolist(), examples.joints.tolist(), strict=True))
    others = sorted({one.name for one in phantom_cohort.radiographs} - set(examples.names.tolist()))
    lines = [f"{name},{which},0.5" for name, which in [*wanted, *((name, joint) for name in others)]]
    (tmp_path / "scores.csv").write_text("\n".join(["radiograph,joint,probability", *lines]))
    found = api.evaluate_predictions(tmp_path, phantom_root)
    assert len(found.tables["erosion"]["name"]) == len(wanted)
    assert any(f"{len(others)} predicted joints have no true grade" in remark for remark in found.remarks)


# --- refused -------------------------------------------------------------------------------------------------------


def test_every_fault_of_every_file_is_listed_at_once(
    good: Path, phantom_cohort: Cohort, joints: list[tuple[str, str]], refusal: Callable[[Path], str]
) -> None:
    first, second, third, fourth = outlined(phantom_cohort).radiographs[:4]
    right = first.read_masks().astype(np.uint8)
    (good / f"{first.name}.npy").unlink()
    np.save(good / f"{second.name}.npy", right[:, :-1])
    np.save(good / f"{third.name}.npy", right * 0.5)
    (good / f"{fourth.name}.npy").write_bytes(b"no array")
    np.save(good / "9999_9999_L.npy", right)
    other = next(one for one in phantom_cohort.radiographs if one.score_split == "train")
    faulty: list[list[object]] = [
        [*joints[0], 1.2],
        [*joints[0], 0.2],
        [*joints[1], "high"],
        [*joints[2], "nan"],
        [joints[3][0], "Patella", 0.5],
        [other.name, joints[3][1], 0.5],
        ["nobody", joints[3][1], 0.5],
        [*joints[5], 0.5],
        [*joints[5], 0.6],
    ]
    write_scores(good, [*faulty, *([*joint, 0.5] for joint in joints[6:])])
    text = refusal(good)
    for fault in (
        f"radiograph without masks (--allow-missing counts them) (1): {first.name}",
        f"{second.name}.npy {right[:, :-1].shape}, not {right.shape}",
        f"{third.name}.npy must be (bones, H, W), one byte a pixel",
        f"{fourth.name}.npy cannot be read",
        "masks of what has no outlines in this split (1): 9999_9999_L.npy",
        "probability that is no number in [0, 1] (3): line 2 '1.2', line 4 'high', line 5 'nan'",
        "line 6 'Patella'",
        "no place in the cohort (1): line 8 'nobody'",
        "joint that has a row already (1): line 10",
        "scored joint without a row (--allow-missing counts them) (4)",
    ):
        assert fault in text, fault


def test_missing_predictions_are_counted_where_that_is_allowed(
    good: Path, phantom_cohort: Cohort, joints: list[tuple[str, str]]
) -> None:
    absent = outlined(phantom_cohort).radiographs[0]
    (good / f"{absent.name}.npy").unlink()
    write_scores(good, [[*joint, 0.5] for joint in joints[3:]])
    with pytest.raises(PredictionError, match="--allow-missing"):
        evaluate_submission(good, phantom_cohort, CONFIG)
    found = evaluate_submission(good, phantom_cohort, CONFIG, allow_missing=True)
    assert found.manifest["evaluation"]["missing"] == {"segmentation": 1, "erosion": 3}
    assert [remark.split(" have")[0] for remark in found.remarks] == [
        "segmentation: 1 radiographs",
        "erosion: 3 scored joints",
    ]
    assert len(found.tables["erosion"]["name"]) == len(joints) - 3
    assert absent.name not in found.tables["segmentation"]["name"]


def test_a_joint_without_a_true_grade_is_counted_and_not_measured(
    good: Path, phantom_cohort: Cohort, joints: list[tuple[str, str]]
) -> None:
    name, joint = joints[0]
    kept = [
        replace(one, scores={key: grade for key, grade in one.scores.items() if (one.name, key) != (name, joint)})
        for one in phantom_cohort.radiographs
    ]
    found = evaluate_submission(good, replace(phantom_cohort, radiographs=tuple(kept)), CONFIG)
    assert any("1 predicted joints have no true grade" in remark for remark in found.remarks)
    assert len(found.tables["erosion"]["name"]) == len(joints) - 1


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        (["image", "joint", "chance"], "column missing (1): 'probability'"),
        (["file", "joint", "probability"], "column missing (1): 'radiograph'"),
        (["image", "joint", "probability", "grade"], "a grade that was predicted is predicted_grade) (1): 'grade'"),
        (["image", "name", "joint", "probability"], "more than one column names the radiograph (2)"),
        (["image", "joint", "probability", "joint"], "column twice (1): 'joint'"),
    ],
)
def test_columns_that_cannot_be_understood_are_refused(
    tmp_path: Path, refusal: Callable[[Path], str], columns: list[str], fault: str
) -> None:
    write_scores(tmp_path, [["x"] * len(columns)], columns)
    assert fault in refusal(tmp_path)


def test_a_predicted_grade_must_be_whole_and_in_range(
    tmp_path: Path, joints: list[tuple[str, str]], refusal: Callable[[Path], str]
) -> None:
    grades: Iterator[object] = iter(["6", "-1", "1.5", "", "inf"])
    rows: list[list[object]] = [[*joint, 0.5, next(grades, 2)] for joint in joints]
    write_scores(tmp_path, rows, [*COLUMNS, "predicted_grade"])
    assert "predicted_grade that is no whole number from 0 to 5 (5)" in refusal(tmp_path)


def test_a_row_with_too_many_cells_is_refused(tmp_path: Path, refusal: Callable[[Path], str]) -> None:
    write_scores(tmp_path, [["a", "Lunate", 0.5, "surplus"]])
    assert "more cells than columns (1): line 2" in refusal(tmp_path)


def test_a_folder_of_other_files_is_refused_with_what_it_holds(tmp_path: Path, refusal: Callable[[Path], str]) -> None:
    for name in ("a.nii.gz", "b.nii.gz", "c.json"):
        (tmp_path / name).touch()
    assert "holds 2 .gz, 1 .json; <stem>.npy" in refusal(tmp_path)
    assert "is no folder" in refusal(tmp_path / "absent")


def test_scores_for_nothing_are_no_evaluation(
    tmp_path: Path, phantom_cohort: Cohort, joints: list[tuple[str, str]]
) -> None:
    name, joint = joints[0]
    kept = [
        replace(one, scores={key: grade for key, grade in one.scores.items() if (one.name, key) != (name, joint)})
        for one in phantom_cohort.radiographs
    ]
    cohort = replace(phantom_cohort, radiographs=tuple(kept))
    for rows in ([], [[name, joint, 0.5]]):
        write_scores(tmp_path, rows)
        with pytest.raises(PredictionError, match="predicts nothing"):
            evaluate_submission(tmp_path, cohort, CONFIG, allow_missing=True)


def test_predictions_that_were_written_are_read_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    values = np.array([[0.1, np.nan, 1 / 3], [1.0, 0.0, 2.0]])
    folder.write_predictions("segmentation", {"patient": np.array(["007", "1e3"]), "dsc": values})
    table = folder.read_predictions("segmentation")
    assert table["patient"].tolist() == ["007", "1e3"]
    np.testing.assert_array_equal(table["dsc"], values)
    with pytest.raises(RunError, match="stayed at the centers"):
        folder.read_predictions("erosion")
