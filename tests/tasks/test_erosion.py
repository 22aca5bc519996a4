import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ramw_fed import prediction
from ramw_fed.config import ErosionConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.errors import ConfigError
from ramw_fed.learning.losses import ClassCounts
from ramw_fed.learning.weights_file import Card
from ramw_fed.privacy.sums import bounded
from ramw_fed.tasks import TASKS, get_task
from ramw_fed.tasks.erosion import EROSION, ErosionExamples, measure, quality, score_crop, summarize, validate
from ramw_fed.trained import Trained

CPU = torch.device("cpu")
CONFIG = ErosionConfig(crop_size=24)


class Oracle(nn.Module):
    """Answers with prepared logits, in the order in which it is asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.asked = logits, 0

    def forward(self, inputs: Tensor) -> Tensor:
        rows = torch.arange(self.asked, self.asked + len(inputs)).clamp(max=len(self.logits) - 1)
        self.asked += len(inputs)
        return self.logits[rows][:, None]


@pytest.fixture(scope="module")
def examples(phantom_cohort: Cohort) -> ErosionExamples:
    return ErosionExamples(phantom_cohort, "train", CONFIG)


def test_a_row_is_a_scored_joint(phantom_cohort: Cohort, examples: ErosionExamples) -> None:
    scored = [r for r in phantom_cohort.radiographs if r.score_split == "train" and r.scores]
    assert len(examples) == sum(len(radiograph.scores) for radiograph in scored)
    row = 7
    owner = next(r for r in scored if r.name == examples.names[row])
    assert owner.scores[str(examples.joints[row])] == examples.grades[row]
    assert owner.patient == examples.patients[row]


def test_channels_after_the_crop_say_which_joint_it_is(phantom_cohort: Cohort, examples: ErosionExamples) -> None:
    joints = phantom_cohort.description.joints
    rows = np.arange(len(joints))
    inputs, labels = examples.batch(rows, augment_key=None)
    assert inputs.shape == (len(joints), 1 + len(joints), 24, 24)
    for row in rows:
        flat = inputs[row, 1:].flatten(1)
        assert flat.min(dim=1).values.tolist() == flat.max(dim=1).values.tolist()
        assert joints[int(flat[:, 0].argmax())] == examples.joints[row]
        assert flat[:, 0].sum() == 1
    assert torch.equal(labels, torch.from_numpy((examples.grades[rows] > 0).astype(np.float32)))


def test_two_joints_of_a_radiograph_are_varied_differently(examples: ErosionExamples) -> None:
    first, _ = examples.batch(np.array([0]), augment_key=(0, 0))
    again, _ = examples.batch(np.array([1, 0]), augment_key=(0, 0))
    later, _ = examples.batch(np.array([0]), augment_key=(0, 1))
    assert torch.equal(first[0], again[1])
    assert not torch.equal(first, later)


def test_class_counts_are_the_centers_own(examples: ErosionExamples) -> None:
    eroded = int((examples.grades > 0).sum())
    assert examples.counts == ClassCounts(negatives=len(examples) - eroded, positives=eroded)
    assert eroded > 0


def test_groups_are_classes_or_patients_as_the_knob_says(examples: ErosionExamples) -> None:
    def groups(**knobs: str) -> object:
        return EROSION.groups(examples, ErosionConfig(loss="cross-entropy", **knobs))  # type: ignore[arg-type]

    assert groups(sampling="shuffled") is None
    assert EROSION.groups(examples, ErosionConfig(loss="weighted")) is None
    assert np.array_equal(groups(), examples.grades > 0)  # type: ignore[arg-type]
    assert np.array_equal(groups(sampling="classes"), examples.grades > 0)  # type: ignore[arg-type]
    assert groups(sampling="patients") is examples.patients


def test_quality_weighs_both_classes_alike(examples: ErosionExamples) -> None:
    # z = ln 3 everywhere: log loss ln(4/3) for eroded joints, ln 4 for intact ones, whatever the prevalence.
    sums = validate(Oracle(torch.full((len(examples),), math.log(3))), examples, CONFIG, CPU)
    assert sums["eroded"] + sums["intact"] == len(examples)
    assert quality(sums) == pytest.approx(-(math.log(4 / 3) + math.log(4)) / 2)


def test_sums_of_centers_add_up_to_the_quality_of_all(phantom_cohort: Cohort) -> None:
    def score(cohort: Cohort) -> dict[str, float]:
        own = ErosionExamples(cohort, "val", CONFIG)
        logits = torch.tensor([(grade * 37 % 11) / 5 - 1 for grade in own.grades.tolist()])
        return dict(validate(Oracle(logits), own, CONFIG, CPU))

    parts = [score(phantom_cohort.at(center)) for center in phantom_cohort.centers]
    whole = score(phantom_cohort)
    assert {name: sum(part[name] for part in parts) for name in whole} == pytest.approx(whole)


@pytest.mark.parametrize("only", ["eroded", "intact"])
def test_one_class_alone_cannot_choose_a_round(only: str) -> None:
    sums = {"eroded": 0.0, "intact": 0.0, "log_loss_eroded": 0.0, "log_loss_intact": 0.0}
    assert math.isnan(quality(sums | {only: 5.0, f"log_loss_{only}": 1.0}))
    assert math.isnan(quality({}))


def test_probability_is_the_sigmoid_of_the_logit_without_the_prior(phantom_cohort: Cohort) -> None:
    count = len(ErosionExamples(phantom_cohort, "test", CONFIG))
    table = measure(Oracle(torch.full((count,), math.log(3))), phantom_cohort, "test", CONFIG, CPU)
    np.testing.assert_allclose(table["probability"], 0.75, atol=1e-6)
    assert {len(column) for column in table.values()} == {count}
    assert set(table["joint"]) == set(phantom_cohort.description.joints)


def test_a_perfect_score_gives_an_auroc_of_one_in_every_scope_that_has_both_classes(phantom_cohort: Cohort) -> None:
    grades = torch.from_numpy(ErosionExamples(phantom_cohort, "train", CONFIG).grades)
    table = measure(Oracle((grades > 0).float() * 8 - 4), phantom_cohort, "train", CONFIG, CPU)
    scopes = summarize(table, phantom_cohort.description, CONFIG, 100, 0, centers=phantom_cohort.centers)
    assert scopes["pooled"]["auroc"]["value"] == pytest.approx(1)
    assert set(scopes["centers"]) == set(phantom_cohort.centers)
    assert set(scopes["pooled"]["by"]["joint"]) == set(phantom_cohort.description.joints)


def test_a_center_without_scores_has_no_rows(phantom_cohort: Cohort) -> None:
    unscored = phantom_cohort.keep(replace(r, scores={}, score_split=None) for r in phantom_cohort.radiographs)
    assert len(ErosionExamples(unscored, "train", CONFIG)) == 0
    table = measure(Oracle(torch.zeros(1)), unscored, "test", CONFIG, CPU)
    assert all(len(column) == 0 for column in table.values())


def test_a_single_crop_scores_as_it_does_in_the_table(phantom_cohort: Cohort) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = EROSION.network(phantom_cohort.description, CONFIG)
    examples = ErosionExamples(phantom_cohort, "test", CONFIG)
    table = measure(model, phantom_cohort, "test", CONFIG, CPU)
    joint = phantom_cohort.description.joints.index(str(examples.joints[4]))
    assert (
        score_crop(model, examples.crop(4), joint, phantom_cohort.description, CONFIG, CPU) == table["probability"][4]
    )


# --- mirrored or not -----------------------------------------------------------------------------------------------


class LeftLessRight(nn.Module):
    """Answers with how much brighter the left half of a crop is than the right one; mirrored it is the negative."""

    def forward(self, inputs: Tensor) -> Tensor:
        left, right = inputs[:, 0].chunk(2, dim=-1)
        return (left.mean(dim=(-2, -1)) - right.mean(dim=(-2, -1)))[:, None]


def lefts(cohort: Cohort, split: str) -> list[tuple[int, np.ndarray]]:
    """Row and crop as it lies in its file of each joint of a left wrist."""
    examples = ErosionExamples(cohort, split, CONFIG)
    owners = {radiograph.name: radiograph for radiograph in cohort.radiographs}
    pairs = [(row, owners[name], joint) for row, (name, joint) in enumerate(zip(examples.names.tolist(),
             examples.joints.tolist(), strict=True))]  # fmt: skip
    return [(row, owner.read_crop(joint)) for row, owner, joint in pairs if owner.side == "L"]


@pytest.mark.parametrize("mirror", [True, False])
def test_training_sees_left_wrists_mirrored_or_as_they_were_acquired(phantom_cohort: Cohort, mirror: bool) -> None:
    config = replace(CONFIG, mirror=mirror, augmentation="none")
    examples = ErosionExamples(phantom_cohort, "train", config)
    rows = lefts(phantom_cohort, "train")
    assert len(rows) > 10
    for row, crop in rows:
        method = cv2.INTER_AREA if max(crop.shape) > 24 else cv2.INTER_LINEAR
        seen = torch.from_numpy(cv2.resize(crop, (24, 24), interpolation=method) / 255)
        inputs, _ = examples.batch(np.array([row]), augment_key=(0, 3))
        own = inputs[0, 0].flip(-1) if mirror else inputs[0, 0]
        # standardizing is linear
        assert np.corrcoef(own.flatten(), seen.flatten())[0, 1] == pytest.approx(1, abs=1e-6)
        assert np.corrcoef(own.flip(-1).flatten(), seen.flatten())[0, 1] < 0.99


def test_measuring_sees_them_as_training_does(phantom_cohort: Cohort) -> None:
    tables = {
        mirror: measure(LeftLessRight(), phantom_cohort, "test", replace(CONFIG, mirror=mirror), CPU)
        for mirror in (True, False)
    }
    rows = [row for row, _ in lefts(phantom_cohort, "test")]
    others = [row for row in range(len(tables[True]["grade"])) if row not in rows]
    # sigmoid(-z) = 1 - sigmoid(z)
    np.testing.assert_allclose(tables[False]["probability"][rows], 1 - tables[True]["probability"][rows], atol=1e-6)
    np.testing.assert_array_equal(tables[False]["probability"][others], tables[True]["probability"][others])
    for row, crop in lefts(phantom_cohort, "test"):
        brighter_left = crop[:, : crop.shape[1] // 2].mean() > crop[:, -(crop.shape[1] // 2) :].mean()
        assert (tables[False]["probability"][row] > 0.5) == brighter_left


@pytest.mark.parametrize("size", [16, 48])  # smaller and larger than the crops
@pytest.mark.parametrize("mirror", [True, False])
def test_predict_scores_a_crop_as_measuring_does(phantom_cohort: Cohort, mirror: bool, size: int) -> None:
    config = replace(CONFIG, mirror=mirror, crop_size=size)
    description = phantom_cohort.description
    card = Card(task="erosion", training=config.write(), description=description, cohort="", round=1, version="0")
    model = Trained(LeftLessRight(), card, CPU)
    table = measure(model.network, phantom_cohort, "test", config, CPU)
    for row, crop in lefts(phantom_cohort, "test"):
        scored = prediction._score(crop, str(table["joint"][row]), "L", model)
        assert scored == pytest.approx(table["probability"][row], rel=1e-12)


def test_tasks_are_found_by_name_and_a_users_own_by_import_path() -> None:
    assert get_task("erosion") is EROSION
    assert get_task("ramw_fed.tasks.erosion:EROSION") is EROSION
    with pytest.raises(ConfigError, match="segmentation"):
        get_task("fracture")
    with pytest.raises(TypeError):
        TASKS["mine"] = EROSION  # type: ignore[index]


class Joints:
    """Joints of patients, with grades that the test gives."""

    def __init__(self, patients: list[str], is_eroded: list[int]) -> None:
        self.patients = self.names = np.array(patients, np.str_)
        self.targets = torch.tensor(is_eroded, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.patients)

    def batch(self, rows: np.ndarray, *, augment_key: None) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(rows), 1, 1, 1), self.targets[torch.from_numpy(rows)]


def paid(logits: Tensor, joints: Joints) -> np.ndarray:
    return EROSION.validation().rows(Oracle(logits), joints, CONFIG, CPU)


def paid_sums(rows: np.ndarray, noise: float = 0.0) -> dict[str, float]:
    own = EROSION.validation()
    return dict(own.sums(dict(zip(own.names, rows.sum(axis=0), strict=True)), len(rows), noise))


def test_what_a_patient_adds_to_a_paid_validation_is_the_mean_loss_of_each_class_from_the_middle() -> None:
    # z = ln 3: log loss ln(4/3) if eroded, ln 4 if intact; of a joint with z = 10 that is intact it counts as 4.
    joints = Joints(["a", "a", "a", "b", "c"], [1, 0, 0, 0, 1])
    logits = torch.tensor([math.log(3), math.log(3), 10.0, math.log(3), -math.log(3)])
    rows = paid(logits, joints)
    eroded, intact = math.log(4 / 3), (math.log(4) + 4) / 2
    wanted = [
        [(eroded - 2) / 4, 0.5, (intact - 2) / 4, 0.5],
        [0, 0, (math.log(4) - 2) / 4, 0.5],
        [(math.log(4) - 2) / 4, 0.5, 0, 0],
    ]
    np.testing.assert_allclose(rows, wanted, atol=1e-7)
    sums = paid_sums(rows)
    assert sums == pytest.approx(
        {
            "eroded": 2,
            "log_loss_eroded": eroded + math.log(4),
            "intact": 2,
            "log_loss_intact": intact + math.log(4),
            "count_variance": 0,
        },
        abs=1e-6,
    )
    assert quality(sums) == pytest.approx(-(eroded + math.log(4) + intact + math.log(4)) / 4, abs=1e-7)


def test_no_patient_adds_more_than_one_whatever_the_network_says_and_however_many_joints_there_are() -> None:
    rng = np.random.default_rng(5)
    patients = ["a"] + ["b"] * 2 + ["c"] * 40 + ["d"] * 600
    for number in range(20):
        joints = Joints(patients, rng.integers(0, 2, len(patients)).tolist())
        logits = torch.from_numpy(rng.normal(size=len(patients)) * 10.0 ** rng.integers(-3, 30)).float()
        logits[torch.rand(len(patients)) < 0.1] = [math.inf, -math.inf, 0.0][number % 3]
        rows = paid(logits, joints)
        assert rows.shape == (4, 4)
        assert np.linalg.norm(rows, axis=1).max() <= 1 + 1e-12
    worst = paid(torch.tensor([1e9, -1e9]), Joints(["a", "a"], [0, 1]))
    assert np.linalg.norm(worst) == 1  # the bound is met


def test_a_joint_without_a_number_silences_its_own_patient_only() -> None:
    joints = Joints(["a", "a", "b", "c"], [1, 0, 1, 0])
    rows = paid(torch.tensor([math.nan, 1.0, 1.0, 1.0]), joints)
    assert np.isnan(rows[0]).any()  # cut to nothing in privacy/sums.py
    assert (bounded(rows)[0] == 0).all()
    assert np.isfinite(rows[1:]).all()


def test_a_class_that_noise_may_have_made_up_chooses_no_round() -> None:
    sums = {"eroded": 39.0, "log_loss_eroded": 10.0, "intact": 80.0, "log_loss_intact": 8.0}
    assert quality(sums) == pytest.approx(-(10 / 39 + 0.1) / 2)
    # Noise of 10 at one center: a deviation of 20 patients, and 40 are wanted.
    variance = paid_sums(np.zeros((3, 4)), 10.0)["count_variance"]
    assert variance == 400
    assert math.isnan(quality({**sums, "count_variance": variance}))
    assert not math.isnan(quality({**sums, "count_variance": variance, "eroded": 41.0}))
    assert math.isnan(quality({**sums, "count_variance": 4 * variance, "eroded": 41.0}))  # four such centers
    for count in (0.0, -5.0):
        assert math.isnan(quality({**sums, "eroded": count}))
