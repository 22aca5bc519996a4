"""How long work tells how far it is."""

from collections.abc import Callable

Watch = Callable[[str, int, int], None]
"""(phase, steps done, steps in all)."""


def nobody(_phase: str, _done: int, _total: int) -> None:
    """Watch without a word."""
