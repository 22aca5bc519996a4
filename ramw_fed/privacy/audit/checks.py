"""What an audit says of one property: what is claimed, what was found, whether they agree."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the audit.

    Attributes:
        name: What was looked at.
        claimed: What the product says, in words.
        audited: What was found, in words.
        holds: Whether the two agree.
        figures: The numbers behind it.
    """

    name: str
    claimed: str
    audited: str
    holds: bool
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """``holds`` or ``FAILS``."""
        return "holds" if self.holds else "FAILS"

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON takes it."""
        return asdict(self) | {"figures": dict(self.figures)}
