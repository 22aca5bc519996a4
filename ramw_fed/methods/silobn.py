"""SiloBN: FedAvg, scale and offset of batch normalisation included; its running statistics stay at the center.

Andreux et al., DART 2020, https://arxiv.org/abs/2008.07424.
"""

from collections.abc import Collection

from ramw_fed.methods.method import Method

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def running_statistics(names: Collection[str]) -> frozenset[str]:
    """Return the names of running means, running variances and counters of batches.

    >>> sorted(running_statistics(["conv.weight", "bn.weight", "bn.running_mean", "bn.running_var"]))
    ['bn.running_mean', 'bn.running_var']
    """
    return frozenset(name for name in names if name.rpartition(".")[2] in _STATISTICS)


def _all_others(names: Collection[str]) -> frozenset[str]:
    return frozenset(names) - running_statistics(names)


SILOBN = Method(name="silobn", shared=_all_others)
