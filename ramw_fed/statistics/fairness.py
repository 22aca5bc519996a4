"""Whom does a method serve worst: worst center, gap and spread between centers, centers harmed.

Values of centers that differ by chance alone have a worst one and a gap too, and resampling them widens it further:
with six like centers the percentile bootstrap of a gap of 0 never covered 0. The limits here hold at least 95 %
whatever the centers' true values are (Berger 1982, doi:10.1214/aos/1176345790, for the end that one center decides;
simultaneous limits for the end that all decide; Tukey's range for pairs, distances of limits by square-and-add,
Zou and Donner 2008, doi:10.1002/sim.3095).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from scipy.stats import studentized_range, t

from ramw_fed.errors import RamwFedError
from ramw_fed.statistics.intervals import LEVEL, Interval

_TAIL = (1 - LEVEL) / 2


@dataclass(frozen=True, kw_only=True)
class CenterValue:
    """A metric at one center: value (None: not estimable), 95 % interval (None: too few patients), patients."""

    value: float | None
    interval: Interval | None
    patients: int

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "CenterValue":
        """Read an entry of ``metrics.json``."""
        ci = entry["ci"]
        interval = None if ci is None else Interval(low=ci[0], high=ci[1])
        return cls(value=entry["value"], interval=interval, patients=entry["n"])


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """How unlike a method's centers fare.

    Attributes:
        worst_center: Its name.
        worst: Its value.
        worst_interval: 95 %, of the worst true value of any center; None where a center has no interval.
        gap: Best less worst value, at least 0.
        gap_interval: 95 %, of the gap between true values.
        deviation: Standard deviation over centers (K - 1); None of one center. Chance is in it.
        harmed: Centers whose value is worse than training alone by more than the margin.
        surely_harmed: Those of them whose interval of that difference lies beyond the margin as a whole.
        margin: Declared beforehand.
        compared: Centers with a difference to training alone.
        left_out: Centers without a value.
    """

    worst_center: str
    worst: float
    worst_interval: Interval | None
    gap: float
    gap_interval: Interval | None
    deviation: float | None
    harmed: tuple[str, ...]
    surely_harmed: tuple[str, ...]
    margin: float
    compared: int
    left_out: int

    def as_dict(self) -> dict[str, Any]:
        """Return what a table shows."""
        return {
            "worst_center": self.worst_center,
            "worst": self.worst,
            "worst_ci": _limits(self.worst_interval),
            "gap": self.gap,
            "gap_ci": _limits(self.gap_interval),
            "sd": self.deviation,
            "harmed": list(self.harmed),
            "surely_harmed": list(self.surely_harmed),
            "margin": self.margin,
            "compared": self.compared,
            "left_out": self.left_out,
        }


def fairness(
    centers: Mapping[str, CenterValue],
    less_local: Mapping[str, CenterValue],
    *,
    margin: float,
    larger_is_better: bool = True,
) -> Fairness | None:
    """Compare centers under one method; None where no center has a value.

    Args:
        centers: Name to the method's value there.
        less_local: Name to the method's value less that of the center's own training, of the same patients.
        margin: How much worse than alone is no harm, at least 0.
        larger_is_better: Of the metric.
    """
    if margin < 0:
        raise RamwFedError(f"a margin of {margin!r}: say how much worse than alone is no harm, 0 or more")
    sign = 1 if larger_is_better else -1
    known = {name: _signed(centers[name], sign) for name in sorted(centers) if centers[name].value is not None}
    if not known:
        return None
    values = {name: value for name, part in known.items() if (value := part.value) is not None}
    worst, best = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    errors = [_Error.of(part.value, part.interval, part.patients) for part in known.values() if part.value is not None]
    rows = [error for error in errors if error is not None]
    every = len(rows) == len(errors)
    lost = {name: _signed(part, sign) for name, part in sorted(less_local.items()) if part.value is not None}
    return Fairness(
        worst_center=worst,
        worst=sign * values[worst],
        worst_interval=_turned(_worst(rows), sign) if every else None,
        gap=values[best] - values[worst],
        gap_interval=_gap(rows) if every and len(rows) > 1 else None,
        deviation=float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else None,
        harmed=tuple(name for name, part in lost.items() if part.value is not None and part.value < -margin),
        surely_harmed=tuple(name for name, part in lost.items() if part.interval and part.interval.high < -margin),
        margin=margin,
        compared=len(lost),
        left_out=len(centers) - len(known),
    )


@dataclass(frozen=True)
class _Error:
    """A center's value and its standard errors, read off its own 95 % interval: below and above may differ."""

    value: float
    below: float
    above: float
    freedom: int

    @classmethod
    def of(cls, value: float, interval: Interval | None, patients: int) -> "_Error | None":
        if interval is None:
            return None
        reach = _student(_TAIL, patients - 1)
        return cls(value, (value - interval.low) / reach, (interval.high - value) / reach, patients - 1)


def _worst(rows: Sequence[_Error]) -> Interval:
    """Low: the center that truly is worst lies above its own limit. High: all lie below theirs, together."""
    tail = 1 - (1 - _TAIL) ** (1 / len(rows))
    return Interval(
        low=min(row.value - row.below * _student(_TAIL, row.freedom) for row in rows),
        high=min(row.value + row.above * _student(tail, row.freedom) for row in rows),
    )


def _gap(rows: Sequence[_Error]) -> Interval:
    """High: the truly best and worst center lie within the limit of their own pair. Low: all pairs do, together."""
    lows, highs = [0.0], [0.0]
    for better, worse in itertools.permutations(rows, 2):
        freedom = better.freedom + worse.freedom
        gap = better.value - worse.value
        highs.append(gap + _student(_TAIL, freedom) * math.hypot(better.above, worse.below))
        if gap > 0:
            lows.append(gap - _tukey(len(rows), freedom) * math.hypot(better.below, worse.above))
    return Interval(low=max(lows), high=max(highs))


def _student(tail: float, freedom: int) -> float:
    return float(t.isf(tail, freedom))


@cache
def _tukey(count: int, freedom: int) -> float:
    return float(studentized_range.isf(_TAIL, count, freedom)) / math.sqrt(2)


def _signed(part: CenterValue, sign: int) -> CenterValue:
    value = None if part.value is None else sign * part.value
    return replace(part, value=value, interval=part.interval and _turned(part.interval, sign))


def _turned(interval: Interval, sign: int) -> Interval:
    return interval if sign > 0 else Interval(low=-interval.high, high=-interval.low, redrawn=interval.redrawn)


def _limits(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
