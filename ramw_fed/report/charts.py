"""Forest plots, heat maps and curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from ramw_fed.report.digits import short
from ramw_fed.report.document import Figure
from ramw_fed.report.drawing import COLOURS, GREY, INK, MARKERS, draw, places
from ramw_fed.report.facts import Entry

Panel = tuple[str, Mapping[str, Entry]]
"""Title and the entry of each row."""
Series = Mapping[str, Sequence[tuple[float, ...]]]
"""Name to points in order: (x, y), or (x, y, low, high) with an interval."""

_WHOLE = frozenset({"pooled", "macro"})


def forest(name: str, title: str, panels: Sequence[Panel], *, zero: bool = False, is_shared: bool = False) -> Figure:
    """Draw values with 95 % intervals, a row each; ``pooled`` and ``macro`` as black diamonds below a line.

    Args:
        name: Unique on the page.
        title: One line.
        panels: Side by side; they share the rows of the first.
        zero: Mark 0: the values are differences.
        is_shared: The panels show one measure, on one scale.
    """
    rows = list(panels[0][1])

    def plot(canvas: Canvas) -> None:
        every = canvas.subplots(1, len(panels), sharex=is_shared, sharey=True, squeeze=False)[0]
        for axes, (panel, entries) in zip(every, panels, strict=True):
            _forest_panel(axes, rows, entries, zero)
            axes.set_title(panel)

    about = (
        "Points are values, lines 95 % intervals by patient; a point without a line has no interval. The numbers stand "
        "in the table above."
    )
    return draw(name, title, about, plot, height=0.75 + 0.27 * len(rows))


def _forest_panel(axes: Axes, rows: Sequence[str], entries: Mapping[str, Entry], zero: bool) -> None:
    for place, row in enumerate(rows):
        entry = entries.get(row, {"value": None})
        if entry["value"] is None:
            axes.text(0.5, place, "not estimable", transform=axes.get_yaxis_transform(), **_ASIDE)
            continue
        colour, marker = (INK, "D") if row in _WHOLE else (COLOURS[0], "o")
        if entry.get("ci") is not None:
            axes.plot(entry["ci"], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(entry["value"], place, marker, color=colour, markersize=5.5, markeredgecolor="white")
    if zero:
        axes.axvline(0, color=GREY, linewidth=1)
    wholes = [place for place, row in enumerate(rows) if row in _WHOLE]
    if wholes and wholes[0]:
        axes.axhline(wholes[0] - 0.5, color="#9aa5b1", linewidth=0.8)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=5)


_ASIDE: dict[str, Any] = {"ha": "center", "va": "center", "color": GREY, "fontsize": 7.5, "style": "italic"}


def heat_map(
    name: str,
    title: str,
    cells: Mapping[str, Mapping[str, Entry]],
    columns: Sequence[str],
    *,
    rows_are: str,
    columns_are: str,
    limits: tuple[float, float] | None = None,
    best_is_low: bool = False,
) -> Figure:
    """Draw values as colours and digits; what is not estimable is hatched.

    Args:
        name: Unique on the page.
        title: One line.
        cells: Row to column to entry.
        columns: In order.
        rows_are: What a row stands for.
        columns_are: What a column stands for.
        limits: Values of the darkest and brightest colour; None: those that occur.
        best_is_low: Bright stands for small values.
    """
    values = np.array(
        [[_value(row.get(column)) for column in columns] for row in cells.values()], dtype=np.float64
    ).reshape(len(cells), len(columns))

    def plot(canvas: Canvas) -> None:
        axes = canvas.subplots()
        low, high = limits or _spread(values)
        shades = axes.pcolormesh(
            values, cmap="cividis_r" if best_is_low else "cividis", vmin=low, vmax=high, edgecolors="white", linewidth=1
        )
        for (row, column), value in np.ndenumerate(values):
            bright = (value - low) / (high - low or 1)
            ink = INK if not np.isfinite(value) or (bright > 0.55) != best_is_low else "white"
            shown = short(float(value)) if np.isfinite(value) else "-"
            axes.text(column + 0.5, row + 0.5, shown, ha="center", va="center", color=ink, fontsize=8)
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=30 if len(columns) > 8 else 0)
        axes.set_yticks(np.arange(len(cells)) + 0.5, list(cells))
        axes.set(xlabel=columns_are, ylabel=rows_are, ylim=(len(cells), 0), facecolor="#eef0f3")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        canvas.colorbar(shades, ax=axes, shrink=0.8, pad=0.02).outline.set_visible(False)

    about = f"Rows: {rows_are}; columns: {columns_are}. Brighter is better; a dash is not estimable."
    return draw(name, title, about, plot, height=1.0 + 0.3 * len(cells))


def _value(entry: Entry | None) -> float:
    return float("nan") if entry is None or entry["value"] is None else float(entry["value"])


def _spread(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def curves(
    name: str, title: str, panels: Sequence[tuple[str, Series]], *, along: str, about: str, colours: Sequence[str] = ()
) -> Figure:
    """Draw lines with a marker a point, a panel each quantity; one legend for all.

    Args:
        name: Unique on the page.
        title: One line.
        panels: Title and lines of each.
        along: What x is.
        about: How to read it.
        colours: Names of lines in the order in which they take their colours; empty: as they come.
    """
    names = list(dict.fromkeys([*colours, *(line for _, series in panels for line in series)]))
    place_of = places(names)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)

    def plot(canvas: Canvas) -> None:
        every = list(canvas.subplots(rows, columns, squeeze=False).flat)
        handles = {}
        for axes, (panel, series) in zip(every, panels, strict=False):
            for line, points in series.items():
                handles[line] = _line(axes, points, place_of[line])
            axes.set(title=panel, xlabel=along)
            is_whole = all(float(point[0]).is_integer() for points in series.values() for point in points)
            axes.locator_params(axis="x", integer=is_whole)
            axes.ticklabel_format(useOffset=False)
            across = {point[0] for points in series.values() for point in points}
            if is_whole and len(across) == 1:  # else the limits are a sliver around it, with no tick but fractions
                axes.set_xlim(min(across) - 1, min(across) + 1)
                axes.set_xticks(sorted(across))
        for axes in every[len(panels) :]:
            axes.set_visible(False)
        if len(names) > 1:
            own = [line for line in names if line in handles]
            canvas.legend([handles[line] for line in own], own, loc="outside upper center", ncols=min(7, len(own)))

    return draw(name, title, about, plot, height=0.5 + 2.1 * rows)


def _line(axes: Axes, points: Sequence[tuple[float, ...]], place: int) -> Any:
    """Draw one line, its intervals as thin bars, and return its handle."""
    across, along = [point[0] for point in points], [point[1] for point in points]
    (handle,) = axes.plot(across, along, color=COLOURS[place], marker=MARKERS[place])
    for point in points:
        if len(point) == 4:
            axes.plot([point[0]] * 2, point[2:], color=COLOURS[place], linewidth=1, alpha=0.55)
    return handle
