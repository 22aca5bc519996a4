"""What a line of ``rounds.jsonl`` says of a round's updates and of what was refused."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from ramw_fed.center import Update
from ramw_fed.federation.validation import Sifted
from ramw_fed.methods.method import Weights
from ramw_fed.tasks.task import Sums


def center_record(start: Weights, update: Update, mean: Weights, learned: Sequence[str], norm: float) -> dict[str, Any]:
    """Return what is kept of a valid update.

    Args:
        start: Weights that the round began with.
        update: The center's.
        mean: Weights that the round ended with.
        learned: Names of the tensors that an optimizer moves.
        norm: Length of the update over them.
    """
    names = ("examples", "steps", "loss", "squared_drift", "seconds", "worker", "device")
    charge = {"privacy": asdict(update.charge)} if update.charge else {}
    return {
        **charge,
        **{name: getattr(update, name) for name in names},
        "update_norm": norm,
        "cosine": cosine(start, update.weights, mean, learned),
        "bytes_up": sum(tensor.nbytes for tensor in update.weights.values()),
    }


def rejection_records(sifted: Sifted[Any], task: str) -> list[dict[str, Any]]:
    """Return what was refused of ``task``, and what does not say of which task it is."""
    return [asdict(rejection) for rejection in sifted.rejections if rejection.task in (task, "")]


def add_sums(sums: Mapping[str, Sums]) -> dict[str, float]:
    """Return the sums of all centers without their details, added in the order of the centers' names."""
    total: dict[str, float] = {}
    for center in sorted(sums):
        for name, value in sorted(sums[center].items()):
            if "/" not in name:
                total[name] = total.get(name, 0.0) + value
    return total


def is_learned(name: str, tensor: Tensor) -> bool:
    """Whether the optimizer moves this tensor; running statistics and counters are not learned."""
    return tensor.dtype.is_floating_point and not name.endswith(("running_mean", "running_var"))


def cosine(start: Weights, end: Weights, mean: Weights, names: Sequence[str]) -> float:
    """Return the cosine of the angle between a center's update and the mean update; 0 where one of them is zero."""
    product = own = shared = 0.0
    for name in names:
        change, together = (end[name] - start[name]).flatten(), (mean[name] - start[name]).flatten()
        product += float(change @ together)
        own += float(change @ change)
        shared += float(together @ together)
    length = (own * shared) ** 0.5
    return product / length if 0 < length < float("inf") and math.isfinite(product) else 0.0
