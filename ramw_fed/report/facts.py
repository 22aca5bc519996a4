"""The numbers that a report may show: one tree, read from files and computed from tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ramw_fed.report.digits import short
from ramw_fed.report.document import Number, Text, text

Entry = Mapping[str, Any]
"""``value``, ``ci``, ``n`` and, where there is no value, ``reason``: as in ``metrics.json``."""


class Facts:
    """A tree of mappings, lists and numbers, and the addresses of its numbers."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = tree

    def get(self, *keys: str | int) -> Any:
        """Return what stands at ``keys``.

        Raises:
            KeyError: Nothing does.
        """
        found: Any = self._tree
        for key in keys:
            found = found[key]
        return found

    def has(self, *keys: str | int) -> bool:
        """Whether something stands at ``keys``."""
        try:
            self.get(*keys)
        except (KeyError, IndexError, TypeError):
            return False
        return True

    def keys(self, *keys: str | int) -> list[str]:
        """Return the names below ``keys`` in order; none where nothing stands there."""
        return sorted(self.get(*keys)) if self.has(*keys) else []

    def number(self, *keys: str | int, form: Callable[[float], str] = short) -> Number:
        """Return the number at ``keys``.

        Args:
            keys: Its address.
            form: How it is shown.
        """
        value = self.get(*keys)
        return Number(pointer(keys), value, form(value))

    def estimate(self, *keys: str | int, reasons: list[str], form: Callable[[float], str] = short) -> Text:
        """Return value and interval of the entry at ``keys``, or the number of the reason why there is none.

        Args:
            keys: Address of an :data:`Entry`; a dash where nothing stands.
            reasons: Of this table; a new one is added.
            form: How the numbers are shown.
        """
        if not self.has(*keys):
            return ("-",)
        entry: Entry = self.get(*keys)
        if entry["value"] is None:
            if entry["reason"] not in reasons:
                reasons.append(entry["reason"])
            return (f"not estimable ({reasons.index(entry['reason']) + 1})",)
        value = self.number(*keys, "value", form=form)
        if entry.get("ci") is None:
            return (value,)
        low, high = (self.number(*keys, "ci", end, form=form) for end in (0, 1))
        return text(value, " (", low, " to ", high, ")")

    def count(self, *keys: str | int) -> Text:
        """Return the number of patients behind the entry at ``keys``."""
        return (self.number(*keys, "n", form=str),) if self.has(*keys) else ("-",)


def pointer(keys: Sequence[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of an address.

    >>> pointer(("metrics", "a/b", 0))
    '/metrics/a~1b/0'
    """
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def numbered(reasons: Sequence[str]) -> tuple[str, ...]:
    """Return reasons as notes below a table."""
    return tuple(f"({number}) {reason}" for number, reason in enumerate(reasons, start=1))
