import cv2
import numpy as np
import pytest
import torch
from monai.metrics import (
    DiceMetric,
    HausdorffDistanceMetric,
    MeanIoU,
    SurfaceDiceMetric,
    SurfaceDistanceMetric,
)

from ramw_fed.metrics.overlap import overlap_pair_masks
from ramw_fed.metrics.surface import segmentation_metrics, surface_distances, surface_metrics

# MONAI warns of its own deprecated argument, and of masks that are empty on purpose here
pytestmark = [
    pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning"),
    pytest.mark.filterwarnings("ignore:the (ground truth|prediction) of class:UserWarning"),
]
nan, inf = float("nan"), float("inf")


def monai_metrics(predicted, truth):
    """The benchmark's classes, with its settings."""
    pair = [torch.from_numpy(np.ascontiguousarray(masks)[None]).float() for masks in (predicted, truth)]
    metrics = {
        "dsc": DiceMetric(reduction="none"),
        "nsd": SurfaceDiceMetric([2.0] * len(truth), include_background=True, reduction="none"),
        "voe": MeanIoU(reduction="none"),
        "msd": SurfaceDistanceMetric(include_background=True, symmetric=True, reduction="none"),
        "hd95": HausdorffDistanceMetric(include_background=True, percentile=95, reduction="none"),
    }
    values = {name: metric(*pair).numpy().ravel().astype(float) for name, metric in metrics.items()}
    values["voe"] = 1 - values["voe"]
    return values


def bones(seed, *, count=14, size=160):
    """Ellipses, and the same ones moved, turned and stretched; some touch the border, one is split."""
    rng = np.random.default_rng(seed)
    truth, predicted = np.zeros((2, count, size, size), np.uint8)
    for truth_mask, predicted_mask in zip(truth, predicted, strict=True):
        shape = [*rng.uniform(0.1, 0.9, 2) * size, *rng.uniform(3, 0.2 * size, 2), rng.uniform(0, 180)]
        for mask, jitter in ((truth_mask, 0.0), (predicted_mask, rng.uniform(0, 4))):
            x, y, a, b, angle = shape + jitter * rng.normal(size=5)
            half_axes = max(1, round(a)), max(1, round(b))
            cv2.ellipse(mask, (round(x), round(y)), half_axes, angle, 0, 360, 1, -1)
    predicted[-1, :5, :5] = 1
    truth[0], predicted[0] = 0, 0
    truth[0, 40, 40], predicted[0, 0, 0] = 1, 1  # a bone of one pixel each
    return predicted.astype(bool), truth.astype(bool)


@pytest.mark.parametrize("seed", range(6))
def test_values_equal_monai_where_both_outlines_exist(seed):
    predicted, truth = bones(seed)
    ours, theirs = segmentation_metrics(predicted, truth), monai_metrics(predicted, truth)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-5, rtol=1e-6, err_msg=name)


def test_values_of_overlap_regions_equal_monai():
    predicted, truth = bones(9, size=90)
    both = truth & predicted
    pairs = [(i, j) for i in range(14) for j in range(i) if (both[i] & both[j]).any()]
    assert len(pairs) > 5
    regions = overlap_pair_masks(predicted, pairs), overlap_pair_masks(truth, pairs)
    ours, theirs = segmentation_metrics(*regions), monai_metrics(*regions)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-5, rtol=1e-6, err_msg=name)


# truth, prediction: (ours, MONAI's)
EMPTY_MASKS = [
    (False, False, {"nsd": (nan, nan), "msd": (nan, nan), "hd95": (nan, nan), "dsc": (nan, nan)}),
    (False, True, {"nsd": (0.0, 0.0), "msd": (nan, inf), "hd95": (nan, nan), "dsc": (0.0, nan)}),
    (True, False, {"nsd": (0.0, 0.0), "msd": (nan, inf), "hd95": (nan, nan), "dsc": (0.0, 0.0)}),
]


