import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ramw_fed.config import ErosionConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.errors import ConfigError
from ramw_fed.learning.losses import ClassCounts
from ramw_fed.tasks import TASKS, get_task
from ramw_fed.tasks.erosion import EROSION, ErosionExamples, measure, quality, score_crop, summarize, validate

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
    assert score_crop(model, examples.crop(4), joint, phantom_cohort.description, CPU) == table["probability"][4]


def test_tasks_are_found_by_name_and_a_users_own_by_import_path() -> None:
    assert get_task("erosion") is EROSION
    assert get_task("ramw_fed.tasks.erosion:EROSION") is EROSION
    with pytest.raises(ConfigError, match="segmentation"):
        get_task("fracture")
    with pytest.raises(TypeError):
        TASKS["mine"] = EROSION  # type: ignore[index]
