"""Canaries: their gradients by autograd, beside real images or alone, and what an empty record adds."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ramw_fed.privacy.audit.canaries import CanaryExamples, CanaryNetwork, canary_loss, toss


class Images:
    patients = np.array(["first", "first", "second"])
    names = np.array(["a", "b", "c"])

    def __len__(self) -> int:
        return 3

    def batch(self, rows: np.ndarray, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        return torch.stack([torch.full((1, 4, 4), float(row) - 1) for row in rows]), torch.ones(len(rows), 2, 4, 4)


def network() -> CanaryNetwork:
    torch.manual_seed(0)
    return CanaryNetwork(nn.Conv2d(1, 2, 3, padding=1), 3)


def squares(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits - targets).square().mean()


# Canaries 0 and 2 are in; each has two images: rows 3, 4 and 7, 8. Canary 1 has the empty rows 5 and 6.
EXAMPLES = CanaryExamples(Images(), np.array([True, False, True]), images=2)


def gradients(rows: list[int]) -> tuple[Tensor, Tensor | None]:
    model = network()
    inputs, targets = EXAMPLES.batch(np.array(rows), augment_key=None)
    canary_loss(squares, 5.0)(model(inputs), targets).backward()
    assert model.places.grad is not None
    weight = model.network.weight.grad
    return model.places.grad, weight


def test_every_canary_is_a_patient_whatever_its_coin() -> None:
    assert len(EXAMPLES) == len(EXAMPLES.names) == 9
    assert len(np.unique(EXAMPLES.patients)) == 5


def test_a_canary_pushes_along_its_own_place_only() -> None:
    places, weight = gradients([7, 8])
    assert places.tolist() == [0, 0, 5]
    assert weight is None


def test_an_empty_record_pushes_nowhere() -> None:
    assert gradients([5, 6])[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("rows", [[0, 3, 5, 2, 8], [3, 0], [5, 1]])
def test_beside_real_images_each_adds_its_share_of_the_mean(rows: list[int]) -> None:
    places, weight = gradients(rows)
    wanted = [5 * sum(row in own for row in rows) / len(rows) for own in ((3, 4), (), (7, 8))]
    assert places.tolist() == pytest.approx(wanted)
    real = [row for row in rows if row < 3]
    model = network()
    inputs, targets = Images().batch(np.array(real), augment_key=None)
    (squares(model(inputs), targets) * len(real) / len(rows)).backward()
    assert weight is not None
    assert torch.allclose(weight, model.network.weight.grad, atol=1e-6)


def test_coins_are_fair() -> None:
    # 10,000 coins: 5000 with a deviation of 50.
    assert abs(int(toss(10_000, np.random.default_rng(1)).sum()) - 5000) < 250
