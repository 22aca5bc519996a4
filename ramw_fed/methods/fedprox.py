"""FedProx: FedAvg whose centers are held near the shared weights.

Li et al., MLSys 2020, eq. 2, https://arxiv.org/abs/1812.06127. The term acts on the gradient and not in the loss,
so that it means the same where gradients are rebuilt, as under differential privacy.
"""

from torch import nn

from ramw_fed.config import RunConfig
from ramw_fed.knobs import required
from ramw_fed.learning.corrections import Correction, proximal
from ramw_fed.methods.method import Method


def _correction(params: list[nn.Parameter], config: RunConfig) -> Correction | None:
    return proximal(params, required(config.proximal_mu, "proximal-mu"))


FEDPROX = Method(name="fedprox", correction=_correction)
