"""Batch normalisation for a center that took no part: numbers worked by hand, or torch's own ``update_bn``."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ramw_fed.errors import ConfigError, RunError
from ramw_fed.methods import FEDBN, SILOBN, Method, Weights
from ramw_fed.methods.unseen import complete_for_unseen, images_of, mean_entropy, weights_at


class Small(nn.Module):
    """Normalise, then multiply by a shared slope; dropout shows whether anything else is put into training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, eps=1e-12)
        self.drop = nn.Dropout(0.9)
        self.slope = nn.Conv2d(1, 1, 1, bias=False)
        self.last = nn.BatchNorm2d(1, eps=1e-12)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.drop(self.slope(self.norm(images))))


def one_norm() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(1, eps=1e-12), nn.Conv2d(1, 1, 1, bias=False))


def state(mean: float, variance: float, batches: int, weight: float, bias: float) -> Weights:
    return {
        "0.running_mean": torch.tensor([mean]),
        "0.running_var": torch.tensor([variance]),
        "0.num_batches_tracked": torch.tensor(batches),
        "0.weight": torch.tensor([weight]),
        "0.bias": torch.tensor([bias]),
    }


STATES = {"FA": state(1.0, 4.0, 3, 1.0, 0.5), "HU": state(4.0, 1.0, 9, 2.0, -0.5), "DHA": state(1.0, 1.0, 5, 3.0, 0.3)}
SHARED = {"1.weight": torch.ones(1, 1, 1, 1)}


def parted(method: Method, network: nn.Module) -> tuple[Weights, Weights]:
    return method.part({name: tensor.clone() for name, tensor in network.state_dict().items()})


def test_the_mean_is_over_centers_and_counters_take_the_largest() -> None:
    # (1 + 4 + 1) / 3 = 2, (4 + 1 + 1) / 3 = 2, (1 + 2 + 3) / 3 = 2, (.5 - .5 + .3) / 3 = .1
    full = complete_for_unseen(SHARED, STATES, "mean", one_norm())
    assert {name: tensor.item() for name, tensor in full.items()} == {
        "0.running_mean": 2.0,
        "0.running_var": 2.0,
        "0.weight": 2.0,
        "0.bias": pytest.approx(0.1),
        "0.num_batches_tracked": 9,
        "1.weight": 1.0,
    }
    assert full["0.num_batches_tracked"].dtype == torch.int64


def test_statistics_are_estimated_on_the_images_and_scale_and_offset_are_the_mean() -> None:
    # Pixels 1, 3 and 5, 7: mean 4, variance with n - 1 is (9 + 1 + 1 + 9) / 3 = 20 / 3.
    images = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).reshape(2, 1, 1, 2)
    full = complete_for_unseen(SHARED, STATES, "re-estimate", one_norm(), images)
    assert full["0.running_mean"].item() == 4.0
    assert full["0.running_var"].item() == pytest.approx(20 / 3)
    assert full["0.weight"].item() == 2.0
    assert full["0.bias"].item() == pytest.approx(0.1)
    assert full["1.weight"].item() == 1.0


def test_batches_weigh_as_many_as_their_images() -> None:
    """33 images are two batches, of 17 and 16: image k holds k and -k, so that the mean is 0 and squares tell."""
    images = torch.arange(33.0).repeat_interleave(2).reshape(33, 1, 1, 2) * torch.tensor([1.0, -1.0])
    full = complete_for_unseen(SHARED, STATES, "re-estimate", one_norm(), images)
    squares = np.arange(33.0) ** 2
    first, second = 2 * squares[:17].sum() / (2 * 17 - 1), 2 * squares[17:].sum() / (2 * 16 - 1)
    assert full["0.running_var"].item() == pytest.approx((17 * first + 16 * second) / 33, rel=1e-6)
    assert full["0.num_batches_tracked"].item() == 2


@pytest.mark.parametrize("method", [FEDBN, SILOBN])
def test_statistics_equal_those_of_torchs_update_bn_on_batches_of_one_size(method: Method) -> None:
    torch.manual_seed(0)
    network, images = Small(), torch.randn(64, 1, 4, 4) * 3 + 1
    shared, own = parted(method, network)
    full = complete_for_unseen(shared, {"FA": own, "HU": own}, "re-estimate", network, images)
    wanted = Small()
    wanted.load_state_dict({**shared, **own})
    wanted.drop = nn.Dropout(0.0)
    update_bn(images.split(32), wanted)
    for name, tensor in wanted.state_dict().items():
        torch.testing.assert_close(full[name], tensor)
    assert full["last.running_mean"].item() != 0.0
    assert not any(module.training for module in network.modules())
    assert network.norm.momentum == 0.1


