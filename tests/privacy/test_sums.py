"""Noisy sums over patients: what one patient can change, how large the noise is, and that they are made once."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ramw_fed.errors import PrivacyError
from ramw_fed.privacy.randomness import secure, seeded
from ramw_fed.privacy.sums import PatientSums, bounded


def release(rows: NDArray[np.float64], noise: float, *key: str | int) -> NDArray[np.float64]:
    return PatientSums(len(rows), noise_multiplier=noise, randomness=seeded(*key)).release(rows)


def test_rows_are_cut_to_length_one_and_shorter_ones_stay_as_they_are() -> None:
    rows = np.array([[3.0, 4.0], [0.3, -0.4], [0.0, 0.0], [1.0, 0.0]])
    assert bounded(rows) == pytest.approx(np.array([[0.6, 0.8], [0.3, -0.4], [0.0, 0.0], [1.0, 0.0]]), abs=0)


def test_a_row_that_is_not_finite_adds_nothing_and_spoils_no_other() -> None:
    rows = np.array([[np.nan, 0.1], [np.inf, 0.0], [0.0, -np.inf], [0.5, 0.5]])
    assert bounded(rows).tolist() == [[0, 0], [0, 0], [0, 0], [0.5, 0.5]]


def test_no_patient_moves_the_sums_by_more_than_one() -> None:
    """Any row, also of numbers whose squares overflow, against none; the noise is the same in both."""
    rng = np.random.default_rng(1)
    for number in range(300):
        rows = rng.normal(size=(5, 4)) * 10.0 ** rng.integers(-300, 308, (5, 1))
        rows[rng.random(rows.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf, 1.79e308])
        without = rows.copy()
        without[2] = 0.0
        moved = release(rows, 2.0, number) - release(without, 2.0, number)
        assert np.linalg.norm(moved) <= 1 + 1e-12


def test_two_patients_at_huge_opposite_ends_cancel_as_two_of_length_one_do() -> None:
    rows = np.array([[1e300, 0.0], [-1e12, 0.0], [0.25, 0.5]])
    assert release(rows, 1.0, "a") - release(rows[2:], 1.0, "a") == pytest.approx([0.0, 0.0], abs=1e-12)


def test_noise_has_the_deviation_that_is_accounted_for_in_each_sum_independently() -> None:
    rows = np.array([[0.5, 0.5, 0.1], [0.0, 0.0, 0.0]])
    found = np.stack([release(rows, 3.0, "noise", number) for number in range(2000)])
    # Sums of squares of normal numbers: scipy's chi-square interval, which a right variance misses once in 10^6.
    for column, mean in zip(found.T, rows.sum(axis=0), strict=True):
        squares = ((column - mean) / 3.0) ** 2
        assert stats.chi2.interval(1 - 1e-6, len(squares))[0] < squares.sum()
        assert squares.sum() < stats.chi2.interval(1 - 1e-6, len(squares))[1]
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 5 / np.sqrt(2000)


def test_noise_in_use_is_never_the_same_twice() -> None:
    one, other = (PatientSums(1, noise_multiplier=1.0, randomness=secure()).release(np.zeros((1, 3))) for _ in "ab")
    assert not (one == other).any()


def test_what_was_paid_for_once_is_released_once() -> None:
    sums = PatientSums(1, noise_multiplier=1.0, randomness=seeded(1))
    sums.release(np.zeros((1, 2)))
    with pytest.raises(PrivacyError, match="released before"):
        sums.release(np.zeros((1, 2)))


@pytest.mark.parametrize("rows", [np.zeros((3, 2)), np.zeros((1, 2)), np.zeros(2), np.zeros((0, 2))])
def test_other_than_one_row_a_patient_is_refused(rows: NDArray[np.float64]) -> None:
    """An image's row in place of a patient's would be bounded by image."""
    with pytest.raises(PrivacyError, match="2 patients are validated"):
        PatientSums(2, noise_multiplier=1.0, randomness=seeded(1)).release(rows)
