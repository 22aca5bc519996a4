"""Where each measure can lie, so that an answer from elsewhere can be held against it."""

from collections.abc import Mapping
from types import MappingProxyType

from ramw_fed.statistics.intervals import Interval

# No radiograph is wider, and no odds are longer; sums of what is larger would overflow.
_LARGEST = 1e9
_AT_LEAST_0 = (0.0, _LARGEST)
_ANYTHING = (-_LARGEST, _LARGEST)

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        **dict.fromkeys(("msd", "hd95", "ravd", "missing", "false", "both_empty", "dor", "mae", "sdc"), _AT_LEAST_0),
        **dict.fromkeys(("mcc", "qwk"), (-1.0, 1.0)),
        **dict.fromkeys(("slope", "intercept", "bias", "loa_low", "loa_high"), _ANYTHING),
    }
)
"""Measures that are no share of 1."""


def range_of(metric: str) -> tuple[float, float]:
    """Return the least and the largest value of a measure.

    >>> range_of("dsc"), range_of("mcc")
    ((0.0, 1.0), (-1.0, 1.0))
    """
    return RANGES.get(metric, (0.0, 1.0))


def bounded(interval: Interval | None, metric: str) -> Interval | None:
    """Return the part of an interval where the measure can lie."""
    return interval and interval.within(*range_of(metric))
