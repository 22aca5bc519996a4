"""Two ways from an update to an image: read it out of prepared weights, or search one with the same gradient."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ramw_fed.data.transforms import standardize
from ramw_fed.learning.losses import Loss
from ramw_fed.privacy.inversion.prepared import PLACES, READ, stem_features

Weights = Mapping[str, Tensor]

# Channels and places behind which no signal is left are not read.
_LEAST_SIGNAL = 1e-3
_PASSES, _SEARCH_STEPS, _SEARCH_RATE, _SMOOTHNESS = 3, 200, 0.1, 0.03
# Geiping et al. search with these (their section 5): Adam on signs, whose rate falls at 3/8, 5/8 and 7/8.
_MATCH_RATE, _MATCH_SMOOTHNESS, _FALLS = 0.1, 1e-2, (3 / 8, 5 / 8, 7 / 8)


def read_image(
    network: nn.Module, before: Weights, after: Weights, identity: Tensor, target: Tensor, loss: Loss, *, seed: int
) -> Tensor:
    """Return the image ``(S, S)`` that an update from prepared weights shows, standardised.

    The change of one convolution is (sensitivity of each place) x (features of each place). The sensitivities are the
    same for every image to a thousandth, so any image gives them; dividing by them leaves the features, up to a
    factor, and an image is sought that has them. Where several images were trained on, it is their weighted mean;
    where noise was added, places count the less the more the division enlarges it.

    Args:
        network: The default erosion network.
        before: Prepared weights.
        after: Those that left the center.
        identity: ``(joints, S, S)`` the channels after the image.
        target: ``(1,)`` the label; only the sign of the change depends on it.
        loss: Of the task.
        seed: Of the image from which the search starts.
    """
    network.load_state_dict(dict(before))
    change = (before[READ] - after[READ]).flatten(1).double()
    generator = torch.Generator().manual_seed(seed)
    image = 0.1 * torch.randn(1, *identity.shape[1:], generator=generator)
    is_inside = _patches(torch.ones(1, before[READ].shape[1], 2 * PLACES, 2 * PLACES)) > 0
    sign = 1 - 2 * float(target)
    for _ in range(_PASSES):
        inverse = _inverse(_sensitivities(network, standardize(image), identity, loss))
        enlarged = inverse.norm(dim=1, keepdim=True)
        trust = is_inside * (enlarged.min() / enlarged)
        image = _search(network, image, identity, _levelled(sign * inverse @ change, trust).float(), trust.float())
    return standardize(image)[0]


def match_gradient(
    network: nn.Module,
    gradient: Sequence[Tensor],
    identity: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    steps: int,
    seed: int,
) -> Tensor:
    """Return an image ``(S, S)``, standardised, whose gradient points where ``gradient`` does.

    Zhu et al. 2019, https://arxiv.org/abs/1906.08935; with the cosine distance, total variation and signed Adam of
    Geiping et al. 2020, eq. 4, https://arxiv.org/abs/2003.14053. The label and the joint are given to the attacker.

    Args:
        network: With the weights that were sent.
        gradient: Of each parameter; where several steps were taken, the difference of the weights.
        identity: ``(joints, S, S)`` the channels after the image.
        target: ``(1,)`` the label.
        loss: Of the task.
        steps: Of the search.
        seed: Of the image from which it starts.
    """
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(1, *identity.shape[1:], generator=generator).requires_grad_()
    params = [param for param in network.parameters() if param.requires_grad]
    length = _length(gradient)

    def distance() -> Tensor:
        seen = standardize(image)
        value = loss(network(torch.cat([seen, identity])[None]), target)
        own = torch.autograd.grad(value, params, create_graph=True)
        product = torch.stack([(one * two).sum() for one, two in zip(gradient, own, strict=True)]).sum()
        return 1 - product / (length * _length(own)).clamp(min=1e-30) + _MATCH_SMOOTHNESS * _variation(seen)

    _descend(image, distance, steps, rate=_MATCH_RATE, falls=_FALLS, signed=True)
    return standardize(image.detach())[0]


def _sensitivities(network: nn.Module, image: Tensor, identity: Tensor, loss: Loss) -> Tensor:
    """Return ``(channels, places)``: how the loss changes with what the convolution that is read writes."""
    held: dict[str, Tensor] = {}

    def hold(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        held["output"] = output

    handle = network.get_submodule(READ.removesuffix(".weight")).register_forward_hook(hold)
    try:
        value = loss(network(torch.cat([image, identity])[None]), torch.zeros(1))
        (sensitivities,) = torch.autograd.grad(value, [held["output"]])
    finally:
        handle.remove()
    return sensitivities[0].flatten(1).double()


def _inverse(sensitivities: Tensor) -> Tensor:
    """Return ``(places, channels)``: times the change it gives the features, in the sense of least squares."""
    left, values, right = torch.linalg.svd(sensitivities, full_matrices=False)
    inverse: Tensor = (right.T * torch.where(values > _LEAST_SIGNAL * values[0], 1 / values, 0.0)) @ left.T
    return inverse


def _levelled(features: Tensor, trust: Tensor, by: Tensor | None = None) -> Tensor:
    """Return features without mean and spread, those of ``by``: clipping and the other images' labels change both."""
    by = features if by is None else by
    total = trust.sum()
    mean = (trust * by).sum() / total
    spread = ((trust * (by - mean) ** 2).sum() / total).sqrt()
    return (features - mean) / spread.clamp(min=1e-30)


def _features_of(network: nn.Module, image: Tensor, identity: Tensor) -> Tensor:
    return _patches(stem_features(network, torch.cat([image, identity])[None]))


def _patches(features: Tensor) -> Tensor:
    return functional.unfold(features, 3, padding=1, stride=2)[0].T


def _search(network: nn.Module, start: Tensor, identity: Tensor, wanted: Tensor, trust: Tensor) -> Tensor:
    image = start.clone().requires_grad_()

    def distance() -> Tensor:
        seen = standardize(image)
        own = _features_of(network, seen, identity)
        gaps = trust * (_levelled(own, trust, own.detach()) - wanted)
        return gaps.abs().sum() / trust.sum() + _SMOOTHNESS * _variation(seen)

    _descend(image, distance, _SEARCH_STEPS, rate=_SEARCH_RATE, falls=(0.5, 0.75, 0.9), signed=False)
    return image.detach()


def _descend(
    image: Tensor,
    distance: Callable[[], Tensor],
    steps: int,
    *,
    rate: float,
    falls: Sequence[float],
    signed: bool,
) -> None:
    optimizer = torch.optim.Adam([image], lr=rate)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(share * steps) for share in falls], 0.1)
    for _ in range(steps):
        (slope,) = torch.autograd.grad(distance(), [image])
        image.grad = slope.sign() if signed else slope
        optimizer.step()
        schedule.step()


def _variation(image: Tensor) -> Tensor:
    """Total variation, a pixel's mean: pictures of bodies are smooth."""
    down, across = image[:, 1:] - image[:, :-1], image[:, :, 1:] - image[:, :, :-1]
    return down.abs().mean() + across.abs().mean()


def _length(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum().sqrt()
