"""Metrics as tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from ramw_fed.report.digits import chance, short

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
    first, reasons = next(iter(arms.values())), list[str]()
    for center in sorted(first["centers"]):
        entries = [scopes["centers"].get(center, {}).get(metric) for scopes in arms.values()]
        table.add_row(center, _patients(entries[0]), *(estimate_text(entry, reasons) for entry in entries))
    table.add_section()
    for scope in ("macro", "pooled"):
        entries = [scopes[scope].get(metric) for scopes in arms.values()]
        table.add_row(scope, _patients(entries[0]), *(estimate_text(entry, reasons) for entry in entries))
    return with_reasons(table, reasons)


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
    reasons: list[str] = []
    rows = [(center, scopes["centers"][center]) for center in sorted(scopes["centers"])]
    for name, values in (*rows, ("macro", scopes["macro"]), ("pooled", scopes["pooled"])):
        cells = [estimate_text(values.get(metric), reasons) for metric in metrics]
        table.add_row(name, _patients(values.get(metrics[0])), *cells)
    return with_reasons(table, reasons)


def differences(arms: Sequence[Mapping[str, Any]], tasks: Mapping[str, Mapping[str, Scopes]]) -> Table:
    """Lay the differences of two arms out, a row a measure and scope; reasons stand below, each once.

    Args:
        arms: ``folder`` and ``kind`` of A and B.
        tasks: ``{task: {split: scopes}}`` whose entries hold ``first`` and ``second`` beside the difference.
    """
    named = ", ".join(f"{name} = {arm['folder']} ({arm['kind']})" for name, arm in zip("AB", arms, strict=True))
    table = Table(title=f"A against B, paired by patient: {named}", title_justify="left")
    for name in ("measure", "where"):
        table.add_column(name, no_wrap=True)
    for name in ("patients", "A", "B", "A - B (95 % interval)", "p", "p (Holm)", "effect r"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reading")
    reasons: list[str] = []
    for scopes in (scopes for splits in tasks.values() for scopes in splits.values()):
        for metric in scopes["pooled"]:
            rows = [("pooled", scopes["pooled"]), ("macro", scopes["macro"]), *scopes["centers"].items()]
            for place, (where, scope) in enumerate(rows):
                table.add_row("" if place else metric, where, *_difference_cells(scope[metric], reasons))
            table.add_section()
    return with_reasons(table, reasons)


def _difference_cells(entry: Mapping[str, Any], reasons: list[str]) -> list[str]:
    """Return the cells from ``patients`` on; a reason is added to ``reasons`` and its number shown."""
    if entry["value"] is None:
        return [str(entry["n"]), *["-"] * 6, estimate_text(entry, reasons)]
    effect = entry.get("rank_biserial")
    return [
        str(entry["n"]),
        *(short(entry[arm]) for arm in ("first", "second")),
        estimate_text(entry, reasons),
        *(chance(entry.get(name)) for name in ("p", "p_holm")),
        "-" if effect is None else short(effect),
        entry.get("reading", "-"),
    ]


def with_reasons(table: Table, reasons: Sequence[str]) -> Table:
    """Put the reasons below the table, each once: a column of them would be wider than a terminal."""
    table.caption_justify = "left"
    table.caption = "\n".join(f"({number}) {reason}" for number, reason in enumerate(reasons, start=1)) or None
    return table


def estimate_text(entry: Mapping[str, Any] | None, reasons: list[str]) -> str:
    """Return value and interval, a dash for what was not measured, or the number of the reason why there is none.

    >>> estimate_text({"value": 0.9123, "ci": [0.9, 0.925], "n": 30}, [])
    '.912 (.900-.925)'
    >>> estimate_text({"value": -0.01, "ci": [-0.02, 0.005], "n": 30}, [])
    '-.010 (-.020 to .005)'
    >>> estimate_text({"value": None, "ci": None, "n": 3, "reason": "one class only"}, ["no radiographs"])
    'not estimable (2)'
    """
    if entry is None:
        return "-"
    if entry["value"] is None:
        if entry["reason"] not in reasons:
            reasons.append(entry["reason"])
        return f"not estimable ({reasons.index(entry['reason']) + 1})"
    if entry["ci"] is None:
        return short(entry["value"])
    low, high = map(short, entry["ci"])
    between = " to " if "-" in low + high else "-"
    return f"{short(entry['value'])} ({low}{between}{high})"


def _patients(entry: Mapping[str, Any] | None) -> str:
    return "-" if entry is None else str(entry["n"])
