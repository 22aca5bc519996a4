import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ramw_fed.config import ErosionConfig, SegmentationConfig
from ramw_fed.errors import ConfigError
from ramw_fed.learning.models import erosion_network, segmentation_network, with_group_norm

ENCODERS = {"dpt": "tu-vit_tiny_patch16_224"}
SIZES = {"dpt": 224, "pan": 128}


def test_default_networks_give_one_logit_a_bone_and_one_a_joint() -> None:
    bones = segmentation_network(5, SegmentationConfig(image_size=64)).eval()
    assert bones(torch.zeros(2, 1, 64, 64)).shape == (2, 5, 64, 64)
    joints = erosion_network(3, ErosionConfig()).eval()
    assert joints(torch.zeros(2, 1 + 3, 48, 48)).shape == (2, 1)


def test_an_erosion_network_that_cannot_take_the_crops_is_refused_when_it_is_built() -> None:
    with pytest.raises(ConfigError, match=r"vit_tiny_patch16_224' cannot take erosion.crop-size = 48"):
        erosion_network(3, ErosionConfig(encoder="vit_tiny_patch16_224"))


def test_first_probabilities_of_a_bone_are_small() -> None:
    network = segmentation_network(5, SegmentationConfig(image_size=64)).eval()
    assert float(network(torch.randn(2, 1, 64, 64)).detach().sigmoid().mean()) < 0.2


def test_group_norm_leaves_no_batch_norm_and_the_same_tensors_but_for_running_statistics() -> None:
    batch = segmentation_network(4, SegmentationConfig())
    group = segmentation_network(4, SegmentationConfig(norm="group"))
    assert any(isinstance(module, _BatchNorm) for module in batch.modules())
    assert not any(isinstance(module, _BatchNorm) for module in group.modules())
    running = ("running_mean", "running_var", "num_batches_tracked")
    kept = {name: tensor.shape for name, tensor in batch.state_dict().items() if not name.endswith(running)}
    assert kept == {name: tensor.shape for name, tensor in group.state_dict().items()}
    group.load_state_dict({name: tensor for name, tensor in batch.state_dict().items() if name in kept})
    assert group(torch.zeros(1, 1, 64, 64)).shape == (1, 4, 64, 64)


def test_group_norm_keeps_a_fused_activation() -> None:
    group = erosion_network(6, ErosionConfig(norm="group", encoder="mobilenetv3_small_050"))
    assert not any(isinstance(module, _BatchNorm) for module in group.modules())
    fused = [module for module in group.modules() if isinstance(module, nn.GroupNorm) and hasattr(module, "act")]
    assert any(not isinstance(module.act, nn.Identity) for module in fused)


def test_no_group_has_a_single_channel() -> None:
    modules = segmentation_network(4, SegmentationConfig(norm="group")).modules()
    groups = [(one.num_groups, one.num_channels) for one in modules if isinstance(one, nn.GroupNorm)]
    assert len(groups) > 10
    assert [(number, channels) for number, channels in groups if 1 < channels <= number] == []


def test_a_batch_norm_at_the_root_is_replaced_too() -> None:
    assert isinstance(with_group_norm(nn.BatchNorm2d(8)), nn.GroupNorm)


def test_batch_norm_without_scale_becomes_group_norm_without_scale() -> None:
    replaced = with_group_norm(nn.Sequential(nn.BatchNorm2d(8, affine=False)))
    assert not list(replaced.parameters())
    assert replaced(torch.randn(2, 8, 4, 4)).shape == (2, 8, 4, 4)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_no_activation_overwrites_its_input(norm: str) -> None:
    for network in (
        segmentation_network(3, SegmentationConfig(norm=norm)),
        erosion_network(3, ErosionConfig(norm=norm)),
    ):
        assert not any(getattr(module, "inplace", False) is True for module in network.modules())


def test_weights_follow_the_global_generator() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(erosion_network(2, ErosionConfig()).state_dict())
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


def test_unknown_names_are_refused_with_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"segmentation\.architecture.*unet"):
        segmentation_network(3, SegmentationConfig(architecture="unett"))
    with pytest.raises(ConfigError, match=r"segmentation\.encoder.*tu-mobilenetv3_small_050"):
        segmentation_network(3, SegmentationConfig(encoder="tu-mobilenetv3_smal_050"))
    with pytest.raises(ConfigError, match=r"erosion\.encoder.*resnet18"):
        erosion_network(3, ErosionConfig(encoder="resnet1888"))


def test_parts_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be built with encoder"):
        segmentation_network(3, SegmentationConfig(architecture="dpt", encoder="resnet18"))


def test_a_size_that_the_network_cannot_take_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'pan' .* cannot take segmentation\.image-size = 64"):
        segmentation_network(3, SegmentationConfig(architecture="pan", encoder="resnet18", image_size=64))


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize("architecture", sorted(smp.MODEL_ARCHITECTURES_MAPPING))
def test_every_architecture_trains(architecture: str, depth: int) -> None:
    size = SIZES.get(architecture, 64)
    encoder = ENCODERS.get(architecture, "resnet18")
    config = SegmentationConfig(architecture=architecture, encoder=encoder, depth=depth, norm="group", image_size=size)
    network = segmentation_network(3, config)
    logits = network(torch.randn(2, 1, size, size))
    assert logits.shape == (2, 3, size, size)
    assert float(logits.detach().sigmoid().mean()) < 0.4
    logits.mean().backward()
