"""Bounds on an attacker, worked by hand; and against the best test there is for a Gaussian (Neyman and Pearson)."""

import math

import pytest
from scipy.stats import norm

from ramw_fed.privacy.event import Event
from ramw_fed.privacy.guarantee import Guarantee, guarantee, in_percent


def test_without_any_loss_an_attacker_guesses_blindly() -> None:
    blind = Guarantee(0.0, 0.0)
    assert [blind.largest_sensitivity(share) for share in (0.0, 0.01, 1.0)] == pytest.approx([0, 0.01, 1])
    assert (blind.largest_accuracy, blind.largest_advantage, blind.largest_posterior(0.3)) == pytest.approx(
        (0.5, 0, 0.3)
    )


def test_bounds_of_a_factor_of_three_by_hand() -> None:
    three = Guarantee(math.log(3), 0.0)
    assert three.largest_sensitivity(0.01) == pytest.approx(0.03)  # 3 * .01
    assert three.largest_sensitivity(0.5) == pytest.approx(5 / 6)  # 1 - (1 - .5) / 3, less than 3 * .5
    assert three.largest_accuracy == pytest.approx(0.75)  # 3 / 4
    assert three.largest_advantage == pytest.approx(0.5)
    assert three.largest_posterior() == pytest.approx(0.75)  # odds 1 to 3
    assert three.largest_posterior(0.25) == pytest.approx(0.5)  # odds 1/3 to 1


def test_delta_by_hand() -> None:
    leaky = Guarantee(math.log(3), 0.1)
    assert leaky.largest_sensitivity(0.01) == pytest.approx(0.13)  # 3 * .01 + .1
    assert leaky.largest_sensitivity(0.5) == pytest.approx(1 - 0.4 / 3)  # 1 - (1 - .1 - .5) / 3
    assert leaky.largest_accuracy == pytest.approx(0.775)  # (3 + .1) / 4
    # where both lines meet, sensitivity less false positives is the advantage: false positives (1 - .1) / (1 + 3)
    assert leaky.largest_sensitivity(0.225) - 0.225 == pytest.approx(leaky.largest_advantage)


def test_a_huge_epsilon_bounds_nothing() -> None:
    nothing = Guarantee(5000.0, 0.0)
    assert nothing.largest_sensitivity(0.01) == nothing.largest_accuracy == nothing.largest_posterior() == 1
    assert in_percent(nothing.largest_accuracy) == "100.00 %"


def test_the_curve_bounds_the_best_test_of_a_gaussian_closely() -> None:
    found = guarantee([Event(sampling_rate=1.0, noise_multiplier=1.0, steps=1)], 1e-5)
    assert found.epsilon == pytest.approx(4.37718, abs=1e-3)
    best = norm.cdf(norm.ppf(0.01) + 1)  # .0924, likelihood ratio of N(0, 1) and N(1, 1)
    assert best < found.largest_sensitivity(0.01) < 1.02 * best
    assert found.largest_accuracy == pytest.approx(norm.cdf(0.5), abs=1e-4)  # .6915
    assert Guarantee(found.epsilon, 1e-5).largest_sensitivity(0.01) > 0.79  # the one pair alone says much less


def test_nothing_released_tells_nothing() -> None:
    assert guarantee([], 1e-3).largest_accuracy == 0.5


def test_a_bound_in_words_is_rounded_up() -> None:
    assert [in_percent(share) for share in (0.5, 0.5001, 0.95263, 0.99966, 0.999999)] == [
        "50.0 %",
        "50.1 %",
        "95.3 %",
        "99.97 %",
        "100.00 %",
    ]


def test_the_words_hold_the_numbers() -> None:
    said = " ".join(Guarantee(math.log(3), 0.01).sentences())
    assert "3 times as likely" in said
    assert "at most 75.3 % of cases" in said  # 3.01 / 4, rounded up
    assert "at most 4.0 % of those" in said  # 3 * .01 + .01
    assert "can become at most 85.8 %" in said  # odds of 2 * 3 to 1, rounded up
    assert "probability of at most 0.02" in said
