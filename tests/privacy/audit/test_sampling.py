"""Samples that are none: each way in which batches are made in practice must be told from independent coins."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ramw_fed.privacy.audit.mechanism import PLAIN, Blank, blank_loss, blank_network, train
from ramw_fed.privacy.audit.sampling import Watched, least, sampling_p_values

RATE, STEPS, PATIENTS, ROUND = 0.1, 120, 100, 40


def independent(generator: np.random.Generator) -> np.ndarray:
    return generator.random((STEPS, PATIENTS)) < RATE


def shuffled(generator: np.random.Generator) -> np.ndarray:
    drawn = np.zeros((STEPS, PATIENTS), np.bool_)
    for step in range(STEPS):
        if step % 10 == 0:
            order = generator.permutation(PATIENTS)
        drawn[step, order[step % 10 * 10 : step % 10 * 10 + 10]] = True
    return drawn


def of_fixed_size(generator: np.random.Generator) -> np.ndarray:
    drawn = np.zeros((STEPS, PATIENTS), np.bool_)
    for row in drawn:
        row[generator.choice(PATIENTS, 10, replace=False)] = True
    return drawn


def by_images(generator: np.random.Generator) -> np.ndarray:
    rates = RATE * (1 + np.arange(PATIENTS) % 4) / 2.5
    return generator.random((STEPS, PATIENTS)) < rates


def the_same_each_round(generator: np.random.Generator) -> np.ndarray:
    return np.tile(generator.random((ROUND, PATIENTS)) < RATE, (STEPS // ROUND, 1))


def more_often(generator: np.random.Generator) -> np.ndarray:
    return generator.random((STEPS, PATIENTS)) < 1.5 * RATE


def everybody(_generator: np.random.Generator) -> np.ndarray:
    return np.ones((STEPS, PATIENTS), np.bool_)


def test_independent_coins_pass_and_their_p_values_are_no_smaller_than_chance() -> None:
    generator = np.random.default_rng(0)
    found = [least(sampling_p_values(independent(generator), RATE, steps_per_round=ROUND))[1] for _ in range(400)]
    # 5 % of 400 are 20 with a deviation of 4.4; the chi-square of small counts is an approximation.
    assert np.mean(np.array(found) < 0.05) < 0.09
    assert min(found) > 1e-6


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (shuffled, "sizes"),
        (of_fixed_size, "sizes"),
        (by_images, "patients"),
        (the_same_each_round, "next round"),
        (more_often, "rate"),
        (everybody, "rate"),
    ],
)
def test_other_samples_fail(draw: Callable[[np.random.Generator], np.ndarray], name: str) -> None:
    p_values = sampling_p_values(draw(np.random.default_rng(0)), RATE, steps_per_round=ROUND)
    assert p_values[name] < 1e-6
    assert least(p_values)[1] < 1e-6


def test_the_right_hand_side_of_the_area_fails_too() -> None:
    # Sizes that vary too much: either nobody or everybody.
    generator = np.random.default_rng(0)
    drawn = np.repeat(generator.random((STEPS, 1)) < RATE, PATIENTS, axis=1)
    assert sampling_p_values(drawn, RATE, steps_per_round=ROUND)["sizes"] < 1e-6


def test_watching_sees_whom_each_step_asked_for_without_privacy_too() -> None:
    watched = Watched(Blank(["b", "a", "b", "c"]))
    with watched.watching():
        train(blank_network(1), watched, blank_loss, PLAIN, None)
    # Three passes of one step of all four rows.
    assert watched.drawn.tolist() == [[True, True, True]] * 3
    # Outside no other training's steps are counted.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0).step()
    assert len(watched.drawn) == 3
