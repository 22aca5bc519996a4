"""The FedProx term; the numbers of its tests are worked by hand or cited from FL4Health and FLamby."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ramw_fed.config import TrainingConfig
from ramw_fed.learning.corrections import proximal, squared_drift
from ramw_fed.learning.training import train_round


class SmallNet(nn.Module):
    """Two convolutions and a linear layer, as in FL4Health's tests/losses/test_weight_drift_loss.py."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.norm = nn.BatchNorm2d(6, affine=False)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 4 * 4, 32)


def drifted(module: nn.Module, by: float) -> list[Tensor]:
    start = [param.detach().clone() for param in module.parameters()]
    with torch.no_grad():
        for param in module.parameters():
            param.add_(by)
    return start


def test_squared_drift_of_a_small_network_moved_by_a_tenth_is_107_96() -> None:
    module = SmallNet()
    start = drifted(module, 0.1)
    assert squared_drift(module.parameters(), start) == pytest.approx(
        107.96, abs=0.002
    )  # 1.5 + .06 + 24 + .16 + 81.92 + .32


def test_gradient_of_the_term_is_that_of_mu_half_times_the_squared_drift() -> None:
    module = SmallNet()
    start = [param.detach().clone() for param in module.parameters()]
    correct = proximal(module.parameters(), mu=2.0)
    with torch.no_grad():
        for param in module.parameters():
            param.add_(0.1)
    loss = sum((param - origin).square().sum() for param, origin in zip(module.parameters(), start, strict=True))
    assert float((2.0 / 2 * loss).detach()) == pytest.approx(107.96, abs=0.002)
    by_autograd = torch.autograd.grad(loss, list(module.parameters()))
    for param in module.parameters():
        param.grad = torch.zeros_like(param)
    correct()
    for param, gradient in zip(module.parameters(), by_autograd, strict=True):
        torch.testing.assert_close(param.grad, gradient)


def test_without_drift_the_term_is_exactly_zero() -> None:
    module = SmallNet()
    start = [param.detach().clone() for param in module.parameters()]
    correct = proximal(module.parameters(), mu=2.0)
    for param in module.parameters():
        param.grad = torch.zeros_like(param)
    correct()
    assert squared_drift(module.parameters(), start) == 0.0
    assert all((param.grad == 0).all() for param in module.parameters() if param.grad is not None)


@pytest.mark.parametrize(("drift", "expected"), [(0.1, 0.01), (-0.1, -0.01)])
def test_gradient_has_the_sign_of_the_drift(drift: float, expected: float) -> None:
    linear = nn.Linear(2, 3, bias=False)
    correct = proximal(linear.parameters(), mu=0.1)
    drifted(linear, drift)
    linear.weight.grad = torch.zeros(3, 2)
    correct()
    torch.testing.assert_close(linear.weight.grad, torch.full((3, 2), expected), atol=1e-7, rtol=0)


def test_term_counts_the_six_parameters_and_no_buffer() -> None:
    module = SmallNet()
    start = drifted(module, 0.1)
    module.norm.running_mean += 1000.0  # type: ignore[operator]
    assert len(start) == 6
    assert squared_drift(module.parameters(), start) == pytest.approx(107.96, abs=0.002)


def test_term_acts_in_every_batch_although_the_parameters_came_as_a_generator() -> None:
    linear = nn.Linear(2, 3, bias=False)
    correct = proximal((param for param in linear.parameters()), mu=0.1)
    drifted(linear, 0.1)
    for _ in range(3):
        linear.weight.grad = torch.zeros(3, 2)
        correct()
        assert (linear.weight.grad > 0).all()


class Points:
    """A regression of 20 points, all of them in each batch."""

    patients = np.arange(20).astype(np.str_)
    names = patients

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(20, 4, generator=generator)
        self.targets = torch.randn(20, 3, generator=generator)

    def __len__(self) -> int:
        return 20

    def batch(self, rows: np.ndarray, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(np.sort(rows))
        return self.inputs[chosen], self.targets[chosen]


@pytest.mark.parametrize(("rate", "mu"), [(0.01, 0.0), (0.001, 1.0), (1e-4, 5.0), (7e-5, 5e-4)])
def test_ten_steps_equal_the_loop_that_adds_the_term_by_hand(rate: float, mu: float) -> None:
    # FLamby, tests/strategies: w -= lr * mu * (w - w0), with w before the step, then the plain step.
    torch.manual_seed(0)
    linear = nn.Linear(4, 3)
    by_hand = nn.Linear(4, 3)
    by_hand.load_state_dict(linear.state_dict())
    points = Points()
    config = replace(
        TrainingConfig(), optimizer="sgd", learning_rate=rate, final_learning_rate=1.0, weight_decay=0.0, batch_size=20
    )
    log = train_round(
        linear,
        points,
        functional.mse_loss,
        replace(config, local_epochs=10, num_rounds=1),
        correction=proximal(linear.parameters(), mu),
        key=(0, "points", 1, "HU"),
        round_number=1,
        device=torch.device("cpu"),
    )
    start = [param.detach().clone() for param in by_hand.parameters()]
    for _ in range(10):
        gradients = torch.autograd.grad(
            functional.mse_loss(by_hand(points.inputs), points.targets), list(by_hand.parameters())
        )
        with torch.no_grad():
            for param, origin, gradient in zip(by_hand.parameters(), start, gradients, strict=True):
                param -= rate * mu * (param - origin) + rate * gradient
    assert log.steps == 10
    for param, wanted in zip(linear.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(param, wanted)
