import json

import numpy as np
import pytest

from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.scopes import macro
from ramw_fed.metrics.segmentation_scopes import SegmentationTable, segmentation_scope, segmentation_tree
from ramw_fed.metrics.surface import SEGMENTATION_COUNTS, SEGMENTATION_METRICS, segmentation_metrics

nan = float("nan")
BONES, PAIRS = ("Lunate", "Scaphoid"), ("Lunate+Scaphoid",)


def values(dsc, *, missing=(0, 0), both_empty=(0, 0), **others):
    """One radiograph's values of two bones; what is not named equals its Dice."""
    rest = {key: np.array(others.get(key, dsc), float) for key in SEGMENTATION_METRICS}
    return rest | {"missing": np.array(missing, float), "false": np.zeros(2), "both_empty": np.array(both_empty, float)}


def first(metrics):
    return {key: value[:1] for key, value in metrics.items()}


def table(*rows):
    """Rows are (center, patient, radiograph, values)."""
    metrics = [row[3] for row in rows]
    return SegmentationTable.stack(
        [row[:3] for row in rows],
        bones=BONES,
        overlaps=PAIRS,
        bone_metrics=metrics,
        overlap_metrics=[first(each) for each in metrics],
    )


HAND_WORKED = (
    ("A", "1", "1_L", values((0.8, nan), hd95=(nan, nan), both_empty=(0, 1))),
    ("A", "1", "1_R", values((0.6, 0.4), missing=(0, 1))),
    ("A", "2", "2_L", values((0.9, 0.7), missing=(1, 1))),
    ("B", "1", "1_L", values((0.2, 0.4))),
)


def random_table(seed, *, per_center=6, centers="ABC"):
    rng = np.random.default_rng(seed)
    rows = [
        (center, f"{patient:02d}", f"{patient:02d}_{side}", values(rng.uniform(0.7, 1, 2), hd95=rng.uniform(1, 9, 2)))
        for center in centers
        for patient in range(per_center)
        for side in ("0_L", "0_R", "1_L", "1_R")
    ]
    return table(*rows)


def test_means_go_from_bones_to_radiographs_to_patients_to_centers():
    whole = segmentation_tree(table(*HAND_WORKED), centers="AB", seed=0, resamples=50)
    # patient 1 of A: (.8 + .5) / 2 = .65, patient 2: .8; B: .3
    assert whole["centers"]["A"]["dsc"] == {"value": pytest.approx((0.65 + 0.8) / 2), "ci": None, "n": 2}
    assert whole["centers"]["B"]["dsc"]["value"] == pytest.approx(0.3)
    assert whole["pooled"]["dsc"] == {"value": pytest.approx((0.65 + 0.8 + 0.3) / 3), "ci": None, "n": 3}
    assert whole["macro"]["dsc"]["value"] == pytest.approx((0.725 + 0.3) / 2)
    # hd95: the first radiograph has none, so patient 1 has .5
    assert whole["centers"]["A"]["hd95"]["value"] == pytest.approx((0.5 + 0.8) / 2)


def test_bones_and_overlaps_have_their_own_means():
    by = segmentation_tree(table(*HAND_WORKED), centers="AB", seed=0, resamples=50)["centers"]["A"]["by"]
    assert by["bone"]["Lunate"]["dsc"]["value"] == pytest.approx((0.7 + 0.9) / 2)
    assert by["bone"]["Scaphoid"]["dsc"]["value"] == pytest.approx((0.4 + 0.7) / 2)
    assert by["overlap"]["Lunate+Scaphoid"]["dsc"]["value"] == pytest.approx((0.7 + 0.9) / 2)


def test_missing_bones_are_counted_and_not_averaged():
    whole = segmentation_tree(table(*HAND_WORKED), centers="AB", seed=0, resamples=50)
    assert whole["centers"]["A"]["missing"]["value"] == 3
    assert whole["centers"]["A"]["by"]["bone"]["Scaphoid"]["missing"]["value"] == 2
    assert whole["pooled"]["missing"]["value"] == 3
    assert whole["macro"]["missing"]["value"] == 1.5
    assert whole["pooled"]["false"]["value"] == 0


def test_bones_that_neither_has_are_left_out_of_the_mean_and_counted():
    whole = segmentation_tree(table(*HAND_WORKED), centers="AB", seed=0, resamples=50)
    # one radiograph of A's patient 1 has no scaphoid in either mask
    assert whole["centers"]["A"]["both_empty"] == {"value": 1, "ci": None, "n": 2}
    assert whole["centers"]["A"]["by"]["bone"]["Scaphoid"]["both_empty"]["value"] == 1
    assert whole["centers"]["A"]["by"]["bone"]["Lunate"]["both_empty"]["value"] == 0
    assert (whole["pooled"]["both_empty"]["value"], whole["macro"]["both_empty"]["value"]) == (1, 0.5)


