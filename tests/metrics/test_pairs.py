"""Differences of two arms: by hand, under the null hypothesis, and with a planted effect."""

import numpy as np
import pytest
from scipy.stats import binomtest, wilcoxon
from sklearn.metrics import roc_auc_score

from ramw_fed.metrics.erosion_pairs import BOOTSTRAP, MCNEMAR, erosion_differences
from ramw_fed.metrics.segmentation_pairs import segmentation_differences

HALF = (0.5, 0.5)


def names(rows):
    centers, patients, radiographs = (np.array(column, np.str_) for column in zip(*rows, strict=True))
    return {"center": centers, "patient": patients, "name": radiographs}


def masks(values, *, per_patient=1, centers="A", metric="dsc"):
    """One row a radiograph, ``values`` (rows, bones); patients are shared out over centers."""
    count = len(values) // per_patient
    rows = [(centers[p % len(centers)], f"{p:03d}", f"{p:03d}_{k}") for p in range(count) for k in range(per_patient)]
    return names(rows) | {metric: np.asarray(values, float)}


def joints(probabilities, grades, *, per_patient=1, centers="A"):
    count = len(grades) // per_patient
    rows = [(centers[p % len(centers)], f"{p:03d}", f"{p:03d}") for p in range(count) for _ in range(per_patient)]
    return names(rows) | {"probability": np.asarray(probabilities, float), "grade": np.asarray(grades, float)}


def compare(one, other, *metrics, thresholds=HALF, resamples=500, seed=0):
    return erosion_differences(one, other, metrics, thresholds=thresholds, seed=seed, resamples=resamples)


# --- segmentation --------------------------------------------------------------------------------------------------


def test_a_patient_is_one_value_the_mean_over_radiographs_of_the_mean_over_bones():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 24, 3))
    one[0, 1] = np.nan  # this radiograph's mean is over two bones
    entry = segmentation_differences(masks(one, per_patient=2), masks(other, per_patient=2), ["dsc"])["dsc"]
    first, second = (np.nanmean(values, axis=1).reshape(12, 2).mean(axis=1) for values in (one, other))
    assert entry["n"] == 12
    assert entry["first"] == pytest.approx(first.mean())
    assert entry["second"] == pytest.approx(second.mean())
    assert entry["p"] == pytest.approx(wilcoxon(first, second).pvalue)
    means = [(a + b) / 2 for i, a in enumerate(first - second) for b in (first - second)[i:]]
    assert entry["value"] == pytest.approx(np.median(means))
    assert entry["ci"][0] < entry["value"] < entry["ci"][1]


def test_radiographs_of_one_patient_add_no_certainty():
    rng = np.random.default_rng(1)
    one, other = rng.random((2, 10, 1))
    single = segmentation_differences(masks(one), masks(other), ["dsc"])["dsc"]
    tripled = [masks(np.repeat(values, 3, axis=0), per_patient=3) for values in (one, other)]
    for name, value in segmentation_differences(*tripled, ["dsc"])["dsc"].items():
        assert value == (pytest.approx(single[name]) if name not in {"test"} else single[name])


def test_distances_take_only_bones_that_both_arms_found():
    rng = np.random.default_rng(2)
    one, other = rng.random((2, 8, 3)) * 5
    one[0, 2] = np.nan  # missed by the first: the second's hard bone must not count against it
    other[0, 2] = 100.0
    other[1, 0] = np.nan
    one[1, 0] = 50.0
    entry = segmentation_differences(masks(one, metric="hd95"), masks(other, metric="hd95"), ["hd95"])["hd95"]
    for arm, values in (("first", one), ("second", other)):
        wanted = np.mean([values[0, :2].mean(), values[1, 1:].mean(), *values[2:].mean(axis=1)])
        assert entry[arm] == pytest.approx(wanted)
    assert entry["unpaired"] == 2


def test_missing_bones_are_the_sum_over_a_patients_radiographs():
    one = np.tile([[1.0, 0, 1], [0, 1, 0]], (6, 1))
    arms = [masks(values, per_patient=2, metric="missing") for values in (one, 0 * one)]
    entry = segmentation_differences(*arms, ["missing"])["missing"]
    assert (entry["first"], entry["second"], entry["value"]) == (3, 0, 3)


