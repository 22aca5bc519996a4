import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric, MeanIoU

from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.overlap import areas, dice, overlap_pair_masks, ravd, voe


def masks(*rows: str) -> np.ndarray:
    """One bone a row: "110" is a mask of one line."""
    return np.array([[[pixel == "1" for pixel in row]] for row in rows])


# truth, prediction: dsc, voe, ravd worked by hand
HAND_WORKED = [
    ("1100", "0110", 2 * 1 / 4, 1 - 1 / 3, 0.0),
    ("1111", "1100", 2 * 2 / 6, 1 - 2 / 4, 0.5),  # too small
    ("1100", "1111", 2 * 2 / 6, 1 - 2 / 4, 1.0),  # too large: unsigned, relative to the truth
    ("1100", "0011", 0.0, 1.0, 0.0),
    ("1010", "1010", 1.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("truth", "predicted", "dsc", "error", "difference"), HAND_WORKED)
def test_overlap_equals_what_was_worked_by_hand(truth, predicted, dsc, error, difference):
    pair = masks(predicted), masks(truth)
    assert dice(*pair) == pytest.approx(dsc)
    assert voe(*pair) == pytest.approx(error)
    assert ravd(*pair) == pytest.approx(difference)


nan = float("nan")
# truth, prediction: ours, MONAI's (its IoU is turned into VOE = 1 - IoU); RAVD: ours, the benchmark's
EMPTY_MASKS = [
    ("0000", "0000", {"dsc": (nan, nan), "voe": (nan, nan), "ravd": (nan, 0.0)}, (0, 0)),
    ("0000", "0110", {"dsc": (0.0, nan), "voe": (1.0, nan), "ravd": (nan, 0.0)}, (0, 1)),
    ("0110", "0000", {"dsc": (0.0, 0.0), "voe": (1.0, 1.0), "ravd": (1.0, 1.0)}, (1, 0)),
]


@pytest.mark.parametrize(("truth", "predicted", "expected", "counts"), EMPTY_MASKS)
def test_an_empty_mask_follows_the_table_and_monai_is_known(truth, predicted, expected, counts):
    pair = masks(predicted), masks(truth)
    tensors = [torch.from_numpy(mask[None]).float() for mask in pair]
    ours = {"dsc": dice(*pair), "voe": voe(*pair), "ravd": ravd(*pair)}
    monai = {"dsc": DiceMetric(reduction="none")(*tensors), "voe": 1 - MeanIoU(reduction="none")(*tensors)}
    for name, (here, there) in expected.items():
        np.testing.assert_array_equal(ours[name], [here])
        if name in monai:
            np.testing.assert_array_equal(monai[name].numpy().ravel(), [there])
    assert (areas(*pair).missing(), areas(*pair).false()) == counts


def test_overlap_regions_of_pairs_are_the_pixels_of_both_bones():
    bones = masks("1100", "0110", "0011")
    np.testing.assert_array_equal(overlap_pair_masks(bones, [(0, 1), (2, 1), (0, 2)]), masks("0100", "0010", "0000"))
    assert overlap_pair_masks(bones, []).shape == (0, 1, 4)


@pytest.mark.parametrize("wrong", [np.ones((2, 3, 3), np.uint8), np.ones((3, 3), bool), np.ones((3, 3, 3), bool)])
def test_masks_of_another_type_or_shape_are_refused(wrong):
    with pytest.raises(RamwFedError, match="masks"):
        dice(wrong, np.ones((2, 3, 3), bool))