def test_every_center_and_metric_is_listed_with_the_reason_where_there_is_no_value():
    rows = [("A", f"{k}", f"{k}_L", values((0.5, nan), hd95=(nan, nan))) for k in range(6)]
    whole = segmentation_tree(table(*rows), centers="AZ", seed=0, resamples=50)
    for scope in (whole["pooled"], whole["macro"], *whole["centers"].values()):
        assert set(scope) == {*SEGMENTATION_METRICS, *SEGMENTATION_COUNTS, "by"}
        assert set(scope["by"]["bone"]) == set(BONES)
        assert set(scope["by"]["overlap"]) == set(PAIRS)
    assert whole["centers"]["Z"]["dsc"] == {"value": None, "ci": None, "n": 0, "reason": "no radiographs with masks"}
    assert whole["centers"]["Z"]["missing"]["value"] is None
    assert "in both truth and prediction" in whole["pooled"]["hd95"]["reason"]
    assert whole["centers"]["A"]["by"]["bone"]["Scaphoid"]["dsc"]["n"] == 6
    assert whole["macro"]["dsc"]["left_out"] == 1
    json.dumps(whole, allow_nan=False)


@pytest.mark.parametrize(("patients", "has_interval"), [(4, False), (5, True)])
def test_there_is_an_interval_from_five_patients_on(patients, has_interval):
    scope = segmentation_scope(random_table(0, per_center=patients, centers="A"), seed=0, resamples=200)
    assert (scope["dsc"]["ci"] is not None) == has_interval
    if has_interval:
        low, high = scope["dsc"]["ci"]
        assert low < scope["dsc"]["value"] < high


def test_four_patients_with_a_bone_among_many_have_no_interval_for_it():
    rows = [("A", f"{k}", f"{k}_L", values((0.5 + k / 50, 0.9 if k < 4 else nan))) for k in range(10)]
    scope = segmentation_scope(table(*rows), seed=0, resamples=200)
    assert scope["by"]["bone"]["Scaphoid"]["dsc"] == {"value": pytest.approx(0.9), "ci": None, "n": 4}
    assert scope["by"]["bone"]["Lunate"]["dsc"]["ci"] is not None


def test_order_of_rows_changes_no_byte():
    whole = random_table(1)
    order = np.random.default_rng(2).permutation(len(whole.radiographs))
    trees = [segmentation_tree(each, centers="ABC", seed=3, resamples=300) for each in (whole, whole.take(order))]
    assert json.dumps(trees[0]) == json.dumps(trees[1])


def test_a_center_computes_its_own_part_alone_and_macro_needs_no_more():
    whole = random_table(4)
    simulated = segmentation_tree(whole, centers="ABC", seed=5, resamples=300)
    alone = {name: segmentation_scope(whole.at(name), seed=5, resamples=300) for name in "CAB"}
    assert json.loads(json.dumps(alone)) == simulated["centers"]
    assert macro(json.loads(json.dumps(alone))) == simulated["macro"]


def test_another_seed_changes_intervals_and_no_value():
    scopes = [segmentation_scope(random_table(6), seed=seed, resamples=300)["dsc"] for seed in (0, 1)]
    assert scopes[0]["value"] == scopes[1]["value"]
    assert scopes[0]["ci"] != scopes[1]["ci"]


def test_values_of_masks_fill_a_table():
    truth = np.zeros((2, 12, 12), bool)
    truth[0, 2:8, 2:8], truth[1, 5:10, 5:10] = True, True
    predicted = truth.copy()
    predicted[1] = False
    row = segmentation_metrics(predicted, truth)
    scope = segmentation_scope(table(("A", "1", "1_L", row)), seed=0, resamples=50)
    assert scope["dsc"]["value"] == 0.5
    assert scope["missing"]["value"] == 1
    assert scope["by"]["bone"]["Lunate"]["nsd"]["value"] == 1


def test_a_table_that_lacks_a_metric_is_refused():
    rows = [("A", "1", "1_L")]
    short = values((0.5, 0.5))
    with pytest.raises(RamwFedError, match="hd95"):
        SegmentationTable(
            centers=("A",),
            patients=("1",),
            radiographs=tuple(row[2] for row in rows),
            bones=BONES,
            overlaps=(),
            bone_values={key: value[None] for key, value in short.items() if key != "hd95"},
            overlap_values={key: np.empty((1, 0)) for key in short},
        )
