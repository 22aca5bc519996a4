import numpy as np
import pytest
from scipy.stats import t

from ramw_fed.statistics.intervals import (
    Interval,
    bootstrap_intervals,
    degrees_of_freedom,
    interval_of_mean,
    patient_weights,
    weighted_sums,
)

SIX = [(center, f"{number:02d}") for center in "ABCDEF" for number in range(10)]


def mean_statistic(values):
    columns = np.column_stack([values, np.ones(len(values))])

    def statistic(weights):
        total, count = weighted_sums(weights, columns).T
        return (total / count)[:, None]

    return statistic


def interval_of(values, patients, **options):
    everyone = np.ones((len(values), 1), bool)
    return bootstrap_intervals(mean_statistic(values), patients, everyone, **{"seed": 0} | options)[0]


def test_weights_of_each_center_sum_to_its_patients():
    patients = [("A", "1"), ("A", "2"), ("A", "3"), ("B", "1"), ("B", "2"), ("C", "1")]
    weights = patient_weights(patients, seed=0, resamples=500)
    np.testing.assert_allclose(weights[:, :3].sum(axis=1), 3)
    np.testing.assert_allclose(weights[:, 3:5].sum(axis=1), 2)
    assert set(np.unique(weights[:, :3])) == {0.0, 1.5, 3.0}  # two draws of three, each worth 3 / 2
    assert set(np.unique(weights[:, 3:5])) == {0.0, 2.0}
    np.testing.assert_array_equal(weights[:, 5], 1)


def test_spread_of_a_mean_is_its_unbiased_standard_error():
    # by hand: the mean of 1..10 has standard error sqrt(55/6 / 10); the plain bootstrap would give sqrt(9/10) of it
    values = np.arange(1.0, 11.0)
    weights = patient_weights(SIX[:10], seed=1, resamples=40_000)
    assert (weights @ values / 10).std() == pytest.approx(np.sqrt(55 / 60), rel=0.015)


def test_interval_of_a_mean_comes_near_students():
    rng = np.random.default_rng(3)
    values = rng.normal(size=10)
    found = interval_of(values, SIX[:10], resamples=20_000)
    low, high = t.interval(0.95, 9, values.mean(), values.std(ddof=1) / np.sqrt(10))
    assert (found.low, found.high) == (pytest.approx(low, abs=0.12), pytest.approx(high, abs=0.12))


def test_order_of_patients_and_other_centers_change_no_weight():
    weights = patient_weights(SIX, seed=5, resamples=50)
    order = np.random.default_rng(0).permutation(len(SIX))
    np.testing.assert_array_equal(weights[:, order], patient_weights([SIX[i] for i in order], seed=5, resamples=50))
    np.testing.assert_array_equal(weights[:, 20:30], patient_weights(SIX[20:30], seed=5, resamples=50))


def test_another_seed_block_or_center_gives_other_weights():
    first = patient_weights(SIX[:10], seed=0, resamples=50)
    assert not np.array_equal(first, patient_weights(SIX[:10], seed=1, resamples=50))
    assert not np.array_equal(first, patient_weights(SIX[:10], seed=0, resamples=50, block=1))
    assert not np.array_equal(first, patient_weights(SIX[10:20], seed=0, resamples=50))


def test_one_patient_with_one_image_each_is_the_ordinary_bootstrap_with_the_same_draws():
    values = np.random.default_rng(4).normal(size=10)
    weights = patient_weights(SIX[:10], seed=2, resamples=300)
    draws = [np.repeat(np.arange(10), np.rint(weight * 9 / 10).astype(int)) for weight in weights]
    ordinary = [values[drawn].mean() for drawn in draws]
    np.testing.assert_allclose(weights @ values / 10, ordinary, atol=1e-12)


@pytest.mark.parametrize(("patients", "has_interval"), [(1, False), (4, False), (5, True)])
def test_no_interval_below_five_patients(patients, has_interval):
    assert (interval_of(np.arange(patients) / 7, SIX[:patients]) is not None) == has_interval
    assert bootstrap_intervals(mean_statistic(np.empty(0)), [], np.empty((0, 1), bool), seed=0) == [None]


def test_patients_without_a_part_do_not_count_towards_five():
    contributes = np.arange(10)[:, None] < np.array([4, 5])
    values = np.random.default_rng(0).random((10, 2))
    intervals = bootstrap_intervals(lambda weights: weights @ values, SIX[:10], contributes, seed=0)
    assert intervals[0] is None
    assert intervals[1] is not None


