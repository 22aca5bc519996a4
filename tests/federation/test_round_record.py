"""What a round's record says of the FedProx term: the squared drift of every weight and of nothing else.

Oracles 2.1 to 2.3 and 2.6 have their numbers from FL4Health's tests/losses/test_weight_drift_loss.py; the others are
worked by hand from its 10796 weights.
"""

from collections.abc import Callable
from typing import Any

import pytest

from ramw_fed.config import RunConfig
from ramw_fed.federation.inline import run_inline

Toy = Callable[..., RunConfig]
PROX = {"method": "fedprox", "proximal_mu": 2.0}


def drifts(config: RunConfig, memory: Any) -> dict[str, float]:
    """Run one round; return the squared drift that its record names for each center."""
    run_inline(config, memory)
    (record,) = memory.records
    assert record["rejections"] == []
    return {center: one["squared_drift"] for center, one in record["centers"].items()}


@pytest.mark.parametrize("centers", ["DHA", "BTXRD,DHA"])
def test_every_weight_moved_by_a_tenth_is_logged_as_107_96_and_so_is_its_term_at_mu_two(
    toy: Toy, memory: Any, centers: str
) -> None:
    config = toy("steady", centers=centers, **PROX)
    logged = drifts(config, memory)
    assert sorted(logged) == centers.split(",")
    assert config.proximal_mu is not None
    for drift in logged.values():
        assert drift == pytest.approx(1.5 + 0.06 + 24 + 0.16 + 81.92 + 0.32, abs=0.002)
        assert drift == pytest.approx(107.96, abs=0.002)
        assert config.proximal_mu / 2 * drift == pytest.approx(107.96, abs=0.002)


def test_in_the_second_step_the_term_holds_the_weights_back(toy: Toy, memory: Any) -> None:
    """By hand: .1, then .1 + .1 (1 - 2 * .1) = .18 away; without the term it would be .2 and 431.84."""
    assert drifts(toy("steady", local_epochs=2, **PROX), memory) == {
        "BTXRD": pytest.approx(10796 * 0.18**2, abs=0.002),
        "DHA": pytest.approx(10796 * 0.18**2, abs=0.002),
    }


def test_the_logged_loss_is_the_plain_one_without_the_term(toy: Toy, memory: Any) -> None:
    """By hand: between two steps minus the sum of the weights falls by 10796 * .1, half of it in the mean of both."""
    run_inline(toy("steady", centers="DHA", **PROX), memory)
    run_inline(toy("steady", centers="DHA", local_epochs=2, **PROX), memory)
    one, two = (record["centers"]["DHA"]["loss"] for record in memory.records)
    assert two - one == pytest.approx(-10796 * 0.1 / 2, abs=0.01)


def test_without_a_gradient_the_logged_drift_is_exactly_zero(toy: Toy, memory: Any) -> None:
    assert drifts(toy("still", **PROX), memory) == {"BTXRD": 0.0, "DHA": 0.0}


def test_buffers_that_run_away_are_no_part_of_the_drift(toy: Toy, memory: Any) -> None:
    assert drifts(toy("steady", centers="DHA", **PROX), memory)["DHA"] == pytest.approx(107.96, abs=0.002)
    moved = memory.final("steady")["norm.running_mean"]
    assert moved.tolist() == [1000.0] * 6  # 6 * 1000 ** 2 would be the larger part by far


def test_the_logged_length_of_an_update_is_the_root_of_its_squared_drift(toy: Toy, memory: Any) -> None:
    run_inline(toy("steady", centers="DHA", **PROX), memory)
    one = memory.records[0]["centers"]["DHA"]
    assert one["update_norm"] == pytest.approx(107.96**0.5, abs=1e-4)
    assert one["cosine"] == pytest.approx(1.0)
