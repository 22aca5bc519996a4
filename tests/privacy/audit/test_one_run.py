"""The bound from one training: against the paper's numbers, hand calculation, and mechanisms of known epsilon."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from ramw_fed.errors import PrivacyError
from ramw_fed.privacy.accounting import claimed_epsilon
from ramw_fed.privacy.audit.one_run import (
    audited,
    canaries_needed,
    epsilon_lower_bound,
    guess_counts,
    largest_provable,
    p_value,
)
from ramw_fed.privacy.event import Event


@pytest.mark.parametrize(
    ("canaries", "guesses", "right", "delta", "printed"),
    [
        (1000, 100, 75, 1e-4, 0.673),  # arXiv 2305.08846v1, appendix D, p. 46
        (100_000, 1510, 1439, 1e-5, 2.675),  # section 7, p. 28
    ],
)
def test_the_bound_is_that_of_the_paper(canaries: int, guesses: int, right: int, delta: float, printed: float) -> None:
    assert epsilon_lower_bound(canaries, guesses, right, delta, 0.05) == pytest.approx(printed, abs=1e-3)


def test_all_right_is_worked_by_hand() -> None:
    # q^500 = .05, so q = .05^(1/500) = .994026 and epsilon = log(q / (1 - q)) = 5.1144.
    share = 0.05 ** (1 / 500)
    assert epsilon_lower_bound(500, 500, 500, 0.0, 0.05) == pytest.approx(math.log(share / (1 - share)), abs=1e-6)
    assert epsilon_lower_bound(500, 500, 500, 0.0, 0.05) == pytest.approx(5.1144, abs=1e-4)


def test_the_p_value_of_three_coins_is_worked_by_hand() -> None:
    # epsilon log 3: q = 3/4. P[W >= 3] = 27/64. P[3 > W >= 3-i] / i is 27/64, 36/128, 37/192: the first is largest.
    assert p_value(3, 3, 3, math.log(3), 0.0) == pytest.approx(27 / 64)
    assert p_value(3, 3, 3, math.log(3), 0.01) == pytest.approx(27 / 64 + 2 * 3 * 0.01 * 27 / 64)


def test_guesses_no_better_than_coins_prove_nothing() -> None:
    assert epsilon_lower_bound(500, 400, 200, 1e-6, 0.05) == 0.0
    assert epsilon_lower_bound(500, 400, 150, 1e-6, 0.05) == 0.0
    assert epsilon_lower_bound(500, 0, 0, 1e-6, 0.05) == 0.0


def test_a_larger_delta_proves_less() -> None:
    bounds = [epsilon_lower_bound(1000, 800, 780, delta, 0.05) for delta in (0.0, 1e-6, 1e-4, 1e-3)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_randomized_response_is_the_worst_case_and_covered(epsilon: float) -> None:
    # Each coin is told truly with probability e^eps / (1 + e^eps): the number of right guesses is binomial, so that
    # the chance of a bound above epsilon can be summed exactly; it must be at most 5 %, and not be far below.
    share = math.exp(epsilon) / (1 + math.exp(epsilon))
    wrong = sum(
        float(binom.pmf(right, 500, share))
        for right in range(501)
        if epsilon_lower_bound(500, 500, right, 0.0, 0.05) > epsilon
    )
    assert 0.02 < wrong <= 0.05


def test_enough_coins_fall_either_way() -> None:
    for canaries in (500, 1000, 12_863):
        most = guess_counts(canaries)[0]
        assert binom.cdf(most - 1, canaries, 0.5) < 5e-5


def test_the_largest_bound_is_that_of_guesses_which_are_all_right() -> None:
    is_in = np.arange(1000) % 2 == 0
    found = audited(is_in.astype(np.float64), is_in, 1e-6)
    assert found.epsilon == found.most == pytest.approx(largest_provable(1000, 1e-6))
    assert found.right == found.guesses == 2 * guess_counts(1000)[0]


def test_the_error_is_shared_among_the_tries() -> None:
    # Two tries: all right at .05 / 2 each.
    guesses = 2 * guess_counts(1000)[0]
    assert largest_provable(1000, 0.0) == pytest.approx(epsilon_lower_bound(1000, guesses, guesses, 0.0, 0.025))


def test_as_many_canaries_are_taken_as_the_claim_needs() -> None:
    assert canaries_needed(3.0, 1e-6) == 1000
    needed = canaries_needed(8.0, 1e-6)
    assert largest_provable(needed, 1e-6) > 8.0 > largest_provable(needed // 2, 1e-6)
    with pytest.raises(PrivacyError, match="audit the same build at a smaller epsilon"):
        canaries_needed(30.0, 1e-6)


@pytest.mark.parametrize("noise", [0.7, 2.0])
def test_the_bound_covers_a_gaussian_mechanism_of_known_epsilon(noise: float) -> None:
    delta = 1e-6
    known = claimed_epsilon([Event(sampling_rate=1.0, noise_multiplier=noise, steps=1)], delta)
    generator = np.random.default_rng(3)
    bounds = []
    for _ in range(60):
        is_in = generator.random(500) < 0.5
        bounds.append(audited(is_in + generator.normal(0, noise, 500), is_in, delta).epsilon)
    assert np.mean(np.array(bounds) <= known) >= 0.95
    # And it is no empty promise: with noise taken away by nine tenths the same audit proves the claim wrong.
    broken = audited(is_in + generator.normal(0, noise / 10, 500), is_in, delta).epsilon
    assert broken > min(known, 4.6)