@pytest.mark.parametrize(("in_truth", "in_prediction", "expected"), EMPTY_MASKS)
def test_an_empty_outline_follows_the_table_and_monai_is_known(in_truth, in_prediction, expected):
    square = np.zeros((1, 9, 9), bool)
    square[0, 2:6, 3:7] = True
    predicted, truth = square & in_prediction, square & in_truth
    ours, theirs = segmentation_metrics(predicted, truth), monai_metrics(predicted, truth)
    for name, (here, there) in expected.items():
        np.testing.assert_array_equal(ours[name], [here], err_msg=name)
        np.testing.assert_array_equal(theirs[name], [there], err_msg=f"MONAI {name}")
    assert ours["missing"] == (in_truth and not in_prediction)
    assert ours["false"] == (in_prediction and not in_truth)
    assert ours["both_empty"] == (not in_prediction and not in_truth)


def test_a_bone_that_neither_has_may_count_as_right():
    empty = np.zeros((1, 4, 4), bool)
    values = segmentation_metrics(empty, empty, both_empty=1.0)
    assert (values["dsc"], values["nsd"]) == (1.0, 1.0)
    assert np.isnan([values["voe"], values["msd"], values["hd95"], values["ravd"]]).all()


def lines(*rows):
    masks = np.zeros((1, 12, 8), bool)
    masks[0, list(rows)] = True
    return masks


def test_distances_of_two_parallel_lines_are_what_one_counts():
    # one line of 8 px, moved by 2 px and by 3 px: all distances are 2, or 3
    assert surface_metrics(lines(6), lines(4)) == {"nsd": 1.0, "msd": 2.0, "hd95": 2.0}
    assert surface_metrics(lines(4), lines(7)) == {"nsd": 0.0, "msd": 3.0, "hd95": 3.0}
    # truth rows 2 and 3, prediction row 2: from the prediction 0, from the truth 0 (8 times) and 1 (8 times)
    values = surface_metrics(lines(2), lines(2, 3))
    assert values == {"nsd": 1.0, "msd": pytest.approx(8 / 24), "hd95": 1.0}
    # prediction to truth and truth to prediction change places
    assert surface_metrics(lines(2, 3), lines(2)) == values


def test_a_spacing_gives_millimetres_and_leaves_the_tolerance_in_pixels():
    assert surface_metrics(lines(6), lines(4), spacing_mm=0.15) == {
        "nsd": 1.0,
        "msd": pytest.approx(0.3),
        "hd95": pytest.approx(0.3),
    }


@pytest.mark.parametrize("change", [lambda m: m[..., ::-1], lambda m: m.transpose(0, 2, 1), lambda m: m[::2]])
def test_views_of_masks_are_read_as_copies_are(change):
    predicted, truth = (change(masks) for masks in bones(3, count=4, size=60))
    views = segmentation_metrics(predicted, truth)
    copies = segmentation_metrics(predicted.copy(), truth.copy())
    for name, values in copies.items():
        np.testing.assert_array_equal(views[name], values)


def test_a_stray_pixel_far_away_changes_values_as_it_does_in_monai():
    truth = np.zeros((1, 400, 400), bool)
    truth[0, 10:50, 10:52] = True
    predicted = truth.copy()
    predicted[0, 380:384, 350:353] = True  # ten pixels of outline: ranks around the percentile lie 400 px apart
    ours, theirs = segmentation_metrics(predicted, truth), monai_metrics(predicted, truth)
    assert 10 < ours["hd95"] < 460
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-5, rtol=1e-6, err_msg=name)


def test_distances_are_square_roots_of_whole_numbers_exactly():
    predicted, truth = bones(2, size=300)
    distances = surface_distances(predicted[3], truth[3])
    assert distances is not None
    squared = np.concatenate([distances.to_truth, distances.to_predicted]) ** 2
    np.testing.assert_allclose(squared, np.rint(squared), atol=1e-9)
