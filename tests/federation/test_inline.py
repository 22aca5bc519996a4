"""The whole path: configuration, records, apps, grid, strategy; the numbers are those of oracles worked by hand."""

from collections.abc import Callable

import pytest
import torch

from ramw_fed.config import RunConfig
from ramw_fed.federation.inline import run_inline

Toy = Callable[..., RunConfig]


def final(config: RunConfig, memory, task: str) -> dict[str, torch.Tensor]:
    run_inline(config, memory)
    return memory.final(task)


def test_fedavg_with_five_gradient_steps_ends_at_the_fixed_point_of_the_formula(toy: Toy, memory) -> None:
    config = toy("two", centers="HMCRD,SCGH", learning_rate=0.1, local_epochs=5, num_rounds=60)
    assert final(config, memory, "two")["w"].item() == pytest.approx(0.692502, abs=1e-6)
