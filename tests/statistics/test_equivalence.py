import numpy as np
import pytest
from scipy.stats import norm, t
from statsmodels.stats.weightstats import ttost_paired

from ramw_fed.errors import RamwFedError
from ramw_fed.statistics.equivalence import Verdict, equivalence_of_means, equivalence_of_replicates
from ramw_fed.statistics.intervals import Replicates

RNG = np.random.default_rng(4)
FIRST, SECOND = RNG.normal(0.90, 0.05, 40), RNG.normal(0.90, 0.05, 40)


def test_one_center_is_the_paired_test_of_statsmodels():
    p, (t_low, p_low, _), (t_high, p_high, _) = ttost_paired(FIRST, SECOND, -0.02, 0.02)
    found = equivalence_of_means(FIRST - SECOND, ["A"] * 40, margin=0.02)
    assert found.p_equivalent == pytest.approx(p, abs=1e-12)
    assert found.p_not_worse == pytest.approx(p_low, abs=1e-12)
    smaller = equivalence_of_means(FIRST - SECOND, ["A"] * 40, margin=0.02, larger_is_better=False)
    assert smaller.p_not_worse == pytest.approx(p_high, abs=1e-12)
    assert t_low > 0 > t_high


def test_two_centers_by_hand():
    """Differences 1, 3 and 10, 12, 14: variances 2 and 4, error sqrt(2 x 2 + 3 x 4) / 5 = .8, freedom 3, mean 8."""
    found = equivalence_of_means(np.array([1.0, 3, 10, 12, 14]), ["A", "A", "B", "B", "B"], margin=1.0)
    reach = t.ppf(0.95, 3) * 0.8
    assert (found.interval.low, found.interval.high) == pytest.approx((8 - reach, 8 + reach), abs=1e-12)
    assert found.p_not_worse == pytest.approx(t.sf(9 / 0.8, 3), abs=1e-12)


def test_centers_of_one_patient_count_as_one_center():
    together = equivalence_of_means(np.array([1.0, 3, 5]), ["A", "A", "A"], margin=1.0)
    assert equivalence_of_means(np.array([1.0, 3, 5]), ["A", "B", "C"], margin=1.0) == together


def test_one_patient_says_nothing():
    assert equivalence_of_means(np.array([0.0]), ["A"], margin=1.0) is None


@pytest.mark.parametrize(
    ("mean", "larger_is_better", "verdict"),
    [
        (0.0, True, Verdict.EQUIVALENT),
        (0.0, False, Verdict.EQUIVALENT),
        (1.0, True, Verdict.NOT_WORSE),
        (1.0, False, Verdict.INCONCLUSIVE),
        (-1.0, True, Verdict.INCONCLUSIVE),
        (-1.0, False, Verdict.NOT_WORSE),
        (-3.0, True, Verdict.WORSE),
        (3.0, False, Verdict.WORSE),
        (3.0, True, Verdict.NOT_WORSE),
        (-0.5, True, Verdict.EQUIVALENT),
    ],
)
def test_verdicts(mean, larger_is_better, verdict):
    """Thirty differences of SD 1 reach .31 to either side; the margin is 1."""
    values = norm.ppf((np.arange(30) + 0.5) / 30)
    found = equivalence_of_means(values + mean, ["A"] * 30, margin=1.0, larger_is_better=larger_is_better)
    assert found.verdict == verdict
    assert found.as_dict()["verdict"] == str(verdict)


def test_a_verdict_agrees_with_its_p_value():
    for margin in np.linspace(0.001, 0.05, 50):
        found = equivalence_of_means(FIRST - SECOND, ["A"] * 20 + ["B"] * 20, margin=margin)
        assert (found.p_equivalent < 0.05) == (found.verdict == Verdict.EQUIVALENT)
        assert (found.p_not_worse < 0.05) == (found.verdict in {Verdict.EQUIVALENT, Verdict.NOT_WORSE})


def test_replicates_that_follow_t_give_what_means_give():
    """Replicates at the normal's quantiles, taken further out for 39 degrees of freedom, are Student's interval."""
    difference = FIRST - SECOND
    error = difference.std(ddof=1) / np.sqrt(40)
    values = difference.mean() + error * norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    means = equivalence_of_means(difference, ["A"] * 40, margin=0.02)
    found = equivalence_of_replicates(Replicates(values=values, redrawn=0, freedom=39), margin=0.02)
    assert found.interval.low == pytest.approx(means.interval.low, abs=1e-5)
    assert found.interval.high == pytest.approx(means.interval.high, abs=1e-5)
    assert found.p_equivalent == pytest.approx(means.p_equivalent, rel=0.02)
    assert found.p_not_worse == pytest.approx(means.p_not_worse, rel=0.02)
    assert found.verdict == means.verdict
    down = equivalence_of_replicates(
        Replicates(values=-values, redrawn=0, freedom=39), margin=0.02, larger_is_better=False
    )
    assert down.p_not_worse == found.p_not_worse


def test_differences_all_alike_are_certain():
    found = equivalence_of_means(np.zeros(10), ["A"] * 10, margin=0.01)
    assert (found.p_equivalent, found.verdict) == (0.0, Verdict.EQUIVALENT)
    assert equivalence_of_means(np.full(10, -0.5), ["A"] * 10, margin=0.01).verdict == Verdict.WORSE


def test_a_margin_of_nothing_is_refused():
    with pytest.raises(RamwFedError, match="declare how much worse"):
        equivalence_of_means(FIRST - SECOND, ["A"] * 40, margin=0.0)
