"""A federated method, as data."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ramw_fed.config import RunConfig
from ramw_fed.errors import ConfigError
from ramw_fed.learning.corrections import Correction

Weights = Mapping[str, Tensor]
"""A network's state dict on the CPU."""


def everything(names: Collection[str]) -> frozenset[str]:
    """Share every tensor."""
    return frozenset(names)


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
        shared: From all names of a state dict to those whose tensors travel and are averaged; the others are the
            center's own: they never leave it, and every round goes on from those that it had.
        aggregate: ``(start, ends, shares) -> weights``, over the shared tensors.
    """

    name: str
    correction: Callable[[list[nn.Parameter], RunConfig], Correction | None] = no_correction
    shared: Callable[[Collection[str]], frozenset[str]] = everything
    aggregate: Callable[[Weights, Mapping[str, Weights], Mapping[str, float]], dict[str, Tensor]] = weighted_mean

    @property
    def keeps_own(self) -> bool:
        """Whether any tensor may stay at a center: one that takes no part then has none."""
        return self.shared is not everything

    def part(self, weights: Weights) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return (the tensors that travel, the center's own)."""
        shared = self.shared(list(weights))
        return (
            {name: tensor for name, tensor in weights.items() if name in shared},
            {name: tensor for name, tensor in weights.items() if name not in shared},
        )

    def refuse_unfit(self, task: str, names: Collection[str]) -> None:
        """Refuse a network, by the names of its state dict, of which nothing would be a center's own, or all.

        Raises:
            ConfigError: The method would be FedAvg under another name, or no federation.
        """
        shared = self.shared(names)
        if self.keeps_own and len(shared) == len(names):
            raise ConfigError(
                f"method {self.name!r} leaves batch normalisation at the centers, and the {task} network has none: it "
                f"would be FedAvg under another name; set {task}.norm = 'batch', or take another method"
            )
        if not shared:
            raise ConfigError(f"method {self.name!r} shares no tensor of the {task} network; take another method")
