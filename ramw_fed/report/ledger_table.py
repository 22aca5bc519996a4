"""A center's privacy ledger as a table for a terminal."""

from rich.table import Table

from ramw_fed.privacy.spending import RunSpending, Spending
from ramw_fed.wording import counted


def ledger_table(spending: Spending) -> Table:
    """Lay out what was spent, a row a run; below it the cap and what three accountants make of all of it."""
    title = f"{spending.center}: {counted(spending.patients, 'patient')}, ledger {spending.ledger}"
    table = Table(title=title, title_justify="left", caption=_totals(spending), caption_justify="left")
    table.add_column("run", no_wrap=True)  # a manifest's run is looked for by it
    table.add_column("tasks")
    for name in ("rounds", "steps", "released", "reserved", "epsilon after"):
        table.add_column(name, justify="right")
    table.add_column("", no_wrap=True)
    for run in spending.runs:
        numbers = (run.rounds, run.steps, run.released, run.reserved)
        table.add_row(run.run, ", ".join(run.tasks), *map(str, numbers), f"{run.epsilon:.4f}", _remark(run))
    return table


def _remark(run: RunSpending) -> str:
    said = {"seeded: no privacy": run.is_seeded, "carried over": run.is_carried}
    return ", ".join(words for words, is_so in said.items() if is_so)


def _totals(spending: Spending) -> str:
    found = spending.epsilon
    return (
        f"cap {spending.cap:g} at delta {spending.delta:.3g}; spent {found.pld:.4f} (PLD, which decides; PRV "
        f"{found.prv:.4f}, RDP {found.rdp:.4f}), left {spending.left:.4f}"
    )
