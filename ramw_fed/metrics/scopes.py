"""The scopes of ``metrics.json``: pooled over all patients, macro over centers, and each center.

A radiograph's value is the mean over its bones that exist, a patient's the mean over the radiographs, a center's the
mean over its patients; *pooled* takes all patients of all centers, *macro* the mean of the centers' values. A scope
holds ``metric -> entry`` and ``"by" -> kind -> name -> metric -> entry``, an entry being what
:meth:`ramw_fed.metrics.estimate.Estimate.as_dict` gives. Computed from one center's rows alone it is that center's
part of the whole tree, to the byte; macro is made of those parts and nothing else.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramw_fed.metrics.estimate import Entry, Estimate, NotEstimable
from ramw_fed.metrics.ranges import range_of
from ramw_fed.statistics.intervals import Interval, Patient, interval_of_mean

Scope = dict[str, Any]
Tree = dict[str, Any]


def tree(pooled: Scope, centers: Mapping[str, Scope]) -> Tree:
    """Put the scopes of one task and split together."""
    return {
        "pooled": pooled,
        "macro": macro(centers),
        "centers": {name: centers[name] for name in sorted(centers)},
    }


def macro(centers: Mapping[str, Scope]) -> Scope:
    """Mean of the centers' values, from their scopes alone.

    A center without a value is left out and counted (``left_out``). The interval follows from the centers' own
    (square-and-add); there is none where a center with a value has no interval.

    Args:
        centers: Name of the center to its scope, which all list the same metrics.
    """
    if not centers:
        return {}
    return _macro([centers[name] for name in sorted(centers)])


def group_by_patient(centers: Sequence[str], patients: Sequence[str]) -> tuple[list[Patient], NDArray[np.int64]]:
    """Patients, sorted by center and name, and the number of each row's patient."""
    rows = list(zip(centers, patients, strict=True))
    names = sorted(set(rows))
    number = {name: index for index, name in enumerate(names)}
    return names, np.array([number[row] for row in rows], dtype=np.int64)


def _macro(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    parts = {key: [node[key] for node in nodes] for key in nodes[0]}
    return {
        key: macro_entry(part, *range_of(key)) if "value" in part[0] else _macro(part) for key, part in parts.items()
    }


def macro_entry(entries: Sequence[Mapping[str, Any]], least: float, most: float) -> Entry:
    """Mean of one entry of each center, as in :func:`macro`; the interval is cut to ``least`` and ``most``."""
    estimable = [entry for entry in entries if entry["value"] is not None]
    if not estimable:
        count = sum(entry["n"] for entry in entries)
        reasons = "; ".join(sorted({entry["reason"] for entry in entries}))
        return Estimate(value=NotEstimable(f"no center has a value: {reasons}"), n=count).as_dict()
    limits = [
        (entry["value"], Interval(low=ci[0], high=ci[1], redrawn=entry.get("redrawn", 0)), entry["n"])
        for entry in estimable
        if (ci := entry["ci"]) is not None
    ]
    return Estimate(
        value=math.fsum(entry["value"] for entry in estimable) / len(estimable),
        interval=interval_of_mean(limits).within(least, most) if len(limits) == len(estimable) else None,
        n=sum(entry["n"] for entry in estimable),
        left_out=len(entries) - len(estimable),
    ).as_dict()