def test_below_five_patients_with_a_value_in_both_arms_nothing_is_estimable():
    values = np.random.default_rng(3).random((2, 5, 2))
    known = segmentation_differences(masks(values[0]), masks(values[1]), ["dsc"])["dsc"]
    assert known["value"] is not None
    assert known["ci"] is None
    values[0, 0] = np.nan
    entry = segmentation_differences(masks(values[0]), masks(values[1]), ["dsc"])["dsc"]
    assert entry == {
        "value": None,
        "ci": None,
        "n": 4,
        "reason": "4 of 5 patients have a value in both arms; 5 are needed",
    }


# --- erosion -------------------------------------------------------------------------------------------------------


def scored(seed, *, patients=60, per_patient=4, shift=1.0, gain=0.0, prevalence=0.25):
    """Two arms that see one truth with errors of their own; ``gain``: how much better the first separates."""
    rng = np.random.default_rng(seed)
    count = patients * per_patient
    grades = (rng.random(count) < prevalence).astype(float)
    common = np.repeat(rng.normal(size=patients), per_patient) * 0.5 + rng.normal(size=count) * 0.6
    arms = []
    for extra in (gain, 0.0):
        own = np.repeat(rng.normal(size=patients), per_patient) * 0.3 + rng.normal(size=count) * 0.6
        arms.append(1 / (1 + np.exp(-(common + own + (shift + extra) * grades - shift / 2))))
    return [joints(arm, grades, per_patient=per_patient, centers="ABCDEF") for arm in arms]


def test_a_difference_is_the_first_arms_value_less_the_seconds():
    one, other = scored(0)
    found = compare(one, other, "auroc", "sen")
    first, second = (roc_auc_score(arm["grade"], arm["probability"]) for arm in (one, other))
    assert found["auroc"]["first"] == pytest.approx(first)
    assert found["auroc"]["value"] == pytest.approx(first - second)
    assert found["auroc"]["test"] == found["sen"]["test"] == BOOTSTRAP
    called = [np.mean(arm["probability"][arm["grade"] > 0] >= 0.5) for arm in (one, other)]
    assert found["sen"]["value"] == pytest.approx(called[0] - called[1])


def test_both_arms_are_drawn_alike():
    """An arm against itself has no spread; with draws of its own it would have some."""
    one, other = scored(1)
    same = compare(one, one, "auroc", "auprc")
    assert all(entry["ci"] == [0, 0] and entry["p"] == 1 for entry in same.values())
    width = np.ptp(compare(one, other, "auroc")["auroc"]["ci"])
    apart = [np.ptp(compare(arm, dict(arm, probability=1 - arm["probability"]), "auroc")["auroc"]["ci"]) / 2
             for arm in (one, other)]  # fmt: skip
    assert width < 0.9 * np.hypot(*apart)


def test_joints_of_one_patient_add_no_certainty():
    one, other = scored(2, per_patient=1, prevalence=0.4)
    repeated = [{name: np.repeat(column, 5) for name, column in arm.items()} for arm in (one, other)]
    for arm in repeated:
        arm["name"] = np.arange(len(arm["name"])).astype(str)  # radiographs of their own
    single, tied = compare(one, other, "auroc"), compare(*repeated, "auroc")
    np.testing.assert_allclose(tied["auroc"]["ci"], single["auroc"]["ci"], atol=1e-12)
    assert tied["auroc"]["p"] == pytest.approx(single["auroc"]["p"], abs=0.01)  # zeros, but for rounding


def test_sensitivity_of_one_joint_a_patient_is_mcnemars():
    """Twelve eroded: A alone finds seven, B alone one, two both, two none. p = 2 (1 + 8) / 256."""
    first = [1] * 7 + [0] + [1] * 2 + [0] * 2 + [0] * 8
    second = [0] * 7 + [1] + [1] * 2 + [0] * 2 + [1] + [0] * 7
    grades = [2] * 12 + [0] * 8
    found = compare(joints(first, grades), joints(second, grades), "sen", "spc")
    assert found["sen"]["p"] == pytest.approx(18 / 256)
    assert found["sen"]["p"] == binomtest(7, 8).pvalue
    assert found["sen"]["value"] == pytest.approx(9 / 12 - 3 / 12)
    assert found["sen"]["test"] == found["spc"]["test"] == MCNEMAR
    assert found["spc"]["p"] == 1
    assert found["spc"]["value"] == pytest.approx(1 / 8)


