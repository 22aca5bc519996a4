"""Weights that a coordinator could send so that a center's update shows the image it was trained on.

A center trains on from whatever weights it is sent. These make of the default erosion network a camera: the stem passes
the pixels on, every activation stays open, and each channel above lets through the gradient of one place only. So the
gradient of one convolution lists the features of every place in turn. Fowl et al. 2022, https://arxiv.org/abs/2110.13057,
and Boenisch et al. 2023, https://arxiv.org/abs/2112.02918, prepare other networks to the same end.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from ramw_fed.errors import PrivacyError

CROP_SIZE = 48
PLACES = 6
"""The convolution that is read writes a map of 6 x 6 places."""

READ = "layer2.0.conv1.weight"
"""The parameter whose change lists the features."""

OPEN = 5.0
"""Added before every activation: features of standardised images hardly ever fall below minus five."""

# So small that a group's variance vanishes beside the epsilon of its normalisation, which then is linear: what it does
# to one place no longer depends on the rest of the image. What is read gets the smallest, and so the largest gradient.
_SMALL, _SMALLEST = 1e-4, 1e-5
# Pixels that a channel of the stem sees, as (rows, columns) of a 3 x 3 kernel of stride 2; each also with minus.
_VIEWS = (((1,), (1,)), ((1,), (2,)), ((2,), (1,)), ((2,), (2,)), ((0,), (0,)), ((0,), (1,)), ((1,), (0,)))
_VIEWS += (((1, 2), (1, 2)),)  # type: ignore[assignment]
# Row (or column) of the 3 x 3 map that a kernel of stride 2, and one after it, let through alone.
_FIRST, _SECOND = (1, 2, 1), (0, 1, 2)
# Three channels share a group, which takes the mean off: it must be 0 already.
_HEAD = (1.0, 0.4, -1.4)


def prepared_weights(network: nn.Module, *, loudness: float) -> dict[str, Tensor]:
    """Return the weights with which ``network`` shows its images, and leave it as it was.

    Args:
        network: The default erosion network for crops of 48 pixels, with group normalisation.
        loudness: Factor on the gradient, without an effect where it is clipped.

    Raises:
        PrivacyError: It is another network.
    """
    before = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    try:
        with torch.no_grad():
            _prepare(network, loudness)
        return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    except (AttributeError, IndexError, TypeError) as error:
        raise PrivacyError(
            "only the default erosion network (encoder test_resnet, norm group) can be prepared to show its images; "
            "take it, or attack another network by gradient matching"
        ) from error
    finally:
        network.load_state_dict(before)


def stem_features(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return ``(images, 32, 12, 12)``: what the convolution that is read gets."""
    net: Any = network
    features: Tensor = net.layer1(net.maxpool(net.act1(net.bn1(net.conv1(inputs)))))
    return features


def _prepare(network: nn.Module, loudness: float) -> None:
    net: Any = network
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.zero_()
        elif isinstance(layer, nn.GroupNorm):
            layer.weight.fill_(1)
            layer.bias.fill_(OPEN)
    _prepare_stem(net)
    second, third, fourth = net.layer2[0], net.layer3[0], net.layer4[0]
    for shortcut in (net.layer1[0].bn2, *(block.downsample[2] for block in (second, third, fourth))):
        shortcut.weight.zero_()  # the way through the block, or around it, that is not wanted
        shortcut.bias.zero_()
    for channel, (row, column) in enumerate(product(range(PLACES), repeat=2)):
        second.conv1.weight[channel, 2 * (channel % 8), 1, 1] = 1
        second.conv2.weight[channel, channel, 1, 1] = 1
        third.conv1.weight[channel, channel, 0, 0] = 1
        third.conv2.weight[channel, channel, 1 + row % 2, 1 + column % 2] = 1
        third.conv3.weight[channel, channel, 0, 0] = 1
        fourth.conv1.weight[channel, channel, _FIRST[row // 2], _FIRST[column // 2]] = 1
        fourth.conv2.weight[channel, channel, _SECOND[row // 2], _SECOND[column // 2]] = 1
    for conv, norm in _above_stem(second, third, fourth):
        factor = _SMALLEST if conv is second.conv1 else _SMALL
        conv.weight.mul_(factor)
        norm.weight.fill_(norm.eps**0.5 / factor)
    net.fc.weight.zero_()
    net.fc.bias.zero_()
    head = torch.tensor(_HEAD).repeat(PLACES * PLACES // len(_HEAD))
    net.fc.weight[0, : len(head)] = loudness * head


def _prepare_stem(net: Any) -> None:
    first, _, _, between, _, _, last = net.conv1
    for view, (rows, columns) in enumerate(_VIEWS):
        for sign, row, column in product((0, 1), rows, columns):
            first.weight[2 * view + sign, 0, row, column] = (1 - 2 * sign) / (len(rows) * len(columns))
    for channel in range(2 * len(_VIEWS)):
        between.weight[channel, channel, 1, 1] = 1
        last.weight[channel, channel, 1, 1] = 1
        # Means of two views: what the largest of nine leaves open of one, it may tell of them.
        for other in (channel, (channel + 2) % 16):
            last.weight[16 + channel, other, 1, 1] = 0.5


def _above_stem(*blocks: Any) -> Iterator[tuple[Any, Any]]:
    for block in blocks:
        yield block.conv1, block.bn1
        yield block.conv2, block.bn2
        if hasattr(block, "conv3"):
            yield block.conv3, block.bn3
