"""A study's answers as tables for a terminal: arms, declared contrasts, and where the designs look beyond them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from ramw_fed.report.console import estimate_text, with_reasons
from ramw_fed.report.digits import chance, short

Answers = Mapping[str, Any]


def study_tables(analysis: Answers) -> list[Table]:
    """Return the tables of ``analysis.json``, a design after the other."""
    designs = analysis["designs"]
    shown = []
    if "matched-arms" in designs:
        shown += [_arms(designs["matched-arms"]), _contrasts(designs["matched-arms"])]
    if "cross-site-matrix" in designs:
        shown += [_matrix(*found) for found in _each(designs["cross-site-matrix"])]
    if "leave-one-center-out" in designs:
        shown.append(_held_out(designs["leave-one-center-out"]))
    for design, across in (("scale-up", "centers"), ("dose-response", "dose")):
        shown += [_series(design, across, *found) for found in _each(designs.get(design, {}))]
    return [table for table in shown if table.row_count]


def power_table(rows: Sequence[Answers]) -> Table:
    """Return the plan as a table for a terminal."""
    table = Table(
        title="smallest difference found with power .8 (two-sided, Holm over all contrasts)",
        caption="seeds are no patients: more of them steady a model's value, and find no smaller difference than this",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("metric", "contrast", "test patients", "contrasts", "smallest difference", "from"):
        table.add_column(name, justify="right" if name in ("test patients", "contrasts") else "left")
    for row in rows:
        smallest = "none that the metric allows" if row["smallest"] is None else f"{row['smallest']:.3f}"
        numbers = (str(row["patients"]), str(row["contrasts"]), smallest)
        table.add_row(row["metric"], row["contrast"], *numbers, row["basis"])
    return table


def _arms(tasks: Answers) -> Table:
    table = _table("local, central, federated (95 % interval by patient; mean over seeds)", "measure", "arm")
    for name in ("pooled", "within centers", "macro", "worst center", "harmed", "SD of seeds"):
        table.add_column(name, justify="right")
    reasons: list[str] = []
    for _, metric, found in _each(tasks):
        for place, (arm, scopes) in enumerate(found["arms"].items()):
            fair = found["fairness"][arm]
            values = [estimate_text(scopes[scope], reasons) for scope in ("pooled", "within", "macro")]
            worst = f"{fair['worst_center']} {short(fair['worst'])}" if "worst" in fair else "-"
            deviation = "-" if scopes["seed_sd"] is None else short(scopes["seed_sd"])
            table.add_row("" if place else metric, arm, *values, worst, ", ".join(fair.get("harmed", [])), deviation)
        table.add_section()
    return with_reasons(table, reasons)


def _contrasts(tasks: Answers) -> Table:
    table = _table("declared contrasts, paired by patient (Holm over all of them)", "measure", "contrast")
    for name in ("where", "difference", "p (Holm)", "reading", "margin"):
        table.add_column(name)
    reasons: list[str] = []
    for _, metric, found in _each(tasks):
        for entry in found["contrasts"]:
            judged = entry.get("equivalence")
            margin = f"{judged['verdict']} ({judged['margin']:g})" if judged else "-"
            said = (chance(entry.get("p_holm")), entry.get("reading", "-"), margin)
            names = (metric, " - ".join(entry["arms"]), entry["scope"])
            table.add_row(*names, estimate_text(entry, reasons), *said)
    return with_reasons(table, reasons)


def _matrix(task: str, metric: str, found: Answers) -> Table:
    reasons: list[str] = []
    gap = estimate_text(found["gap"], reasons)
    table = _table(f"{task}, {metric}: trained here (row), tested there; home less strangers {gap}", "trained")
    for column in found["columns"]:
        table.add_column(column, justify="right")
    for row in found["rows"]:
        cells = [found["cells"][row][column]["value"] for column in found["columns"]]
        table.add_row(row, *("-" if value is None else short(value) for value in cells))
    return with_reasons(table, reasons)


def _held_out(tasks: Answers) -> Table:
    table = _table("a center that nobody trained on", "measure", "arm")
    for name in ("mean over centers held out", "lowest", "member less stranger"):
        table.add_column(name, justify="right")
    reasons: list[str] = []
    for _, metric, found in _each(tasks):
        for place, (arm, answers) in enumerate(found.items()):
            known = {name: one["value"] for name, one in answers["centers"].items() if one["value"] is not None}
            lowest = min(known, key=lambda name: known[name], default="")
            table.add_row(
                "" if place else metric,
                arm,
                estimate_text(answers["macro"], reasons),
                f"{lowest} {short(known[lowest])}" if known else "-",
                estimate_text(answers["loss"], reasons),
            )
        table.add_section()
    return with_reasons(table, reasons)


def _series(design: str, across: str, task: str, metric: str, found: Answers) -> Table:
    table = _table(f"{design}: {task}, {metric}", "arm")
    steps = list(dict.fromkeys(step for series in found.values() for step in series))
    for step in steps:
        table.add_column(f"{across} {step}", justify="right")
    reasons: list[str] = []
    for arm, series in found.items():
        table.add_row(arm, *(estimate_text(series.get(step), reasons) for step in steps))
    return with_reasons(table, reasons)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _each(tasks: Answers) -> list[tuple[str, str, Any]]:
    return [(task, metric, found) for task, metrics in tasks.items() for metric, found in metrics.items()]
