import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from ramw_fed.statistics.bland_altman import LIMITS, limits_of_agreement, limits_statistic

# Peak expiratory flow, l/min, by a large and a mini Wright meter, first measurements: Bland and Altman 1986, table 1.
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]

# Ejection of twelve patients by radionuclide ventriculography and impedance cardiography, three to six pairs each:
# Bland and Altman 1999, table 4.
EJECTION = """
1,7.83,6.57 1,7.42,5.62 1,7.89,6.9 1,7.12,6.57 1,7.88,6.35 2,6.16,4.06 2,7.26,4.29 2,6.71,4.26
2,6.54,4.09 3,4.75,4.71 3,5.24,5.5 3,4.86,5.08 3,4.78,5.02 3,6.05,6.01 3,5.42,5.67 4,4.21,4.14
4,3.61,4.2 4,3.72,4.61 4,3.87,4.68 4,3.92,5.04 5,3.13,3.03 5,2.98,2.86 5,2.85,2.77 5,3.17,2.46
5,3.09,2.32 5,3.12,2.43 6,5.92,5.9 6,6.42,5.81 6,5.92,5.7 6,6.27,5.76 7,7.13,5.09 7,6.62,4.63
7,6.58,4.61 7,6.93,5.09 8,4.54,4.72 8,4.81,4.61 8,5.11,4.36 8,5.29,4.2 8,5.39,4.36 8,5.57,4.2
9,4.48,3.17 9,4.92,3.12 9,3.97,2.96 10,4.22,4.35 10,4.65,4.62 10,4.74,3.16 10,4.44,3.53
10,4.5,3.53 11,6.78,7.2 11,6.07,6.09 11,6.52,7.0 11,6.42,7.1 11,6.41,7.4 11,5.76,6.8 12,5.06,4.5
12,4.72,4.2 12,4.9,3.8 12,4.8,3.8 12,4.9,4.2 12,5.1,4.5
"""


def ejection() -> tuple[np.ndarray, np.ndarray]:
    rows = np.array([[float(cell) for cell in row.split(",")] for row in EJECTION.split()])
    return rows[:, 1] - rows[:, 2], rows[:, 0].astype(np.int64) - 1


def test_peak_flow_has_the_published_bias_and_limits() -> None:
    differences = np.subtract(LARGE, MINI).astype(float)
    found = limits_of_agreement(differences, np.arange(17))
    deviation = (found["loa_high"] - found["bias"]) / 1.96
    assert found["bias"] == pytest.approx(-2.1, abs=0.05)
    assert deviation == pytest.approx(38.8, abs=0.05)
    # 1986 takes two standard deviations; printed from the rounded figures.
    assert found["bias"] - 2 * deviation == pytest.approx(-79.7, abs=0.1)
    assert found["bias"] + 2 * deviation == pytest.approx(75.5, abs=0.1)
    assert found["mae"] == pytest.approx(492 / 17)  # by hand


def test_several_differences_a_patient_have_the_variance_components_of_an_analysis_of_variance() -> None:
    differences, units = ejection()
    found = limits_of_agreement(differences, units)
    table = anova_lm(ols("d ~ C(p)", pd.DataFrame({"d": differences, "p": units})).fit())
    between, within = table["mean_sq"]
    counts = np.bincount(units)
    typical = (60 - (counts**2).sum() / 60) / 11
    deviation = np.sqrt((between - within) / typical + within)
    assert (found["loa_high"] - found["loa_low"]) / 2 == pytest.approx(1.96 * deviation, rel=1e-9)
    assert deviation > 1.02 * differences.std(ddof=1)  # as if independent: too narrow
    means = [differences[units == unit].mean() for unit in range(12)]
    assert found["bias"] == pytest.approx(np.mean(means))


def test_patients_alike_leave_the_variance_within_them() -> None:
    # Means are equal: the component between patients would be negative and counts as none. Within: (1 + 1) / 1 each.
    found = limits_of_agreement(np.array([-1.0, 1.0, -1.0, 1.0]), np.array([0, 0, 1, 1]))
    assert found["loa_high"] == pytest.approx(1.96 * np.sqrt(2))
    assert found["bias"] == 0
    assert found["mae"] == 1


def test_one_patient_has_a_bias_and_no_limits_and_none_has_nothing() -> None:
    one = limits_of_agreement(np.array([1.0, 3.0, np.nan]), np.array([0, 0, 1]))
    assert one["bias"] == 2
    assert one["mae"] == 2
    assert np.isnan(one["loa_low"])
    assert np.isnan(list(limits_of_agreement(np.array([np.nan]), np.array([0])).values())).all()
    assert np.isnan(list(limits_of_agreement(np.empty(0), np.empty(0, np.int64)).values())).all()


def test_a_weight_of_two_is_the_patient_twice() -> None:
    differences, units = ejection()
    kept = units < 3
    pair = np.stack([differences[kept], -differences[kept]], axis=1)
    weighted = limits_statistic(pair, units[kept], 3)(np.array([[2.0, 0.0, 1.0]]))
    first = differences[units == 0]
    twice = np.concatenate([first, first, differences[units == 2]])
    by_hand = limits_of_agreement(twice, np.repeat([0, 1, 2], [len(first), len(first), 6]))
    np.testing.assert_allclose(weighted[0, 0], [by_hand[name] for name in LIMITS])
    # the other way round: the sign of the bias, and the limits changed over
    np.testing.assert_allclose(weighted[0, 1], weighted[0, 0, [0, 2, 1, 3]] * [-1, -1, -1, 1])


def test_limits_hold_ninety_five_percent_of_new_differences() -> None:
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(400), rng.integers(1, 5, 400))
    between, within = rng.normal(0, 1.0, 400), rng.normal(0, 0.5, len(units))
    found = limits_of_agreement(0.3 + between[units] + within, units)
    new = 0.3 + rng.normal(0, 1.0, 20000) + rng.normal(0, 0.5, 20000)
    assert np.mean((new > found["loa_low"]) & (new < found["loa_high"])) == pytest.approx(0.95, abs=0.015)
