import math

import numpy as np
import pytest
from scipy.stats import norm, wilcoxon
from statsmodels.stats.power import TTestPower

from ramw_fed.errors import RamwFedError
from ramw_fed.statistics.power import (
    EFFICIENCY,
    Ranking,
    StudySize,
    auroc_power,
    auroc_variance,
    estimate_power,
    paired_power,
    pilot_deviation,
)


def size(patients, **more):
    return StudySize(patients_per_center=patients, centers=1, **more)


def test_34_pairs_find_half_a_deviation_with_80_percent():
    """Of the paired t-test at half a standard deviation (statsmodels and G*Power 3: .8078); for ranks 3 / pi count."""
    found = paired_power(size(34 / EFFICIENCY), deviation=2.0, difference=1.0)
    assert found.power == pytest.approx(0.8078, abs=5e-5)
    assert found.smallest == pytest.approx(0.99, abs=0.01)


@pytest.mark.parametrize("patients", [10, 60, 388])
@pytest.mark.parametrize("contrasts", [1, 5])
def test_smallest_difference_is_that_of_statsmodels(patients, contrasts):
    found = paired_power(size(patients, contrasts=contrasts), deviation=0.03)
    effect = TTestPower().solve_power(nobs=patients * EFFICIENCY, alpha=0.05 / contrasts, power=0.8)
    assert found.smallest == pytest.approx(0.03 * effect, rel=1e-5)


def test_signed_ranks_have_the_power_that_is_said():
    """3000 studies of 40 patients, normal differences of mean .5 SD; standard error of a simulated share .007."""
    differences = np.random.default_rng(1).normal(0.5, 1, (3000, 40))
    share = (wilcoxon(differences, axis=1).pvalue < 0.05).mean()
    assert paired_power(size(40), deviation=1.0, difference=0.5).power == pytest.approx(share, abs=0.02)


def test_centers_times_patients_is_what_counts():
    six = StudySize(patients_per_center=65, centers=6)
    assert paired_power(six, deviation=1.0).smallest == paired_power(size(390), deviation=1.0).smallest
    assert paired_power(six, deviation=1.0).patients == 390


def test_sign_of_the_difference_does_not_matter():
    assert (
        paired_power(size(20), deviation=1.0, difference=-0.5).power
        == paired_power(size(20), deviation=1.0, difference=0.5).power
    )


def test_variance_of_an_auroc_is_that_of_hanley_and_mcneil():
    """Their example (1982, p. 32): 51 abnormal and 58 normal images, area .893, standard error .032."""
    assert math.sqrt(auroc_variance(0.893, 51, 58)) == pytest.approx(0.0325, abs=5e-5)


def test_error_of_two_areas_by_hand():
    """No clustering, r = .5: the error of the difference is that of one area. 4 joints, rho .2: times sqrt(1.6)."""
    ranking = Ranking(auroc=0.893, joints=1, prevalence=51 / 109, correlation=0.5, clustering=0.9)
    assert auroc_power(size(109), ranking).error == pytest.approx(math.sqrt(auroc_variance(0.893, 51, 58)))
    clustered = Ranking(auroc=0.893, joints=4, prevalence=51 / 109, correlation=0.5, clustering=0.2)
    assert auroc_power(size(109 / 4), clustered).error == pytest.approx(math.sqrt(1.6 * auroc_variance(0.893, 51, 58)))


def test_error_of_two_areas_is_that_of_simulated_readings():
    """Binormal scores of two arms, correlated .6; 60 eroded and 140 other joints, d' = 1.19 for an area of .8.

    Hanley and McNeil's variance is for exponential scores: above that of normal ones, by 9 % of the error here.
    """
    rng = np.random.default_rng(3)
    lift = math.sqrt(2) * norm.ppf(0.8)
    areas = []
    for _ in range(1500):
        scores = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=200)
        scores[:60] += lift
        ranks = scores.argsort(axis=0).argsort(axis=0)[:60].sum(axis=0) + 60
        areas.append((ranks - 60 * 61 / 2) / (60 * 140))
    first, second = np.array(areas).T
    ranking = Ranking(
        auroc=0.8, joints=1, prevalence=0.3, correlation=float(np.corrcoef(first, second)[0, 1]), clustering=0.0
    )
    assert (first - second).std() < auroc_power(size(200), ranking).error < 1.15 * (first - second).std()


def test_power_of_a_normal_estimate_by_hand():
    """A difference of 1.96 + .8416 errors is found with 80 %; of 1.96 errors, with 50 %; of none, with 5 %."""
    found = estimate_power(size(100), error=0.02, difference=0.0392, metric="auroc")
    assert found.smallest == pytest.approx(0.02 * (1.95996 + 0.84162), rel=1e-4)
    assert found.power == pytest.approx(0.5, abs=1e-3)
    assert estimate_power(size(100), error=0.02, difference=0.0, metric="auroc").power == pytest.approx(0.05)


def test_a_difference_that_no_auroc_can_have_is_none():
    few = auroc_power(size(20), Ranking(auroc=0.9, joints=6, prevalence=0.1))
    assert few.smallest is None
    assert few.as_dict()["smallest"] is None
    assert auroc_power(size(2000), Ranking(auroc=0.9, joints=6, prevalence=0.1)).smallest < 0.1


def test_a_pilots_deviation_is_rarely_too_small():
    """True SD 1: of pilots of ten patients, 80 % plan with more; the plain estimate would with 44 %."""
    pilots = np.random.default_rng(2).normal(size=(2000, 10))
    assert np.mean([pilot_deviation(pilot) > 1 for pilot in pilots]) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: size(1),
        lambda: size(10, contrasts=0),
        lambda: size(10, alpha=0.9),
        lambda: paired_power(size(10), deviation=0.0),
        lambda: Ranking(auroc=0.5, joints=6, prevalence=0.1),
        lambda: Ranking(auroc=0.8, joints=6, prevalence=0.1, correlation=1.0),
        lambda: auroc_power(size(2), Ranking(auroc=0.8, joints=1, prevalence=0.1)),
        lambda: pilot_deviation(np.array([1.0])),
    ],
)
def test_what_is_no_study_is_refused(wrong):
    with pytest.raises(RamwFedError):
        wrong()