def test_resamples_without_a_value_are_drawn_again_and_counted():
    values = np.array([1.0, 0, 0, 0, 0, 0, 0, 0, 0, 1])

    def statistic(weights):
        total = weighted_sums(weights, values[:, None])
        return np.where(total > 0, total, np.nan)

    everyone = np.ones((10, 1), bool)
    found = bootstrap_intervals(statistic, SIX[:10], everyone, seed=0, resamples=2000)[0]
    # neither of two patients in nine draws of ten: .8 ** 9 = .134 of all draws, so .134 / .866 of 2000 are redrawn
    assert found.redrawn == pytest.approx(2000 * 0.134 / 0.866, rel=0.15)
    assert found.low > 0


def test_no_more_resamples_are_drawn_again_than_are_needed():
    blocks = []

    def statistic(weights):  # the first block lacks one value in a hundred, the second is far away
        blocks.append(len(weights))
        values = np.full((len(weights), 1), 1000.0) if len(blocks) > 1 else np.linspace(0, 1, len(weights))[:, None]
        if len(blocks) == 1:
            values[::100] = np.nan
        return values

    found = bootstrap_intervals(statistic, SIX, np.ones((60, 1), bool), seed=0, resamples=2000)[0]
    assert blocks == [2000, 2000]
    assert found.redrawn == 20
    assert found.high < 1


def test_a_value_that_most_resamples_lack_has_no_interval():
    rare = np.eye(10)[0]
    statistic = lambda weights: np.where(weights[:, :1] > 2, 1.0, np.nan)  # noqa: E731
    assert bootstrap_intervals(statistic, SIX[:10], np.ones((10, 1), bool), seed=0) == [None]
    assert interval_of(rare, SIX[:10]) is not None


def test_same_seed_gives_the_same_interval_and_another_does_not():
    values = np.random.default_rng(6).random(60)
    assert interval_of(values, SIX, seed=3) == interval_of(values, SIX, seed=3)
    assert interval_of(values, SIX, seed=3) != interval_of(values, SIX, seed=4)


def test_degrees_of_freedom_are_patients_less_one_a_center():
    assert degrees_of_freedom(["A"] * 10 + ["B"] * 5 + ["C"]) == 9 + 4
    assert degrees_of_freedom(["A", "B"]) == 1


def test_interval_of_a_mean_of_centers_adds_squares():
    # two centers of 1000 patients: limits .03 and .04 away give .05 / 2 for the mean, both ways apart
    first = (0.8, Interval(low=0.77, high=0.84), 1000)
    second = (0.6, Interval(low=0.56, high=0.63), 1000)
    found = interval_of_mean([first, second])
    assert (found.low, found.high) == (pytest.approx(0.675, abs=1e-4), pytest.approx(0.725, abs=1e-4))


def test_interval_of_a_mean_of_small_centers_knows_their_degrees_of_freedom():
    # two centers of ten: each reaches t(9) = 2.2622 standard errors, together t(18) = 2.1009
    first = (0.8, Interval(low=0.77, high=0.84), 10)
    second = (0.6, Interval(low=0.56, high=0.63), 10)
    found = interval_of_mean([first, second])
    assert found.high - 0.7 == pytest.approx(0.025 * 2.1009 / 2.2622, abs=1e-6)
    assert 0.7 - found.low == pytest.approx(0.025 * 2.1009 / 2.2622, abs=1e-6)


def test_interval_of_one_center_is_its_own():
    only = Interval(low=0.7, high=0.85, redrawn=3)
    found = interval_of_mean([(0.8, only, 12)])
    assert (found.low, found.high, found.redrawn) == (pytest.approx(0.7), pytest.approx(0.85), 3)


def test_centers_of_one_patient_each_are_drawn_together_and_do_not_feign_certainty() -> None:
    patients = [(center, "p") for center in "abcdef"] + [("big", name) for name in "uvwx"]
    weights = patient_weights(patients, seed=3, resamples=500)
    assert weights[:, :6].std() > 0
    np.testing.assert_allclose(weights[:, :6].sum(axis=1), 6)
    np.testing.assert_allclose(weights[:, 6:].sum(axis=1), 4)
    lonely = patient_weights([("a", "p"), ("big", "u"), ("big", "v")], seed=3, resamples=50)
    np.testing.assert_array_equal(lonely[:, 0], 1)


def test_degrees_of_freedom_are_patients_less_one_a_stratum() -> None:
    assert degrees_of_freedom(["a"] * 10 + ["b"] * 5) == 13
    assert degrees_of_freedom(["a", "b", "c", "d", "e", "f"]) == 5  # six centers of one patient: one stratum of six
    assert degrees_of_freedom(["a"]) == 1
