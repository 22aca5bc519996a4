from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ramw_fed.config import ErosionConfig, SegmentationConfig, TrainingConfig
from ramw_fed.errors import ConfigError
from ramw_fed.learning.freezing import freeze_all_but
from ramw_fed.learning.models import erosion_head, erosion_network, segmentation_head, segmentation_network
from ramw_fed.learning.training import train_round

HEAD = TrainingConfig(batch_size=4, local_epochs=2, num_rounds=1, learning_rate=0.01, trainable="head")


class Numbers:
    """Twelve rows of three numbers far from 0: running statistics that see them move."""

    names = patients = np.arange(12).astype(np.str_)

    def __len__(self) -> int:
        return 12

    def batch(self, rows: np.ndarray, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        values = torch.arange(36.0).reshape(12, 3)
        return values[rows], (values[rows, 0] > 15).float()


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)), nn.Linear(4, 1))


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.flatten(), targets)


def trained(config: TrainingConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model = network()
    freeze_all_but(model, model[1])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    key, device = (0, "toy", 1, "A"), torch.device("cpu")
    train_round(model, Numbers(), loss, config, correction=None, key=key, round_number=1, device=device)
    return before, model.state_dict()


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_frozen_backbone_stays_to_the_bit_with_its_running_statistics_and_the_head_learns(average: float) -> None:
    before, after = trained(replace(HEAD, average=average))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"1.weight", "1.bias"}


def test_without_the_knob_the_statistics_of_the_same_network_move() -> None:
    before, after = trained(replace(HEAD, trainable="all"))
    assert not torch.equal(before["0.1.running_mean"], after["0.1.running_mean"])


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no head with weights.*trainable = 'all'"):
        freeze_all_but(network(), nn.Identity())


def test_the_heads_are_the_last_layers_of_the_built_in_networks() -> None:
    segmentation = SegmentationConfig(image_size=32, depth=3, decoder_width=32)
    bones = segmentation_network(14, segmentation)
    # A 3 x 3 convolution from 32 / 2 / 2 = 8 channels to 14 bones: 8 * 9 * 14 weights and 14 offsets.
    assert sum(param.numel() for param in segmentation_head(bones).parameters()) == 8 * 9 * 14 + 14
    joints = erosion_network(6, ErosionConfig(crop_size=16))
    # timm's test_resnet pools 96 channels.
    assert sum(param.numel() for param in erosion_head(joints).parameters()) == 96 + 1
