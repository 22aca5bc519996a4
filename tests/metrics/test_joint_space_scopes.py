"""Bias and limits of agreement of joint spaces in the scopes of ``metrics.json``."""

import json

import numpy as np
import pytest

from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.joint_space_scopes import JOINT_SPACE_KINDS
from ramw_fed.metrics.segmentation_scopes import SegmentationTable, segmentation_tree
from ramw_fed.metrics.surface import SEGMENTATION_COUNTS, SEGMENTATION_METRICS
from ramw_fed.statistics.bland_altman import LIMITS

nan = float("nan")
SPACES = ("DistalRadius+Lunate", "Lunate+Capitate")


def table(rows: list[tuple[str, str, tuple[float, float]]]) -> SegmentationTable:
    """Rows are (center, patient, predicted less true mm of both spaces); changes are twice that."""
    count = len(rows)
    values = {key: np.full((count, 1), 0.9) for key in (*SEGMENTATION_METRICS, *SEGMENTATION_COUNTS)}
    errors = np.array([row[2] for row in rows]).reshape(count, 2)
    return SegmentationTable(
        centers=tuple(row[0] for row in rows),
        patients=tuple(row[1] for row in rows),
        radiographs=tuple(f"{number:03d}" for number in range(count)),
        bones=("Lunate",),
        overlaps=(),
        bone_values=values,
        overlap_values={key: np.empty((count, 0)) for key in values},
        spaces=SPACES,
        space_errors={"joint_space": errors, "joint_space_change": 2 * errors},
    )


def test_bias_and_limits_by_hand() -> None:
    rows = [("A", "1", (0.1, nan)), ("A", "2", (0.3, nan)), ("B", "1", (-0.4, 0.2))]
    whole = segmentation_tree(table(rows), centers="AB", seed=0, resamples=50)
    space = whole["centers"]["A"]["by"]["joint_space"]["DistalRadius+Lunate"]
    assert list(space) == list(LIMITS)
    # mean .2, standard deviation sqrt(.02)
    assert space["bias"] == {"value": pytest.approx(0.2), "ci": None, "n": 2}
    assert space["loa_low"]["value"] == pytest.approx(0.2 - 1.96 * 0.02**0.5)
    assert space["loa_high"]["value"] == pytest.approx(0.2 + 1.96 * 0.02**0.5)
    assert whole["pooled"]["by"]["joint_space"]["DistalRadius+Lunate"]["bias"]["value"] == pytest.approx(0)
    assert whole["pooled"]["by"]["joint_space"]["DistalRadius+Lunate"]["mae"]["value"] == pytest.approx(0.8 / 3)
    assert whole["macro"]["by"]["joint_space"]["DistalRadius+Lunate"]["bias"]["value"] == pytest.approx(-0.1)
    change = whole["centers"]["A"]["by"]["joint_space_change"]["DistalRadius+Lunate"]
    assert change["bias"]["value"] == pytest.approx(0.4)


def test_what_is_not_known_says_why() -> None:
    rows = [("A", "1", (0.1, nan)), ("B", "1", (-0.4, nan)), ("B", "2", (0.0, nan))]
    whole = segmentation_tree(table(rows), centers="ABZ", seed=0, resamples=50)
    one = whole["centers"]["A"]["by"]["joint_space"]
    assert one["DistalRadius+Lunate"]["bias"]["value"] == pytest.approx(0.1)
    assert one["DistalRadius+Lunate"]["loa_low"]["reason"] == "limits of agreement need two patients"
    assert "known spacing" in one["Lunate+Capitate"]["mae"]["reason"]
    assert "two exams" in whole["centers"]["Z"]["by"]["joint_space_change"]["Lunate+Capitate"]["bias"]["reason"]
    assert whole["macro"]["by"]["joint_space"]["DistalRadius+Lunate"]["loa_low"]["left_out"] == 2
    json.dumps(whole, allow_nan=False)


def many(seed: int) -> SegmentationTable:
    rng = np.random.default_rng(seed)
    rows = [
        (center, f"{patient:02d}", (rng.normal(0.2, 0.3), nan if patient % 3 else rng.normal(0, 0.1)))
        for center in "AB"
        for patient in range(15)
        for _ in range(1 + patient % 3)
    ]
    return table(rows)


def test_there_are_intervals_by_patient_and_the_order_of_rows_changes_no_byte() -> None:
    whole = many(0)
    order = np.random.default_rng(1).permutation(len(whole.radiographs))
    trees = [segmentation_tree(each, centers="AB", seed=3, resamples=200) for each in (whole, whole.take(order))]
    assert json.dumps(trees[0]) == json.dumps(trees[1])
    for kind in JOINT_SPACE_KINDS:
        first, second = trees[0]["pooled"]["by"][kind].values()
        assert [first[name]["n"] for name in LIMITS] == [30] * 4
        assert [second[name]["n"] for name in LIMITS] == [10] * 4
        for entry in (*first.values(), *second.values()):
            assert entry["ci"][0] < entry["value"] < entry["ci"][1]


def test_a_center_finds_its_own_part_alone() -> None:
    whole = many(2)
    simulated = segmentation_tree(whole, centers="AB", seed=3, resamples=200)
    alone = segmentation_tree(whole.at("B"), centers="B", seed=3, resamples=200)
    assert alone["centers"]["B"] == simulated["centers"]["B"]


def test_a_table_without_declared_spaces_lists_none_and_one_with_half_of_them_is_refused() -> None:
    whole = many(0)
    plain = SegmentationTable(
        **{name: getattr(whole, name) for name in ("centers", "patients", "radiographs", "bones", "overlaps")},
        bone_values=whole.bone_values,
        overlap_values=whole.overlap_values,
    )
    assert segmentation_tree(plain, centers="AB", seed=0, resamples=50)["pooled"]["by"]["joint_space"] == {}
    with pytest.raises(RamwFedError, match="joint spaces in every row"):
        SegmentationTable(
            **{name: getattr(plain, name) for name in ("centers", "patients", "radiographs", "bones", "overlaps")},
            bone_values=whole.bone_values,
            overlap_values=whole.overlap_values,
            spaces=SPACES,
        )
