"""Two arms against each other: what differs, by how much, and whether chance would do as well.

A task's scopes have the form of ``metrics.json``; each entry is the difference, first less second:

* ``value``, ``ci``, ``n``: difference, 95 % interval, patients behind it; or ``value`` null and a ``reason``.
* ``first``, ``second``: the arms' own values over these patients.
* ``p``, ``p_holm``, ``test``, ``reading``: not for macro, whose interval says it all.
* ``rank_biserial``, ``unchanged``: of signed ranks only.

Pooled tests are one family of Holm's, over all metrics asked for; the tests at single centers are another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.table import Table as Shown

from ramw_fed.arms import Arm, pair, remarks
from ramw_fed.errors import ConfigError, PredictionError
from ramw_fed.metrics.classification import CLASSIFICATION_METRICS
from ramw_fed.metrics.erosion_pairs import erosion_differences
from ramw_fed.metrics.ranges import range_of
from ramw_fed.metrics.scopes import macro_entry
from ramw_fed.metrics.segmentation_pairs import segmentation_differences
from ramw_fed.metrics.surface import SEGMENTATION_COUNTS, SEGMENTATION_METRICS
from ramw_fed.report.console import differences
from ramw_fed.statistics.comparison import holm
from ramw_fed.tasks.task import Table

Entry = dict[str, Any]
Scopes = dict[str, Any]

TEST_RESAMPLES = 10_000
"""More than an interval needs: the smallest p-value is about as many times rarer, and Holm multiplies it."""

METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "segmentation": (*SEGMENTATION_METRICS, *SEGMENTATION_COUNTS),
        "erosion": tuple(name for name in CLASSIFICATION_METRICS if name != "prevalence"),  # the truth's, not an arm's
    }
)
HEADLINES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"segmentation": ("dsc", "nsd", "hd95"), "erosion": ("auroc", "auprc", "sen", "spc")}
)
_LESS_IS_BETTER = frozenset({"voe", "msd", "hd95", "ravd", "missing", "false", "brier", "ece", "mae"})
_NEITHER_IS_BETTER = frozenset({"slope", "intercept", "both_empty"})


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two arms differ in.

    Attributes:
        first: Arm A.
        second: Arm B.
        tasks: ``{task: {split: scopes}}``; see the module for the entries.
        remarks: In words, what a reader must know.
    """

    first: Arm
    second: Arm
    tasks: Mapping[str, Mapping[str, Scopes]]
    remarks: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        arms = {"first": self.first.as_dict(), "second": self.second.as_dict()}
        return {"arms": arms, "tasks": self.tasks, "remarks": list(self.remarks)}

    def table(self) -> Shown:
        """Return a table for a terminal."""
        return differences([self.first.as_dict(), self.second.as_dict()], self.tasks)


def compare_arms(
    first: Arm,
    second: Arm,
    *,
    tasks: Sequence[str] = (),
    metrics: Sequence[str] = (),
    seed: int = 0,
    resamples: int = TEST_RESAMPLES,
) -> Comparison:
    """Compare two arms.

    Args:
        first: Arm A; a difference is A less B.
        second: Arm B.
        tasks: Of ``METRICS``; empty: all that both arms measured.
        metrics: Of ``METRICS``; empty: ``HEADLINES``. All that are asked for are one family of tests.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Raises:
        ConfigError: There is no such task or metric.
        PredictionError: The arms do not cover the same patients, or have no task in common.
    """
    wanted = _wanted(first, second, tasks, metrics)
    said = remarks(first, second)
    found: dict[str, dict[str, Scopes]] = {}
    for task, names in wanted.items():
        parts = {where: (one, other) for where, one, other in _parts(*pair(first, second, task))}
        if task == "segmentation":
            own = {where: segmentation_differences(*rows, names) for where, rows in parts.items()}
        else:
            thresholds = (first.knobs["threshold"], second.knobs["threshold"])
            measure = partial(erosion_differences, thresholds=thresholds, seed=seed, resamples=resamples)
            own = {where: measure(*rows, names) for where, rows in parts.items()}
        found[task] = {first.splits[task]: _scopes(own, names)}
    _adjust(found)
    if "erosion" in wanted and first.knobs["threshold"] != second.knobs["threshold"]:
        said.append(
            f"each arm calls joints eroded from its own threshold: A {first.knobs['threshold']:g}, "
            f"B {second.knobs['threshold']:g}"
        )
    return Comparison(first=first, second=second, tasks=found, remarks=[*said, *_tests(found)])


