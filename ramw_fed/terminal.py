"""What the commands share: two consoles, how results and remarks are shown, how a configuration is read."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ramw_fed.config import RunConfig
from ramw_fed.config_sources import read_overrides, read_toml, resolve
from ramw_fed.errors import ConfigError

# Without a terminal 80 columns are assumed, into which no table of this field fits.
# No markup and no emoji: names of files, centers and tasks are a user's, and ``w[red]_R.bmp`` is one.
out = Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False)
err = Console(stderr=True, width=None if sys.stderr.isatty() else 120, markup=False, emoji=False)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Setting = Annotated[list[str] | None, typer.Option("--set", help="key=value, stronger than the file; repeatable.")]


def configure(path: Path, settings: list[str] | None, **options: Any) -> RunConfig:
    """Return the configuration in a file, with ``--set`` and the options that were given (not None) over it."""
    overrides = read_overrides(settings or [])
    for name, value in options.items():
        if value is not None:
            if name in overrides:
                raise ConfigError(f"{name} is given as --{name} and by --set; give it once")
            overrides[name] = str(value) if isinstance(value, Path) else value
    return resolve(read_toml(path), overrides)


def note(remarks: Iterable[str]) -> None:
    """Print remarks on stderr."""
    for remark in remarks:
        err.print(f"note: {remark}", style="yellow", highlight=False, markup=False)


def show(raw: Any, shown: Any, as_json: bool) -> None:
    """Print a result: one line of JSON, or what a person reads (a list: each of it)."""
    if as_json:
        print(json.dumps(raw, sort_keys=True, allow_nan=False))
        return
    for item in shown if isinstance(shown, list) else [shown]:
        out.print(item)
