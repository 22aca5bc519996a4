"""Terms that a federated method adds to the gradients of a center's steps."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Correction = Callable[[], None]
"""Called before each step of the optimizer; changes the parameters' ``.grad`` in place."""


def proximal(params: Iterable[Tensor], mu: float) -> Correction:
    r"""FedProx: add :math:`\mu (w - w^t)` to each gradient, the gradient of :math:`\frac{\mu}{2}\|w - w^t\|^2`.

    Li et al., MLSys 2020, eq. 2, https://arxiv.org/abs/1812.06127. Parameters only: running statistics are not learned.
    """
    params = list(params)
    start = [param.detach().clone() for param in params]

    @torch.no_grad()
    def correct() -> None:
        for param, origin in zip(params, start, strict=True):
            if param.grad is not None:
                param.grad.add_(param - origin, alpha=mu)

    return correct


def squared_drift(params: Iterable[Tensor], start: Iterable[Tensor]) -> float:
    r"""Return :math:`\|w - w^t\|^2` over all parameters, summed in float64."""
    pairs = zip(params, start, strict=True)
    return float(sum((param.detach().double() - origin.double()).square().sum() for param, origin in pairs))