def _wanted(first: Arm, second: Arm, tasks: Sequence[str], metrics: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return which metrics of which tasks to compare."""
    unknown = [name for name in tasks if name not in METRICS]
    unknown += [name for name in metrics if not any(name in known for known in METRICS.values())]
    if unknown:
        known = "; ".join(f"{task}: {', '.join(names)}" for task, names in METRICS.items())
        raise ConfigError(f"no task or metric is called {', '.join(map(repr, unknown))}; there are {known}")
    common = [task for task in METRICS if task in first.splits and task in second.splits]
    absent = [task for task in tasks if task not in common]
    if absent or not common:
        held = "; ".join(f"{arm.path} measured {', '.join(sorted(arm.splits))}" for arm in (first, second))
        raise PredictionError(f"both arms must have measured {', '.join(absent) or 'one task'}: {held}")
    chosen = {task: tuple(name for name in METRICS[task] if name in metrics) for task in tasks or common}
    if not metrics:
        return {task: HEADLINES[task] for task in chosen}
    if empty := [task for task in tasks if not chosen[task]]:
        raise ConfigError(f"none of the metrics {', '.join(metrics)} is one of {', '.join(empty)}")
    if not any(chosen.values()):
        raise ConfigError(f"the metrics {', '.join(metrics)} belong to no task that both arms measured")
    return {task: names for task, names in chosen.items() if names}


def _parts(one: Table, other: Table) -> Iterable[tuple[str, Table, Table]]:
    """Yield all rows under the name "", then each center's."""
    yield "", one, other
    for center in sorted(set(one["center"].tolist())):
        rows = one["center"] == center
        yield center, *({name: column[rows] for name, column in table.items()} for table in (one, other))


def _scopes(parts: Mapping[str, Mapping[str, Entry]], metrics: Sequence[str]) -> Scopes:
    centers = {where: dict(entries) for where, entries in parts.items() if where}
    macro = {metric: _macro([centers[where][metric] for where in sorted(centers)], metric) for metric in metrics}
    return {"pooled": dict(parts[""]), "macro": macro, "centers": centers}


def _macro(entries: Sequence[Entry], metric: str) -> Entry:
    """Mean of the centers' differences, in the way of all macro values."""
    least, most = range_of(metric)
    entry = macro_entry(entries, least - most, most - least)
    estimable = [one for one in entries if one["value"] is not None]
    if estimable:
        entry |= {arm: float(np.mean([one[arm] for one in estimable])) for arm in ("first", "second")}
    return entry


def _adjust(found: Mapping[str, Mapping[str, Scopes]]) -> None:
    """Add Holm's p-values and what they mean, pooled as one family and the centers' as another."""
    trees = [scopes for splits in found.values() for scopes in splits.values()]
    pooled = [(metric, entry) for tree in trees for metric, entry in tree["pooled"].items()]
    single = [item for tree in trees for scope in tree["centers"].values() for item in scope.items()]
    for family in (pooled, single):
        for (metric, entry), p in zip(family, holm([entry.get("p") for _, entry in family]), strict=True):
            if p is not None:
                entry |= {"p_holm": p, "reading": reading(metric, entry["value"], p)}


def better(metric: str) -> int:
    """Return 1 where more of a metric is better, else -1."""
    return -1 if metric in _LESS_IS_BETTER else 1


def reading(metric: str, value: float, p: float) -> str:
    """Return in words what a difference A less B with this adjusted p-value shows."""
    if p > 0.05 or not value:
        return "no difference shown"
    if metric in _NEITHER_IS_BETTER:
        return "A larger" if value > 0 else "B larger"
    return "A better" if (value < 0) == (metric in _LESS_IS_BETTER) else "B better"


def _tests(found: Mapping[str, Mapping[str, Scopes]]) -> list[str]:
    """Return which test each pooled p-value is of, and how many values could not be paired."""
    said: list[str] = []
    for task, splits in found.items():
        for scopes in splits.values():
            by_test: dict[str, list[str]] = {}
            for metric, entry in scopes["pooled"].items():
                if "test" in entry:
                    by_test.setdefault(entry["test"], []).append(metric)
                if entry.get("unpaired"):
                    said.append(f"{task}: {metric} leaves out {entry['unpaired']} bones that only one arm found")
            said += [f"{task}: {', '.join(metrics)} by {test}" for test, metrics in by_test.items()]
    return said
