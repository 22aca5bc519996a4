"""Metrics as tables for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

Scopes = Mapping[str, Any]
"""``{"pooled": .., "macro": .., "centers": ..}`` of one task and split, as in ``metrics.json``."""

HEADLINES: Mapping[str, tuple[str, ...]] = {
    "segmentation": ("dsc", "nsd", "hd95"),
    "erosion": ("auroc", "auprc", "bacc"),
}


def comparison(task: str, metric: str, arms: Mapping[str, Scopes]) -> Table:
    """Lay one metric of several arms side by side, a row a center, then macro and pooled.

    Args:
        task: Name, for the title.
        metric: Key in lower case, such as ``dsc``.
        arms: Column title to the scopes of one split; an arm without the metric shows a dash.
    """
    table = Table(title=f"{task}: {metric.upper()} on the test split, 95 % interval by patient", title_justify="left")
    table.add_column("center")
    table.add_column("patients", justify="right")
    for name in arms:
        table.add_column(name, justify="right")
    first = next(iter(arms.values()))
    for center in sorted(first["centers"]):
        entries = [scopes["centers"].get(center, {}).get(metric) for scopes in arms.values()]
        table.add_row(center, _patients(entries[0]), *map(estimate_text, entries))
    table.add_section()
    for scope in ("macro", "pooled"):
        entries = [scopes[scope].get(metric) for scopes in arms.values()]
        table.add_row(scope, _patients(entries[0]), *map(estimate_text, entries))
    return table


def overview(task: str, split: str, scopes: Scopes) -> Table:
    """Lay a task's main metrics side by side, a row a center, then macro and pooled."""
    metrics = [metric for metric in HEADLINES.get(task, ()) if metric in scopes["pooled"]] or sorted(
        metric for metric in scopes["pooled"] if metric != "by"
    )
    table = Table(title=f"{task} on the {split} split, 95 % interval by patient", title_justify="left")
    table.add_column("center")
    table.add_column("patients", justify="right")
    for metric in metrics:
        table.add_column(metric, justify="right")
    rows = [(center, scopes["centers"][center]) for center in sorted(scopes["centers"])]
    for name, values in (*rows, ("macro", scopes["macro"]), ("pooled", scopes["pooled"])):
        table.add_row(
            name, _patients(values.get(metrics[0])), *(estimate_text(values.get(metric)) for metric in metrics)
        )
    return table


def estimate_text(entry: Mapping[str, Any] | None) -> str:
    """Return value and interval, a dash for what was not measured, or why there is no value.

    >>> estimate_text({"value": 0.9123, "ci": [0.9, 0.925], "n": 30})
    '.912 (.900-.925)'
    >>> estimate_text({"value": None, "ci": None, "n": 3, "reason": "one class only"})
    'not estimable: one class only'
    """
    if entry is None:
        return "-"
    if entry["value"] is None:
        return f"not estimable: {entry['reason']}"
    if entry["ci"] is None:
        return _short(entry["value"])
    low, high = map(_short, entry["ci"])
    return f"{_short(entry['value'])} ({low}-{high})"


def _short(value: float) -> str:
    """Return three digits behind the point, without the zero before it."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def _patients(entry: Mapping[str, Any] | None) -> str:
    return "-" if entry is None else str(entry["n"])
