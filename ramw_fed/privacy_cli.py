"""The commands of ``ramw-fed privacy``: each reads arguments, calls one function of ``privacy_api``, prints."""

from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from ramw_fed import terminal
from ramw_fed.terminal import Json

privacy = typer.Typer(no_args_is_help=True, help="Plan, account for and audit the privacy of a center's patients.")


class _ShowByDefault(TyperGroup):
    """``ledger WHERE`` is ``ledger show WHERE``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take what is no command's name for where the ledger is."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


ledger = typer.Typer(
    cls=_ShowByDefault,
    no_args_is_help=True,
    help="Make a center's privacy ledger, and show what was spent from it.",
)
privacy.add_typer(ledger, name="ledger")

Where = Annotated[
    Path, typer.Argument(metavar="WHERE", help="A hospital's center.toml, a run's TOML, or the folder of a cohort.")
]


@privacy.callback()
def options() -> None:
    """Plan, account for and audit the privacy of a center's patients."""


@ledger.command()
def init(
    where: Where,
    epsilon_cap: Annotated[float, typer.Option(help="Epsilon that all that is ever computed here may not pass.")],
    delta: Annotated[float | None, typer.Option(help="By default 1 / (10 patients of the center).")] = None,
    carry_over: Annotated[
        bool,
        typer.Option("--carry-over", help="Patients joined or left, or the cap changes: begin with what was spent."),
    ] = False,
    renew: Annotated[bool, typer.Option("--renew", help="Phantoms only: forget what was spent.")] = False,
) -> None:
    """Make the ledger of a center; in a simulation that of each center, in the cohort's folder."""
    from ramw_fed import privacy_ledgers

    made = privacy_ledgers.init_ledgers(where, cap=epsilon_cap, delta=delta, carry_over=carry_over, renew=renew)
    for one in made:
        spent = "" if not one.events() else f", of which {one.epsilons().pld:.4f} is spent"
        terminal.out.print(
            f"{one.center}: {one.num_patients} patients, cap {one.cap:g} at delta {one.delta:.3g}{spent}",
            highlight=False,
        )


@ledger.command()
def show(where: Where, as_json: Json = False) -> None:
    """Print what was spent by which run, and what is left of the cap."""
    from ramw_fed import privacy_ledgers
    from ramw_fed.report.ledger_table import ledger_table

    found, without = privacy_ledgers.open_ledgers(where)
    if without:
        terminal.note([f"no ledger: {', '.join(without)}"])
    raw = {"ledgers": [one.as_dict() for one in found], "without": without}
    terminal.show(raw, [ledger_table(one) for one in found], as_json)
