from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ramw_fed.config import SegmentationConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.metrics.joint_space import mean_widths
from ramw_fed.metrics.surface import segmentation_metrics
from ramw_fed.tasks.segmentation import (
    SEGMENTATION,
    SegmentationExamples,
    canvas_size,
    measure,
    quality,
    segment,
    summarize,
    validate,
)

CPU = torch.device("cpu")
CONFIG = SegmentationConfig(image_size=64)


class Oracle(nn.Module):
    """Answers with prepared logits, in the order in which it is asked; what pads a batch gets the last ones."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.asked = logits, 0

    def forward(self, inputs: Tensor) -> Tensor:
        rows = torch.arange(self.asked, self.asked + len(inputs)).clamp(max=len(self.logits) - 1)
        self.asked += len(inputs)
        return self.logits[rows]


def logits_of(examples: SegmentationExamples) -> Tensor:
    _, masks = examples.batch(np.arange(len(examples)), augment_key=None)
    return masks.float() * 20 - 10


def test_examples_are_the_radiographs_of_the_split_that_have_masks(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "train", CONFIG)
    wanted = [r for r in phantom_cohort.radiographs if r.masks is not None and r.mask_split == "train"]
    assert examples.names.tolist() == [radiograph.name for radiograph in wanted]
    inputs, targets = examples.batch(np.array([0, 2]), augment_key=None)
    assert inputs.shape == (2, 1, 64, 64)
    assert targets.shape == (2, len(phantom_cohort.description.bones), 64, 64)
    assert inputs.dtype == torch.float32
    assert targets.dtype == torch.uint8


def test_left_wrists_are_mirrored_unless_the_knob_says_no(phantom_cohort: Cohort) -> None:
    mirrored = SegmentationExamples(phantom_cohort, "train", CONFIG)
    plain = SegmentationExamples(phantom_cohort, "train", replace(CONFIG, mirror=False))
    sides = [radiograph.side for radiograph in mirrored.cohort.radiographs]
    assert {"L", "R"} == set(sides)
    for row, side in enumerate(sides):
        seen, masks = mirrored.batch(np.array([row]), augment_key=None)
        kept, kept_masks = plain.batch(np.array([row]), augment_key=None)
        flip = (lambda part: part.flip(-1)) if side == "L" else (lambda part: part)
        assert torch.equal(masks, flip(kept_masks))
        torch.testing.assert_close(seen, flip(kept))


def test_augmentation_follows_seed_epoch_and_image_but_not_the_batch(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "train", CONFIG)
    alone, _ = examples.batch(np.array([3]), augment_key=(0, 1))
    beside, _ = examples.batch(np.array([1, 3]), augment_key=(0, 1))
    later, _ = examples.batch(np.array([3]), augment_key=(0, 2))
    assert torch.equal(alone[0], beside[1])
    assert not torch.equal(alone, later)


def test_right_masks_score_full_marks_at_the_networks_size(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "val", CONFIG)
    sums = validate(Oracle(logits_of(examples)), examples, CONFIG, CPU)
    assert sums == {"dsc": pytest.approx(len(set(examples.patients))), "patients": len(set(examples.patients))}
    assert quality(sums) == pytest.approx(1)


def test_a_patients_value_is_the_mean_of_the_radiographs_and_a_centers_of_the_patients(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "val", CONFIG)
    logits = logits_of(examples)
    patient = examples.patients[0]
    of_patient = np.flatnonzero(examples.patients == patient)
    logits[int(of_patient[0])] = -10  # no bone found in one radiograph
    sums = validate(Oracle(logits), examples, CONFIG, CPU)
    patients = len(set(examples.patients))
    assert sums["dsc"] == pytest.approx(patients - 1 / len(of_patient))


def test_nothing_to_validate_has_no_quality() -> None:
    assert np.isnan(quality({}))
    assert np.isnan(quality({"dsc": 0.0, "patients": 0.0}))


def test_measuring_happens_at_the_images_own_size(phantom_cohort: Cohort) -> None:
    config = replace(CONFIG, image_size=32)
    examples = SegmentationExamples(phantom_cohort, "test", config)
    table = measure(Oracle(logits_of(examples)), phantom_cohort, "test", config, CPU)
    bones, pairs = len(phantom_cohort.description.bones), len(phantom_cohort.description.overlap_pairs)
    assert table["dsc"].shape == (len(examples), bones)
    assert table["overlap_hd95"].shape == (len(examples), pairs)
    # Masks of 32 pixels brought back to 64 are good but not right.
    assert 0.8 < float(np.nanmean(table["dsc"])) < 1


def test_right_masks_are_right_at_the_images_own_size(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "test", CONFIG)
    table = measure(Oracle(logits_of(examples)), phantom_cohort, "test", CONFIG, CPU)
    np.testing.assert_array_equal(table["dsc"][~np.isnan(table["dsc"])], 1)
    assert table["missing"].sum() == 0


def test_values_are_those_of_the_metrics_on_the_predicted_masks(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "test", CONFIG)
    logits = torch.roll(logits_of(examples), shifts=2, dims=-1)
    table = measure(Oracle(logits), phantom_cohort, "test", CONFIG, CPU)
    truth = examples.batch(np.array([1]), augment_key=None)[1][0].numpy() > 0
    wanted = segmentation_metrics(logits[1].numpy() > 0, truth, tolerance_px=CONFIG.tolerance_px)
    for name in ("dsc", "nsd", "hd95"):
        np.testing.assert_allclose(table[name][1], wanted[name])


def test_a_split_without_radiographs_gives_an_empty_table_of_the_same_columns(phantom_cohort: Cohort) -> None:
    empty = phantom_cohort.keep([])
    table = measure(Oracle(torch.zeros(1)), empty, "test", CONFIG, CPU)
    assert all(len(column) == 0 for column in table.values())
    assert table["dsc"].shape == (0, len(phantom_cohort.description.bones))


def test_scopes_list_every_center_that_is_asked_for(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "test", CONFIG)
    table = measure(Oracle(logits_of(examples)), phantom_cohort, "test", CONFIG, CPU)
    scopes: Mapping[str, Any] = summarize(
        table, phantom_cohort.description, CONFIG, 100, 0, centers=[*phantom_cohort.centers, "Nowhere"]
    )
    assert set(scopes["centers"]) == {*phantom_cohort.centers, "Nowhere"}
    assert scopes["pooled"]["dsc"]["value"] == 1.0
    assert scopes["centers"]["Nowhere"]["dsc"]["value"] is None


@pytest.mark.parametrize("field_of_view", [1.25, 1.5])
def test_a_larger_canvas_is_cut_to_the_frame_for_validation_and_measuring(
    phantom_cohort: Cohort, field_of_view: float
) -> None:
    config = replace(CONFIG, image_size=32, field_of_view=field_of_view)
    assert canvas_size(config) == 32 * field_of_view
    examples = SegmentationExamples(phantom_cohort, "test", config)
    inputs, masks = examples.batch(np.arange(len(examples)), augment_key=None)
    assert inputs.shape[-1] == masks.shape[-1] == 32
    varied, _ = examples.batch(np.array([0]), augment_key=(0, 0))
    assert varied.shape[-1] == 32
    table = measure(Oracle(logits_of(examples)), phantom_cohort, "test", config, CPU)
    assert float(np.nanmean(table["dsc"])) > 0.75


def test_a_radiograph_is_segmented_at_its_size_and_orientation(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "test", CONFIG)
    row = next(i for i, radiograph in enumerate(examples.cohort.radiographs) if radiograph.side == "L")
    radiograph = examples.cohort.radiographs[row]
    model = Oracle(logits_of(examples)[row : row + 1])
    masks = segment(model, radiograph.read_image(), CONFIG, CPU, mirror=True)[0]
    np.testing.assert_array_equal(masks, radiograph.read_masks())


@pytest.mark.parametrize("shape", [(80, 120), (120, 80), (64, 64)])
def test_masks_of_an_oblong_image_have_its_shape(shape: tuple[int, int]) -> None:
    model = Oracle(torch.full((1, 3, 64, 64), 5.0))
    masks = segment(model, np.full(shape, 100, np.uint8), CONFIG, CPU, mirror=False)[0]
    assert masks.shape == (3, *shape)
    assert masks.all()


def test_the_task_reads_masks_and_nothing_else() -> None:
    assert SEGMENTATION.label == "masks"
    assert SEGMENTATION.name == "segmentation"


def test_joint_spaces_stand_in_the_table_in_mm_and_agree_where_the_masks_do(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "test", CONFIG)
    table = measure(Oracle(logits_of(examples)), phantom_cohort, "test", CONFIG, CPU)
    widths = table["joint_space_true"]
    assert widths.shape == (len(examples), 6)
    assert np.isfinite(widths).mean() > 0.7
    np.testing.assert_array_equal(widths, table["joint_space_predicted"])
    radiograph = examples.cohort.radiographs[3]
    pairs = phantom_cohort.description.joint_space_indices()
    wanted = mean_widths(radiograph.read_masks(), pairs, radiograph.spacing_mm)
    np.testing.assert_allclose(widths[3], wanted, atol=1e-4)  # measured as the network sees it, maybe mirrored
    scopes = summarize(table, phantom_cohort.description, CONFIG, 100, 0, centers=phantom_cohort.centers)
    entry = scopes["pooled"]["by"]["joint_space"]["Capitate+Metacarpal3rd"]
    assert [entry[name]["value"] for name in ("bias", "loa_low", "loa_high", "mae")] == [0, 0, 0, 0]


def test_a_change_is_from_the_exam_before_of_the_same_wrist(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "test", CONFIG)
    table = measure(Oracle(logits_of(examples)), phantom_cohort, "test", CONFIG, CPU)
    rows = {(r.patient, r.side, r.exam[-4:]): row for row, r in enumerate(examples.cohort.radiographs)}
    later = {key: row for key, row in rows.items() if key[2] == "0002" and (*key[:2], "0001") in rows}
    assert later
    for row in range(len(examples)):
        key = next(key for key, place in rows.items() if place == row)
        if row in later.values():
            before = rows[*key[:2], "0001"]
            wanted = table["joint_space_true"][row] - table["joint_space_true"][before]
            np.testing.assert_array_equal(table["joint_space_change_true"][row], wanted)
        else:
            assert np.isnan(table["joint_space_change_true"][row]).all()


def test_a_cohort_may_have_neither_overlap_pairs_nor_joint_spaces(phantom_cohort: Cohort) -> None:
    bare = replace(phantom_cohort.description, overlap_pairs=(), joint_spaces=())
    examples = SegmentationExamples(phantom_cohort, "test", CONFIG)
    table = measure(Oracle(logits_of(examples)), replace(phantom_cohort, description=bare), "test", CONFIG, CPU)
    assert table["overlap_dsc"].shape == table["joint_space_true"].shape == (len(examples), 0)
    scopes = summarize(table, bare, CONFIG, 100, 0, centers=phantom_cohort.centers)
    assert scopes["macro"]["by"]["joint_space"] == scopes["macro"]["by"]["overlap"] == {}


def test_without_spacing_there_is_no_joint_space(phantom_cohort: Cohort) -> None:
    unknown = phantom_cohort.keep(replace(radiograph, spacing_mm=None) for radiograph in phantom_cohort.radiographs)
    examples = SegmentationExamples(unknown, "test", CONFIG)
    table = measure(Oracle(logits_of(examples)), unknown, "test", CONFIG, CPU)
    assert np.isnan(table["joint_space_true"]).all()
    scopes = summarize(table, unknown.description, CONFIG, 100, 0)
    assert "known spacing" in scopes["pooled"]["by"]["joint_space"]["Lunate+Capitate"]["bias"]["reason"]


def paid(model: nn.Module, examples: Any, config: SegmentationConfig = CONFIG) -> Any:
    return SEGMENTATION.validation().rows(model, examples, config, CPU)


def test_what_a_patient_adds_to_a_paid_validation_is_the_dice_from_the_middle(phantom_cohort: Cohort) -> None:
    examples = SegmentationExamples(phantom_cohort, "val", CONFIG)
    logits = torch.roll(logits_of(examples), shifts=3, dims=-1)
    logits[0] = -10
    rows = paid(Oracle(logits), examples)
    assert rows.shape == (len(set(examples.patients)), 1)
    assert len(set(np.round(rows[:, 0], 6))) > 1
    sums = SEGMENTATION.validation().sums({"dsc": float(rows.sum())}, len(rows), 0.0)
    assert sums == pytest.approx(validate(Oracle(logits), examples, CONFIG, CPU))  # without noise nothing differs


class Pictures:
    """Images of patients, with masks that the test gives: how many and what they show is free."""

    def __init__(self, patients: list[str], masks: Tensor) -> None:
        self.patients = self.names = np.array(patients, np.str_)
        self.masks = masks

    def __len__(self) -> int:
        return len(self.patients)

    def batch(self, rows: Any, *, augment_key: None) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(rows), 1, 4, 4), self.masks[torch.from_numpy(rows)]


def test_no_patient_adds_more_than_one_whatever_the_network_says_and_however_many_images_there_are() -> None:
    generator = torch.Generator().manual_seed(3)
    patients = ["a"] * 1 + ["b"] * 2 + ["c"] * 40 + ["d"]
    for scale in (1.0, 1e30, float("inf"), float("nan")):
        masks = (torch.rand(44, 3, 4, 4, generator=generator) > 0.5).to(torch.uint8)
        masks[-1] = 0  # d has no bone
        logits = torch.randn(44, 3, 4, 4, generator=generator) * scale
        rows = paid(Oracle(logits), Pictures(patients, masks))
        assert rows.shape == (4, 1)
        assert np.abs(rows).max() <= 1
        if np.isnan(scale):
            assert (rows[:3] == -1).all()  # nothing is found: a Dice of 0
    silent = paid(Oracle(torch.full((44, 3, 4, 4), -1.0)), Pictures(patients, masks))
    assert silent[3] == 0  # no bone and none found: as a Dice of a half


def test_a_patients_part_depends_on_no_other_patient() -> None:
    generator = torch.Generator().manual_seed(4)
    masks = (torch.rand(12, 3, 4, 4, generator=generator) > 0.5).to(torch.uint8)
    logits = torch.randn(12, 3, 4, 4, generator=generator)
    patients = ["a"] * 5 + ["b"] * 7
    alone = paid(Oracle(logits[:5]), Pictures(patients[:5], masks[:5]))
    assert paid(Oracle(logits), Pictures(patients, masks))[0] == alone[0]
