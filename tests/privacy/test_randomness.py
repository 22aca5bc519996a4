"""Noise and samples: their laws by scipy, and that nobody gets the same ones twice."""

import copy
import os
import pickle

import numpy as np
import pytest
import torch
from scipy import stats

from ramw_fed.privacy.randomness import SEED_VARIABLE, Randomness, from_environment, secure, seeded

CPU = torch.device("cpu")
COUNT = 200_000


def numbers(randomness: Randomness, count: int = COUNT, std: float = 1.0) -> np.ndarray:
    return randomness.normal((count,), std, CPU).double().numpy()


def test_noise_is_normal() -> None:
    # Standard errors of the moments of n normal numbers: 1, sqrt 2, sqrt 6 and sqrt 24, each over sqrt n.
    found = numbers(seeded("moments"))
    error = COUNT**-0.5
    assert abs(found.mean()) < 4 * error
    assert abs(found.var() - 1) < 4 * 2**0.5 * error
    assert abs(stats.skew(found)) < 4 * 6**0.5 * error
    assert abs(stats.kurtosis(found)) < 4 * 24**0.5 * error
    assert stats.kstest(found, "norm").pvalue > 1e-3
    assert stats.norm.sf(4) * 2 * COUNT == pytest.approx((np.abs(found) > 4).sum(), abs=12)


def test_noise_of_the_operating_system_is_normal_too() -> None:
    assert stats.kstest(numbers(secure()), "norm").pvalue > 1e-6


def test_numbers_do_not_follow_each_other() -> None:
    # Box and Muller make two numbers of two: neither neighbours nor these pairs, nor their squares, go together.
    found = numbers(seeded("pairs"), 1 << 16)
    for lag in (1, 2, 1 << 13, 1 << 14):
        for values in (found, found**2):
            assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 4.5 / len(found) ** 0.5


def test_the_standard_deviation_is_that_asked_for_and_the_shape_too() -> None:
    noise = seeded(1).normal((300, 333), 2.0, CPU)
    assert (noise.shape, noise.dtype) == ((300, 333), torch.float32)
    assert float(noise.double().var()) == pytest.approx(4, rel=0.03)
    assert seeded(1).normal((0,), 2.0, CPU).shape == (0,)
    assert torch.equal(seeded(1).normal((7,), 2.0, CPU), 2 * seeded(1).normal((7,), 1.0, CPU))


def test_coins_fall_as_often_as_they_should() -> None:
    for share in (0.03, 0.5, 0.97):
        fallen = int(seeded("coins", str(share)).bernoulli(COUNT, share).sum())
        assert stats.binomtest(fallen, COUNT, share).pvalue > 1e-3
    assert seeded(0).bernoulli(1000, 1.0).all()
    assert not seeded(0).bernoulli(1000, 0.0).any()
    coins = seeded(5).bernoulli(COUNT, 0.5)
    assert abs(np.corrcoef(coins[:-1], coins[1:])[0, 1]) < 4 / COUNT**0.5


def test_no_two_streams_are_alike_and_none_repeats_itself() -> None:
    one, other = secure(), secure()
    first = numbers(one, 1000)
    assert len(np.intersect1d(first, numbers(other, 1000))) < 5
    assert len(np.intersect1d(first, numbers(one, 1000))) < 5


def test_a_seeded_stream_comes_again_from_its_parts_in_their_order() -> None:
    assert np.array_equal(numbers(seeded(1, "a"), 10), numbers(seeded(1, "a"), 10))
    assert not np.array_equal(numbers(seeded(1, "a"), 10), numbers(seeded("a", 1), 10))
    assert not np.array_equal(numbers(seeded(12, 3), 10), numbers(seeded(1, 23), 10))


def test_a_stream_cannot_be_copied_or_sent() -> None:
    for make in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            make(secure())


def test_after_a_fork_parent_and_children_draw_different_numbers() -> None:
    stream = secure()
    stream.bernoulli(3, 0.5)  # begun, as an engine's worker may find it
    read, write = os.pipe()
    for _ in range(2):
        child = os.fork()
        if child == 0:
            os.write(write, np.packbits(stream.bernoulli(128, 0.5)).tobytes())
            os._exit(0)
        os.waitpid(child, 0)
    drawn = {os.read(read, 16), os.read(read, 16), np.packbits(stream.bernoulli(128, 0.5)).tobytes()}
    assert len(drawn) == 3


def test_only_the_variable_of_tests_makes_noise_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SEED_VARIABLE, raising=False)
    assert not from_environment("erosion", 1, "HU").is_seeded
    assert not np.array_equal(numbers(from_environment(1), 10), numbers(from_environment(1), 10))
    monkeypatch.setitem(os.environ, SEED_VARIABLE, "7")
    assert from_environment("erosion", 1, "HU").is_seeded
    assert np.array_equal(numbers(from_environment(1), 10), numbers(from_environment(1), 10))
    assert not np.array_equal(numbers(from_environment(1), 10), numbers(from_environment(2), 10))
    first = numbers(from_environment(1), 10)
    monkeypatch.setitem(os.environ, SEED_VARIABLE, "8")
    assert not np.array_equal(numbers(from_environment(1), 10), first)
