import numpy as np
import pytest
from scipy.stats import binomtest, norm, t, wilcoxon

from ramw_fed.statistics.comparison import hodges_lehmann, holm, mcnemar, signed_rank
from ramw_fed.statistics.intervals import Replicates

# --- signed ranks --------------------------------------------------------------------------------------------------


def test_signed_rank_by_hand():
    """Differences 1, -2, 3, 4, 5, 6: ranks 1 to 6, of which 2 is against: W+ = 19 of 21, r = 17 / 21.

    P(W- <= 2) = 3 / 64 (the sets {}, {1}, {2}), so p = 6 / 64. Of the 21 means, sorted -2, -.5, .5, 1, 1, 1.5, 2, 2,
    2.5, 3, 3, 3.5, 3.5, .. the 11th is 3. P(W = 0) = 1 / 64 = .0156 and P(W <= 1) = .031: the interval runs over all.
    """
    found = signed_rank(np.array([1.0, -2, 3, 4, 5, 6]))
    assert found.p_value == pytest.approx(6 / 64, abs=1e-12)
    assert found.rank_biserial == pytest.approx(17 / 21, abs=1e-12)
    assert found.estimate == 3
    assert (found.interval.low, found.interval.high) == (-2, 6)
    assert found.unchanged == 0


def test_hodges_lehmann_of_darwins_maize():
    """Fifteen pairs of maize, differences in eighths of an inch (Darwin 1876; Fisher 1935, table 3).

    By hand: 67 and 48, of ranks 14 and 10, are against; tables give 25 as the largest rank sum that 5 % two-sided
    rejects at n = 15, so 26 of the 120 means lie outside at either end.
    """
    d = np.array([49.0, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]) / 8
    means = sorted((d[i] + d[j]) / 2 for i in range(15) for j in range(i, 15))
    estimate, interval = hodges_lehmann(d)
    assert estimate == (means[59] + means[60]) / 2 == 3.125
    assert (interval.low, interval.high) == (means[25], means[120 - 26])
    found = signed_rank(d)
    assert found.rank_biserial == pytest.approx((96 - 24) / 120)
    assert found.p_value == pytest.approx(wilcoxon(d).pvalue)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [6, 13, 30, 50])
def test_interval_leaves_out_0_just_where_the_exact_test_rejects(seed, count):
    d = np.random.default_rng([seed, count]).normal(0.35, size=count)
    found = signed_rank(d)
    assert (found.interval.low > 0 or found.interval.high < 0) == (found.p_value <= 0.05)


def test_limits_are_where_scipys_test_turns():
    """The interval is all shifts that scipy's exact test does not reject at 5 %."""
    d = np.random.default_rng(3).normal(size=25)
    _, interval = hodges_lehmann(d)
    for limit, outward in ((interval.low, -1), (interval.high, 1)):
        assert wilcoxon(d - limit - outward * 1e-9, method="exact").pvalue <= 0.05
        assert wilcoxon(d - limit + outward * 1e-9, method="exact").pvalue > 0.05


def test_many_patients_come_near_the_normal_limits():
    d = np.random.default_rng(5).normal(size=388)
    _, interval = hodges_lehmann(d)
    count = len(d)
    spread = np.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    outside = round(count * (count + 1) / 4 - norm.ppf(0.975) * spread)
    first, second = np.triu_indices(count)
    means = np.sort((d[first] + d[second]) / 2)
    np.testing.assert_allclose([interval.low, interval.high], [means[outside], means[-outside]], atol=1e-3)


def test_five_patients_have_an_estimate_but_no_interval():
    found = signed_rank(np.array([1.0, 2, 3, 4, 5]))  # P(W = 0) = 1 / 32 is more than .025
    assert (found.estimate, found.interval, found.p_value) == (3, None, 2 / 32)


def test_differences_of_0_are_left_out_of_the_test_and_counted():
    found = signed_rank(np.array([0.0, 0, 1, 2, 3, 4, -5, 6]))
    assert found.unchanged == 2
    assert found.p_value == signed_rank(np.array([1.0, 2, 3, 4, -5, 6])).p_value
    assert found.rank_biserial == pytest.approx(1 - 2 * 5 / 21)
    same = signed_rank(np.zeros(7))
    assert (same.estimate, same.p_value, same.rank_biserial, same.unchanged) == (0, 1, None, 7)


def test_swapping_the_arms_changes_signs_only():
    d = np.random.default_rng(0).normal(0.3, size=20)
    d[:3] = [0, 0.5, -0.5]
    there, back = signed_rank(d), signed_rank(-d)
    assert there.p_value == back.p_value
    assert there.estimate == -back.estimate
    assert there.rank_biserial == pytest.approx(-back.rank_biserial, abs=1e-15)
    assert (there.interval.low, there.interval.high) == (-back.interval.high, -back.interval.low)


def test_signed_rank_finds_no_more_than_it_should():
    rng = np.random.default_rng(8)
    wrong = sum(signed_rank(rng.normal(size=30)).p_value <= 0.05 for _ in range(1000))
    assert 0.02 <= wrong / 1000 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)


# --- several tests, and paired shares ------------------------------------------------------------------------------


def test_holm_of_three():  # by hand: .01 x 3, .03 x 2, then no less than that
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06], abs=1e-9)


def test_holm_never_passes_1_and_counts_only_tests_that_were_made():
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([None, 0.02, None]) == [None, 0.02, None]
    assert holm([]) == []


def test_mcnemar_by_hand():
    """Eight patients differ, one against seven: 2 (1 + 8) / 256."""
    assert mcnemar(1, 7) == mcnemar(7, 1) == pytest.approx(18 / 256)
    assert mcnemar(1, 7) == binomtest(1, 8).pvalue
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1


# --- bootstrap -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [4, 9, 54])
def test_bootstrap_p_is_that_of_student_where_replicates_are_normal(freedom):
    """Normal replicates around 1 with SD .5 and expanded percentiles are a t test of t = 2."""
    replicates = 1 + 0.5 * norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    found = Replicates(values=replicates, redrawn=0, freedom=freedom).p_value()
    assert found == pytest.approx(2 * t.sf(2, freedom), rel=0.01)


def test_bootstrap_p_and_interval_agree():
    for shift in np.linspace(0, 3, 200):
        replicates = np.random.default_rng(1).normal(shift, size=2000)
        drawn = Replicates(values=replicates, redrawn=0, freedom=20)
        p, interval = drawn.p_value(), drawn.interval()
        if abs(p - 0.05) > 0.005:
            assert (interval.low > 0) == (p < 0.05)


def test_bootstrap_p_is_never_0_and_1_where_nothing_differs():
    far = Replicates(values=np.ones(999), redrawn=0, freedom=50)
    assert far.p_value() == pytest.approx(2 * t.cdf(norm.ppf(1 / 1000), 50))
    assert Replicates(values=np.zeros(999), redrawn=0, freedom=50).p_value() == 1
