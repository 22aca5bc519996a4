"""The commands of ``ramw-fed privacy``: each reads arguments, calls one function of ``privacy_api``, prints."""

import typer

privacy = typer.Typer(no_args_is_help=True, help="Plan, account for and audit the privacy of a center's patients.")


@privacy.callback()
def options() -> None:
    """Plan, account for and audit the privacy of a center's patients."""
