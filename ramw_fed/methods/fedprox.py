"""FedProx: FedAvg whose centers are held near the shared weights.

Li et al., MLSys 2020, eq. 2, https://arxiv.org/abs/1812.06127. The term acts on the gradient and not in the loss,
so that it means the same where gradients are rebuilt, as under differential privacy.
"""

from torch import nn

from ramw_fed.config import RunConfig
from ramw_fed.errors import ConfigError
from ramw_fed.learning.corrections import Correction, proximal
from ramw_fed.methods.method import Method


def _correction(params: list[nn.Parameter], config: RunConfig) -> Correction | None:
    if config.proximal_mu is None:
        raise ConfigError("fedprox wants proximal-mu, a finite number of at least 0; none is set")
    return proximal(params, config.proximal_mu)


FEDPROX = Method(name="fedprox", correction=_correction)
