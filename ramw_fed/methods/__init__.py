"""Federated methods: one paper, one file, one line in the table."""

from collections.abc import Mapping
from types import MappingProxyType

from ramw_fed.importing import load_named
from ramw_fed.methods.fedavg import FEDAVG
from ramw_fed.methods.fedbn import FEDBN
from ramw_fed.methods.fedprox import FEDPROX
from ramw_fed.methods.method import Method, Weights, weighted_mean
from ramw_fed.methods.silobn import SILOBN

METHODS: Mapping[str, Method] = MappingProxyType(
    {"fedavg": FEDAVG, "fedprox": FEDPROX, "fedbn": FEDBN, "silobn": SILOBN}
)


def get_method(name: str) -> Method:
    """Return the built-in method called ``name``, or a user's own at ``package.file:NAME``."""
    return load_named(name, METHODS, Method, kind="method")


__all__ = ["FEDAVG", "FEDBN", "FEDPROX", "METHODS", "SILOBN", "Method", "Weights", "get_method", "weighted_mean"]
