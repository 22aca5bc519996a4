import math

import numpy as np
import pytest
from scipy.stats import norm, studentized_range, t

from ramw_fed.errors import RamwFedError
from ramw_fed.statistics.fairness import CenterValue, fairness
from ramw_fed.statistics.intervals import Interval

MANY = 100_000  # patients of which Student's t is the normal


def center(value, low=None, high=None, patients=MANY):
    return CenterValue(value=value, interval=None if low is None else Interval(low=low, high=high), patients=patients)


def even(value, error, patients=MANY):
    reach = error * t.ppf(0.975, patients - 1)
    return center(value, value - reach, value + reach, patients)


def test_worst_gap_and_deviation_by_hand():
    """Values .9, .8, .7: mean .8, deviation sqrt((.01 + 0 + .01) / 2) = .1."""
    found = fairness({"C": center(0.7), "A": center(0.9), "B": center(0.8)}, {}, margin=0.0)
    assert (found.worst_center, found.worst, found.left_out) == ("C", 0.7, 0)
    assert found.gap == pytest.approx(0.2)
    assert found.deviation == pytest.approx(0.1)
    assert (found.worst_interval, found.gap_interval) == (None, None)


def test_of_distances_the_longest_is_the_worst():
    found = fairness({"A": even(2.0, 0.1), "B": even(5.0, 0.1)}, {}, margin=0.0, larger_is_better=False)
    assert (found.worst_center, found.worst, found.gap) == ("B", 5.0, 3.0)
    mirrored = fairness({"A": even(-2.0, 0.1), "B": even(-5.0, 0.1)}, {}, margin=0.0)
    assert found.gap_interval == mirrored.gap_interval
    assert (found.worst_interval.low, found.worst_interval.high) == pytest.approx(
        (-mirrored.worst_interval.high, -mirrored.worst_interval.low)
    )


def test_interval_of_the_worst_by_hand():
    """Two centers, errors .01: low from the lower at 1.96; high where both lie below together, 1 - sqrt(.975) each."""
    found = fairness({"A": even(0.8, 0.01), "B": even(0.79, 0.01)}, {}, margin=0.0).worst_interval
    assert found.low == pytest.approx(0.79 - 0.0196, abs=1e-5)
    assert found.high == pytest.approx(0.79 + 0.01 * norm.ppf(math.sqrt(0.975)), abs=1e-5)


def test_interval_of_the_gap_by_hand():
    """Two centers, errors .03 and .04: the difference's is .05; low, either may be the better: 1.25 % each."""
    found = fairness({"A": even(0.9, 0.03), "B": even(0.7, 0.04)}, {}, margin=0.0).gap_interval
    assert (found.low, found.high) == pytest.approx((0.2 - 0.05 * norm.isf(0.0125), 0.298), abs=1e-4)


def test_pairs_of_six_small_centers_take_tukeys_range():
    values = {name: even(0.8 + 0.02 * k, 0.01, patients=10) for k, name in enumerate("ABCDEF")}
    found = fairness(values, {}, margin=0.0).gap_interval
    error = math.sqrt(2) * 0.01
    assert found.high == pytest.approx(0.1 + t.ppf(0.975, 18) * error, abs=1e-9)
    assert found.low == pytest.approx(0.1 - studentized_range.ppf(0.975, 6, 18) / math.sqrt(2) * error, abs=1e-9)


def test_like_centers_may_have_no_gap():
    found = fairness({"A": even(0.8, 0.01), "B": even(0.8, 0.01)}, {}, margin=0.0)
    assert found.gap_interval.low == 0 < found.gap_interval.high


def test_harmed_is_worse_than_alone_by_more_than_the_margin():
    less_local = {
        "A": center(-0.021, -0.03, -0.005),
        "B": center(-0.019, -0.03, -0.005),
        "C": center(-0.05, -0.08, -0.021),
        "D": center(0.1, 0.05, 0.15),
        "E": center(None, patients=3),
    }
    found = fairness({"A": center(0.9)}, less_local, margin=0.02)
    assert (found.harmed, found.surely_harmed, found.compared) == (("A", "C"), ("C",), 4)
    turned = {name: center(part.value and -part.value) for name, part in less_local.items()}
    assert fairness({"A": center(0.9)}, turned, margin=0.02, larger_is_better=False).harmed == ("A", "C")


def test_centers_without_a_value_are_left_out_and_counted():
    found = fairness({"A": even(0.9, 0.01), "B": center(None, patients=2), "C": even(0.7, 0.01)}, {}, margin=0.0)
    assert (found.left_out, found.worst_center) == (1, "C")
    assert found.gap_interval is not None
    assert fairness({"B": center(None, patients=2)}, {}, margin=0.0) is None


def test_a_center_without_an_interval_leaves_none_for_all():
    found = fairness({"A": even(0.9, 0.01), "B": center(0.8, patients=3)}, {}, margin=0.0)
    assert (found.worst_interval, found.gap_interval, found.gap) == (None, None, pytest.approx(0.1))


def test_one_center_has_no_deviation_and_no_interval_of_a_gap():
    found = fairness({"A": even(0.9, 0.01)}, {}, margin=0.0)
    assert (found.gap, found.deviation, found.gap_interval) == (0, None, None)
    assert found.worst_interval == Interval(
        low=pytest.approx(0.9 - 0.0196, abs=1e-5), high=pytest.approx(0.9 + 0.0196, abs=1e-5)
    )


def test_a_negative_margin_is_refused():
    with pytest.raises(RamwFedError, match="worse than alone"):
        fairness({"A": center(0.9)}, {}, margin=-0.1)


def test_an_entry_is_read_and_written():
    read = CenterValue.of({"value": 0.8, "ci": [0.7, 0.9], "n": 12})
    assert read == center(0.8, 0.7, 0.9, patients=12)
    assert CenterValue.of({"value": None, "ci": None, "n": 1, "reason": "one class"}) == center(None, patients=1)
    entry = fairness({"A": read, "B": even(0.9, 0.02)}, {"A": center(-0.1)}, margin=0.05).as_dict()
    assert entry["worst_center"] == "A"
    assert entry["harmed"] == ["A"]
    assert len(entry["gap_ci"]) == len(entry["worst_ci"]) == 2


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.05])
def test_intervals_hold_for_like_and_unlike_centers(spread):
    """Six centers with errors of .01; of 400 studies, a coverage of 95 % has a standard error of 1.1 %."""
    rng = np.random.default_rng(5)
    truth = np.linspace(-spread, spread, 6)
    worst = gap = 0
    for values in truth + 0.01 * rng.standard_normal((400, 6)):
        found = fairness({str(k): even(value, 0.01) for k, value in enumerate(values)}, {}, margin=0.0)
        worst += found.worst_interval.low <= truth.min() <= found.worst_interval.high
        gap += found.gap_interval.low <= np.ptp(truth) <= found.gap_interval.high
    assert worst >= 0.93 * 400
    assert gap >= 0.93 * 400