def test_where_a_patient_has_two_sound_joints_specificity_is_bootstrapped_and_sensitivity_is_not():
    one, other = scored(3, per_patient=2, patients=20)
    grades = np.tile([1.0, 0.0], 20)
    grades[1::8] = 0
    grades[0::8] = 0
    one, other = ({**arm, "grade": grades} for arm in (one, other))
    found = compare(one, other, "sen", "spc")
    assert (found["sen"]["test"], found["spc"]["test"]) == (MCNEMAR, BOOTSTRAP)


def test_each_arm_calls_joints_by_its_own_threshold():
    grades = [1, 0] * 6
    arm = joints([0.4, 0.3] * 6, grades)
    found = compare(arm, arm, "sen", "spc", thresholds=(0.35, 0.5))
    assert (found["sen"]["first"], found["sen"]["second"]) == (1, 0)
    assert (found["spc"]["first"], found["spc"]["second"]) == (1, 1)
    assert (found["sen"]["ci"], found["spc"]["ci"]) == ([1, 1], [0, 0])


def test_swapped_arms_change_signs_only():
    one, other = scored(4)
    for metric in ("auroc", "auprc", "sen", "brier"):
        there, back = (compare(*pair, metric)[metric] for pair in ((one, other), (other, one)))
        assert there["value"] == -back["value"]
        assert there["p"] == back["p"]
        np.testing.assert_allclose(there["ci"], [-limit for limit in back["ci"][::-1]], atol=1e-12)
        assert (there["first"], there["second"]) == (back["second"], back["first"])


@pytest.mark.parametrize(
    ("grades", "reason"),
    [
        ([0] * 20, "A: one class in the truth: no eroded joint"),
        ([1] * 4 + [0] * 16, "4 patients have an eroded joint; 5 are needed"),
        ([1] * 16 + [0] * 4, "4 patients have a joint without erosion; 5 are needed"),
    ],
)
def test_too_few_patients_of_a_class_are_not_estimable(grades, reason):
    rng = np.random.default_rng(0)
    one, other = (joints(rng.random(20), grades) for _ in "AB")
    entry = compare(one, other, "auroc")["auroc"]
    assert entry == {"value": None, "ci": None, "n": 20, "reason": reason}


def test_agreement_needs_grades_that_both_arms_predicted():
    one, other = scored(5)
    assert compare(one, other, "qwk")["qwk"]["reason"] == "A: no predicted grades"
    graded = [{**arm, "predicted_grade": np.round(arm["probability"] * 2)} for arm in (one, other)]
    assert compare(*graded, "mae")["mae"]["value"] is not None


# --- chance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patients", "per_patient"), [(60, 4), (36, 2)])
def test_without_a_difference_no_more_than_5_in_100_are_found(patients, per_patient):
    """500 comparisons: 5 % and two standard errors of it are 6.9 %."""
    studies, found = 500, {"auroc": 0, "auprc": 0, "sen": 0, "spc": 0}
    for study in range(studies):
        entries = compare(*scored([7, study], patients=patients, per_patient=per_patient), *found, resamples=300)
        for metric, entry in entries.items():
            found[metric] += entry["value"] is not None and entry.get("p", 1.0) <= 0.05

    limit = 0.05 + 2 * np.sqrt(0.05 * 0.95 / studies)
    assert all(count / studies <= limit for count in found.values()), found
    assert found["auroc"] / studies >= 0.01, "a test that never finds is no test"


def test_a_planted_difference_is_found():
    entries = [compare(*scored([9, study], gain=1.0), "auroc", resamples=300)["auroc"] for study in range(40)]
    assert sum(entry["p"] <= 0.05 for entry in entries) >= 36
    assert sum(entry["ci"][0] > 0 for entry in entries) >= 36
