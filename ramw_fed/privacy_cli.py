"""The commands of ``ramw-fed privacy``: each reads arguments, calls one function of ``privacy_api``, prints."""

from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from ramw_fed import terminal
from ramw_fed.errors import ConfigError
from ramw_fed.report.bars import progress
from ramw_fed.terminal import Json, Setting

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


@privacy.command()
def plan(
    config: Annotated[Path | None, typer.Argument(help="TOML file of a run: a plan for each center of it.")] = None,
    cohort: Annotated[Path | None, typer.Option(help="CONFIG: folder of a cohort; by default its phantom.")] = None,
    set_: Setting = None,
    patients: Annotated[int | None, typer.Option(help="In place of CONFIG: patients of the center.")] = None,
    patients_per_step: Annotated[float | None, typer.Option(help="Patients drawn for a step, on average.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps over all rounds.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Epsilon that is not passed.")] = None,
    delta: Annotated[float | None, typer.Option(help="By default 1 / (10 patients).")] = None,
    as_json: Json = False,
) -> None:
    """Solve the noise for an epsilon, for each center, and say what the guarantee is worth."""
    from ramw_fed import privacy_api
    from ramw_fed.report.privacy_plan import plan_page

    numbers = {"patients": patients, "patients-per-step": patients_per_step, "steps": steps, "epsilon": epsilon}
    given = [f"--{name}" for name, value in (*numbers.items(), ("delta", delta)) if value is not None]
    if config is not None:
        if given:
            raise ConfigError(f"{', '.join(given)} are for a plan without CONFIG; change the run's knobs by --set")
        with progress(terminal.err) as watch:
            plans = privacy_api.plan_run(terminal.configure(config, set_, cohort=cohort), watch=watch)
        raw = {"centers": [one.as_dict() for one in plans]}
        terminal.show(raw, plan_page(plans), as_json)
        return
    if patients is None or patients_per_step is None or steps is None or epsilon is None:
        missing = ", ".join(f"--{name}" for name, value in numbers.items() if value is None)
        raise ConfigError(f"give the TOML file of a run, or {missing} as well")
    if cohort is not None or set_:
        raise ConfigError("--cohort and --set are for a plan of a run's CONFIG; give its TOML file")
    one = privacy_api.plan_steps(patients, patients_per_step, steps, target=epsilon, delta=delta)
    terminal.show(one.as_dict(), plan_page([one]), as_json)


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


@privacy.command()
def audit(
    config: Annotated[Path | None, typer.Argument(help="TOML file of a private run; by default the defaults.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="What is claimed; by default the run's target, else 3.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for audit.json and the pictures of reconstruction.")] = None,
    set_: Setting = None,
    as_json: Json = False,
) -> None:
    """Attack the installed training, and measure what its guarantee rests on; exit status 1 where a claim fails."""
    from ramw_fed import privacy_api

    chosen = None if config is None else terminal.configure(config, set_)
    if config is None and set_:
        raise ConfigError("--set changes the knobs of CONFIG; give its TOML file")
    with progress(terminal.err) as watch:
        found = privacy_api.audit(chosen, epsilon=epsilon, out=out, watch=watch)
    terminal.show(found.as_dict(), found.table(), as_json)
    if not found.holds:
        raise typer.Exit(1)
