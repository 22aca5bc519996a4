import math

import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import _SigmoidCalibration
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from ramw_fed.config import ErosionConfig
from ramw_fed.errors import ConfigError
from ramw_fed.learning.decision import PATIENTS, Scores, calibrated, count_logits, decide, uncalibrated

YOUDEN = ErosionConfig(threshold_rule="youden", own_threshold_patients=2)


def joints(seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Logits in the middles of bins, and classes that overlap."""
    rng = np.random.default_rng(seed)
    eroded = rng.random(count) < 0.2
    logits = np.floor((rng.normal(size=count) * 2 + 2.5 * eroded - 1) * 2) / 2 + 0.25
    return logits, eroded


def sums(seed: int, patients: int = 9) -> dict[str, float]:
    return {**count_logits(*joints(seed)), PATIENTS: float(patients)}


def test_logits_are_counted_by_class_in_bins_of_a_half_and_the_outer_bins_are_open() -> None:
    logits = np.array([-99.0, -16.0, 0.0, 0.49, 0.5, 15.9, 99.0])
    counts = count_logits(logits, np.array([False, False, True, True, False, True, True]))
    assert counts == {
        "logits/intact/00": 2.0,
        "logits/intact/33": 1.0,
        "logits/eroded/32": 2.0,
        "logits/eroded/63": 2.0,
    }


def test_counts_of_centers_add_up_to_those_of_all_their_joints() -> None:
    (one, first), (other, second) = joints(1), joints(2)
    parts = Scores.of(count_logits(one, first), count_logits(other, second))
    whole = Scores.of(count_logits(np.append(one, other), np.append(first, second)))
    assert np.array_equal(parts.intact, whole.intact)
    assert np.array_equal(parts.eroded, whole.eroded)


def test_youdens_threshold_has_the_gain_of_sklearns_roc_curve() -> None:
    logits, eroded = joints(3)
    threshold = Scores.of(count_logits(logits, eroded)).threshold()
    false, true, _ = roc_curve(eroded, logits)
    called = logits >= threshold
    assert called[eroded].mean() - called[~eroded].mean() == pytest.approx((true - false).max())


def test_the_middle_of_equal_thresholds_is_taken() -> None:
    # Intact joints below 0, eroded ones from 3 on: edges 0, .5, .. 3 tell them apart alike, and 1.5 lies in the middle.
    scores = Scores.of(count_logits(np.array([-0.1, -2.0, 3.0, 5.0]), np.array([False, False, True, True])))
    assert scores.threshold() == 1.5


@pytest.mark.parametrize(("wanted", "threshold"), [(1.0, 1.0), (0.75, 2.0), (0.5, 3.0), (0.25, 4.0), (0.76, 1.0)])
def test_a_sensitivity_is_reached_by_the_largest_threshold_that_finds_enough(wanted: float, threshold: float) -> None:
    eroded = np.array([1.0, 2.0, 3.0, 4.0])  # each on the lower edge of its bin
    scores = Scores.of(count_logits(np.append(eroded, 0.0), np.array([True] * 4 + [False])))
    assert scores.threshold(wanted) == threshold


def test_temperature_is_the_slope_of_a_logistic_regression_through_the_origin() -> None:
    logits, eroded = joints(4)
    wanted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logits[:, None], eroded)
    assert Scores.of(count_logits(logits, eroded)).temperature() == pytest.approx(1 / wanted.coef_[0, 0], rel=1e-4)


def test_platts_slope_and_shift_are_sklearns() -> None:
    logits, eroded = joints(5)
    wanted = _SigmoidCalibration().fit(logits, eroded)  # sigmoid of -(a z + b)
    temperature, shift = Scores.of(count_logits(logits, eroded)).platt()
    assert 1 / temperature == pytest.approx(-wanted.a_, rel=1e-3)
    assert shift == pytest.approx(-wanted.b_, rel=1e-3)


def test_classes_that_do_not_overlap_leave_temperature_and_shift_in_range() -> None:
    scores = Scores.of(count_logits(np.array([-9.0, -8.0, 8.0, 9.0]), np.array([False, False, True, True])))
    assert scores.temperature() == pytest.approx(0.05, rel=1e-3)
    assert all(math.isfinite(value) for value in scores.platt())


def test_probabilities_before_calibration_are_the_sigmoid_of_the_logit() -> None:
    config = ErosionConfig(calibration="platt", temperature=2.5, shift=-1.5)
    logits = np.array([-12.0, -0.3, 0.0, 7.0])
    np.testing.assert_allclose(calibrated(logits, config), expit(logits / 2.5 - 1.5))
    np.testing.assert_allclose(uncalibrated(calibrated(logits, config), config), expit(logits))
    np.testing.assert_array_equal(uncalibrated(np.array([0.0, 1.0]), config), [0.0, 1.0])


def test_nothing_is_decided_unless_a_rule_asks() -> None:
    config = ErosionConfig()
    decided, words = decide(config, {"HU": sums(0)})
    assert decided is config
    assert not words


def test_one_threshold_for_all_and_one_a_center_that_has_patients_enough() -> None:
    own = {"HU": sums(6), "FA": sums(7, patients=1), "DHA": count_logits(np.zeros(5), np.zeros(5, bool))}
    decided, words = decide(YOUDEN, own)
    assert decided.threshold == pytest.approx(expit(Scores.of(*own.values()).threshold()))
    assert decided.thresholds() == {"HU": pytest.approx(expit(Scores.of(own["HU"]).threshold()))}
    assert words["global threshold at"] == {
        "DHA": "0 validation patients with an erosion; 2 are wanted",
        "FA": "1 validation patients with an erosion; 2 are wanted",
    }
    assert decided.at("FA").thresholds() == {}
    assert decided.at("HU").thresholds() == decided.thresholds()


def test_calibration_moves_the_threshold_along_so_that_decisions_stay() -> None:
    logits, eroded = joints(8)
    own = {"HU": {**count_logits(logits, eroded), PATIENTS: 9.0}}
    for rule in ({}, {"threshold_rule": "youden"}):
        plain, _ = decide(ErosionConfig(**rule), own)  # type: ignore[arg-type]
        scaled, _ = decide(ErosionConfig(calibration="platt", **rule), own)  # type: ignore[arg-type]
        assert scaled.temperature != 1
        assert scaled.shift < 0
        before, after = (calibrated(logits, config) >= config.threshold for config in (plain, scaled))
        assert np.array_equal(before, after)


def test_one_class_alone_leaves_all_as_it_was_and_says_so() -> None:
    decided, words = decide(YOUDEN, {"HU": count_logits(np.zeros(3), np.zeros(3, bool))})
    assert decided == YOUDEN
    assert "one class" in words["reason"]


@pytest.mark.parametrize("entry", ["HU", "HU=high", "HU=1.5", "=0.5", "HU=nan"])
def test_a_threshold_of_a_center_that_is_no_probability_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="NAME=PROBABILITY"):
        ErosionConfig(own_thresholds=(entry,))
