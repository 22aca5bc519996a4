"""A federated method, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ramw_fed.config import RunConfig
from ramw_fed.learning.corrections import Correction

Weights = Mapping[str, Tensor]
"""A network's state dict on the CPU."""


def everything(_name: str) -> bool:
    """Share every tensor."""
    return True


def no_correction(_params: list[nn.Parameter], _config: RunConfig) -> Correction | None:
    """Leave the gradients as they are."""
    return None


def weighted_mean(start: Weights, ends: Mapping[str, Weights], shares: Mapping[str, float]) -> dict[str, Tensor]:
    r"""FedAvg: :math:`w + \sum_k p_k (w_k - w)` in float64, over centers sorted by name, cast last.

    McMahan et al., AISTATS 2017, algorithm 1, https://arxiv.org/abs/1602.05629. Integer tensors (BatchNorm's counters)
    keep their type and take the largest value: a mean of counters means nothing.

    Args:
        start: Weights that the round began with.
        ends: Center name to its weights after the round; at least one.
        shares: Center name to a non-negative number, such as its patients; scaled to sum 1 over ``ends``.
    """
    names = sorted(ends)
    if len(names) == 1:  # w + (w_k - w) is w_k only up to its last bit
        return {key: ends[names[0]][key].clone() for key in start}
    total = sum(shares[name] for name in names)
    mean: dict[str, Tensor] = {}
    for key, origin in start.items():
        if not origin.dtype.is_floating_point:
            mean[key] = torch.stack([ends[name][key] for name in names]).amax(dim=0)
            continue
        base = origin.double()
        change = torch.zeros_like(base)
        for name in names:
            change += (shares[name] / total) * (ends[name][key].double() - base)
        mean[key] = (base + change).to(origin.dtype)
    return mean


@dataclass(frozen=True, kw_only=True)
class Method:
    """FedAvg, and where another method departs from it.

    Attributes:
        name: As the configuration spells it.
        correction: Made at the start of a center's round from (parameters, config); called before each step.
        is_shared: Which tensors, by state-dict key, travel and are averaged; the others stay at the center.
        aggregate: ``(start, ends, shares) -> weights``, over the shared tensors.
    """

    name: str
    correction: Callable[[list[nn.Parameter], RunConfig], Correction | None] = no_correction
    is_shared: Callable[[str], bool] = everything
    aggregate: Callable[[Weights, Mapping[str, Weights], Mapping[str, float]], dict[str, Tensor]] = weighted_mean
