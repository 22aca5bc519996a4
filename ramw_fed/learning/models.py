"""Networks by name, with freshly drawn weights: the only importer of segmentation-models-pytorch and timm.

Pretrained weights are never asked for: both libraries would go to a hub for them.
"""

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from timm.layers import BatchNormAct2d, GroupNormAct
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ramw_fed.config import ErosionConfig, SegmentationConfig
from ramw_fed.errors import ConfigError

# How many of the encoder's halvings the decoder takes back by itself.
_STAGES_LEFT = {smp.FPN: 3, smp.PSPNet: 0}
# What both libraries raise where parts do not go together.
_UNFIT = (TypeError, ValueError, KeyError, RuntimeError, AssertionError, AttributeError, IndexError)
# A bone covers about a twentieth of an image. Starting there instead of at one half spares the first hundred steps.
_FIRST_LOGIT = -3.0


def segmentation_network(num_bones: int, config: SegmentationConfig) -> nn.Module:
    """Return a network from ``(images, 1, S, S)`` to one logit a bone, ``(images, num_bones, S, S)``.

    Raises:
        ConfigError: Architecture or encoder is unknown, or they do not go together, or not with the image's size.
    """
    architectures = smp.MODEL_ARCHITECTURES_MAPPING
    if config.architecture.lower() not in architectures:
        raise ConfigError(_unknown("segmentation.architecture", config.architecture, architectures))
    _check_encoder(config.encoder)
    architecture = architectures[config.architecture.lower()]
    try:
        network = architecture(
            encoder_name=config.encoder,
            encoder_weights=None,
            in_channels=1,
            classes=num_bones,
            **_shape(architecture, config),
        )
    except _UNFIT as error:
        raise ConfigError(
            f"architecture {config.architecture!r} cannot be built with encoder {config.encoder!r} at depth "
            f"{config.depth} and decoder-width {config.decoder_width}: {error}"
        ) from error
    side = config.image_size
    _try(
        network,
        torch.zeros(1, 1, side, side),
        (1, num_bones, side, side),
        f"architecture {config.architecture!r} with encoder {config.encoder!r} at depth {config.depth} cannot take "
        f"segmentation.image-size = {side}",
    )
    *_, last = (module for module in network.segmentation_head.modules() if isinstance(module, nn.Conv2d))
    if last.bias is not None:
        nn.init.constant_(last.bias, _FIRST_LOGIT)
    return _finish(network, config.norm)


def erosion_network(num_joints: int, config: ErosionConfig, *, num_outputs: int = 1) -> nn.Module:
    """Return a network from ``(joints, 1 + num_joints, S, S)`` to logits ``(joints, num_outputs)``.

    The channels after the image say which joint it is (one of them is 1 everywhere, the others 0), so that one network
    serves joints that look different.

    Raises:
        ConfigError: The encoder is unknown to timm, or cannot take crops of this size.
    """
    if not timm.is_model(config.encoder.partition(".")[0]):
        raise ConfigError(_unknown("erosion.encoder", config.encoder, timm.list_models()))
    try:
        network = timm.create_model(config.encoder, pretrained=False, in_chans=1 + num_joints, num_classes=num_outputs)
    except _UNFIT as error:
        raise ConfigError(f"erosion.encoder {config.encoder!r} cannot be built: {error}") from error
    side = config.crop_size
    _try(
        network,
        torch.zeros(1, 1 + num_joints, side, side),
        (1, num_outputs),
        f"erosion.encoder {config.encoder!r} cannot take erosion.crop-size = {side}",
    )
    return _finish(network, config.norm)


def segmentation_head(network: Any) -> nn.Module:
    """Return what segmentation-models-pytorch puts behind the decoder: one convolution to a logit a bone."""
    head: nn.Module = network.segmentation_head
    return head


def erosion_head(network: Any) -> nn.Module:
    """Return what timm puts behind the pooled features: one linear layer to the logits."""
    head: nn.Module = network.get_classifier()
    return head


def with_group_norm(module: nn.Module) -> nn.Module:
    """Replace every batch normalisation below ``module``, keeping scale, offset and activation; return the result.

    Wu and He 2018, https://arxiv.org/abs/1803.08494. A group has at least two channels: with as many groups as
    channels, a layer whose map is one pixel would erase all it is given (Opacus issue 567).
    """
    if isinstance(module, BatchNormAct2d):
        fused = GroupNormAct(module.num_features, num_groups(module.num_features), eps=module.eps)
        fused.drop, fused.act = module.drop, module.act
        return _with_affine(fused, module)
    if isinstance(module, _BatchNorm):
        return _with_affine(nn.GroupNorm(num_groups(module.num_features), module.num_features, eps=module.eps), module)
    for name, child in module.named_children():
        setattr(module, name, with_group_norm(child))
    return module


def num_groups(channels: int) -> int:
    """Return the largest divisor of ``channels`` that is at most 32 and leaves two channels to a group.

    >>> [num_groups(channels) for channels in (1, 7, 16, 24, 64, 72, 96)]
    [1, 1, 8, 12, 32, 24, 32]
    """
    most = min(32, channels // 2)
    return max((groups for groups in range(1, most + 1) if channels % groups == 0), default=1)


def _with_affine(norm: nn.GroupNorm, batch_norm: Any) -> nn.Module:
    if batch_norm.affine:
        norm.weight, norm.bias = batch_norm.weight, batch_norm.bias
    else:
        norm.affine, norm.weight, norm.bias = False, None, None  # type: ignore[assignment]
    return norm


def _finish(network: nn.Module, norm: str) -> nn.Module:
    for module in network.modules():
        if isinstance(getattr(module, "inplace", None), bool):
            setattr(module, "inplace", False)  # noqa: B010 - hooks on gradients fail where an activation overwrites its input
    return with_group_norm(network) if norm == "group" else network


def _try(network: nn.Module, images: Tensor, wanted: tuple[int, ...], refusal: str) -> None:
    """Refuse a network that cannot take such images: better here than at every center in the first round."""
    try:
        with torch.inference_mode():
            found = tuple(network.eval()(images).shape)
    except _UNFIT as error:
        raise ConfigError(f"{refusal}: {error}") from error
    if found != wanted:
        raise ConfigError(f"{refusal}: it answers with a tensor of shape {found}, and {wanted} is wanted")
    network.train()


def _shape(architecture: Any, config: SegmentationConfig) -> dict[str, Any]:
    """Return depth and widths in the words of this architecture."""
    known = inspect.signature(architecture.__init__).parameters
    shape: dict[str, Any] = {}
    if "encoder_depth" in known and architecture is not smp.DPT:
        shape["encoder_depth"] = config.depth
    if architecture in _STAGES_LEFT:  # their default enlarges the map of one depth only
        shape["upsampling"] = 1 << (config.depth - _STAGES_LEFT[architecture])
    if "decoder_channels" in known:
        widths = [max(config.decoder_width >> stage, 4) for stage in range(config.depth)]
        is_list = not isinstance(known["decoder_channels"].default, int)
        shape["decoder_channels"] = widths if is_list else config.decoder_width
    return shape


def _check_encoder(name: str) -> None:
    is_timm = name.startswith("tu-") and timm.is_model(name[3:].partition(".")[0])
    if not is_timm and name not in smp.encoders.encoders:
        known = [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
        raise ConfigError(_unknown("segmentation.encoder", name, known))


def _unknown(knob: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=4) or names[:12]
    return f"{knob} is {name!r}, which is not known; did you mean {', '.join(near)}?"
