"""A value with its interval, or the reason why there is none: never 0, 0.5 or NaN in place of a number."""

from dataclasses import dataclass
from typing import Any

from ramw_fed.statistics.intervals import Interval

Entry = dict[str, Any]


@dataclass(frozen=True)
class NotEstimable:
    """Why a value cannot be had from these data."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One number of ``metrics.json``.

    Attributes:
        value: The number, or why there is none.
        interval: 95 %, or None (below five patients).
        n: Patients that it rests on.
        left_out: Centers without a value, left out of a mean over centers.
    """

    value: float | NotEstimable
    interval: Interval | None = None
    n: int = 0
    left_out: int = 0

    def as_dict(self) -> Entry:
        """Return ``value``, ``ci`` and ``n``, and more only where there is something to say.

        That is ``reason`` without a value, ``redrawn`` (resamples without a value, drawn again) and ``left_out``
        (centers without one).
        """
        if isinstance(self.value, NotEstimable):
            entry: Entry = {"value": None, "ci": None, "n": self.n, "reason": self.value.reason}
        else:
            ci = None if self.interval is None else [self.interval.low, self.interval.high]
            entry = {"value": self.value, "ci": ci, "n": self.n}
        if self.interval is not None and self.interval.redrawn:
            entry["redrawn"] = self.interval.redrawn
        if self.left_out:
            entry["left_out"] = self.left_out
        return entry