def test_the_state_of_the_surest_predictions_is_taken() -> None:
    # Image 2, slope 1: FA (2 - 1) / 2 + .5 = 1; HU 2 (2 - 4) - .5 = -4.5, the surest; DHA 3 (2 - 1) + .3 = 3.3.
    full = complete_for_unseen(SHARED, STATES, "least-entropy", one_norm(), torch.full((3, 1, 1, 1), 2.0))
    assert {name: full[name].item() for name in STATES["HU"]} == {
        name: tensor.item() for name, tensor in STATES["HU"].items()
    }
    # Image 4: HU says -.5, and DHA 9.3.
    full = complete_for_unseen(SHARED, STATES, "least-entropy", one_norm(), torch.full((1, 1, 1, 1), 4.0))
    assert full["0.weight"].item() == 3.0


def test_of_equally_sure_states_the_first_by_name_is_taken() -> None:
    low, high = state(0.0, 1.0, 1, 1.0, 0.0), state(0.0, 1.0, 2, -1.0, 0.0)
    for states in ({"HU": high, "FA": low}, {"FA": low, "HU": high}):
        full = complete_for_unseen(SHARED, states, "least-entropy", one_norm(), torch.ones(1, 1, 1, 1))
        assert full["0.weight"].item() == 1.0


def test_entropy_is_that_of_the_sigmoid() -> None:
    # p = 1/2: log 2; p = 3/4 at z = log 3: log 4 - 3/4 log 3, and the same at p = 1/4.
    assert mean_entropy(torch.zeros(2)) == pytest.approx(math.log(2))
    wanted = math.log(4) - 0.75 * math.log(3)
    assert mean_entropy(torch.tensor([math.log(3), -math.log(3)])) == pytest.approx(wanted, rel=1e-6)
    assert mean_entropy(torch.tensor([1e4, -1e4])) == 0.0


def test_a_center_of_the_run_has_its_own_and_no_image_is_read() -> None:
    def fail() -> Tensor:
        raise AssertionError("read")

    full = weights_at("HU", SHARED, STATES, "least-entropy", one_norm(), fail)
    assert full["0.running_mean"].item() == 4.0
    assert weights_at("MAYO", SHARED, STATES, "mean", one_norm(), fail)["0.running_mean"].item() == 2.0
    whole = {**SHARED, **STATES["FA"]}
    assert weights_at("MAYO", whole, {}, None, one_norm(), fail) == whole


@pytest.mark.parametrize("rule", [None, "refuse"])
def test_an_unseen_center_without_a_rule_is_an_error_that_asks_for_one(rule: str | None) -> None:
    with pytest.raises(ConfigError, match=r"'MAYO' took no part.*DHA, FA, HU.*mean or re-estimate or least-entropy"):
        weights_at("MAYO", SHARED, STATES, rule, one_norm(), lambda: torch.ones(1, 1, 1, 1))


def test_what_is_missing_is_named() -> None:
    with pytest.raises(RunError, match="left 5 tensors of its network at the centers"):
        weights_at("HU", SHARED, {}, "mean", one_norm(), lambda: torch.empty(0))
    with pytest.raises(ConfigError, match="'median'; one of mean"):
        complete_for_unseen(SHARED, STATES, "median", one_norm())
    with pytest.raises(RunError, match="no center's own tensors"):
        complete_for_unseen(SHARED, {}, "mean", one_norm())
    for rule in ("re-estimate", "least-entropy"):
        with pytest.raises(RunError, match="there are none; take mean"):
            complete_for_unseen(SHARED, STATES, rule, one_norm(), torch.empty(0))
    with pytest.raises(RunError, match="no variance"):
        complete_for_unseen(SHARED, STATES, "re-estimate", one_norm(), torch.ones(1, 1, 1, 1))


def test_the_images_of_examples_come_in_order_and_without_augmentation() -> None:
    class Ten:
        patients = names = np.array([str(row) for row in range(10)])

        def __len__(self) -> int:
            return 10

        def batch(self, rows: np.ndarray, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
            assert augment_key is None
            return torch.from_numpy(rows).float()[:, None], torch.zeros(len(rows))

    assert images_of(Ten())[:, 0].tolist() == list(range(10))
