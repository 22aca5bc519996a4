"""FedBN: FedAvg of all but batch normalisation, which stays at the center with its scale, offset and statistics.

Li et al., ICLR 2021, algorithm 1, https://arxiv.org/abs/2102.07623.
"""

from collections.abc import Collection

from ramw_fed.methods.method import Method

_STATISTIC = "running_mean"


def batch_norm_tensors(names: Collection[str]) -> frozenset[str]:
    """Return the names of all tensors of batch normalisations: modules that keep a running mean.

    >>> sorted(batch_norm_tensors(["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.inner.weight"]))
    ['bn.bias', 'bn.running_mean', 'bn.weight']
    """
    modules = {_module(name) for name in names if name.rpartition(".")[2] == _STATISTIC}
    return frozenset(name for name in names if _module(name) in modules)


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _all_others(names: Collection[str]) -> frozenset[str]:
    return frozenset(names) - batch_norm_tensors(names)


FEDBN = Method(name="fedbn", shared=_all_others)
