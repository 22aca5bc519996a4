"""Drawings as SVG that are the same bytes each time, and whose ids are unique on a page."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from ramw_fed.report.document import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8a7d00")
"""Told apart by red-green blind readers (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/); yellow is darkened."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
GREY = "#6b7280"
INK = "#1f2933"

_BLACK = COLOURS.index("#000000")
_WHOLE = frozenset({"pooled", "all centers"})
_ARMS = ("fedavg", "fedprox", "fedbn", "silobn", "central", "local")

_STYLE: Mapping[Any, Any] = MappingProxyType(
    {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 8.5,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8.5,
        "axes.edgecolor": "#9aa5b1",
        "axes.linewidth": 0.8,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.unicode_minus": False,
        "grid.color": "#e4e7eb",
        "grid.linewidth": 0.7,
        "xtick.color": "#52606d",
        "ytick.color": "#52606d",
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "text.color": INK,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.5,
        "lines.markersize": 4,
        "figure.constrained_layout.use": True,
    }
)
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


def places(names: Sequence[str]) -> dict[str, int]:
    """Return the place among colours and markers of each line: an arm's is the same in every figure.

    All centers together are black, which nothing else is; names that are no arm take the places that are free.

    >>> places(["pooled", "central", "HU"])
    {'pooled': 6, 'central': 4, 'HU': 0}
    """
    kept = {name: _BLACK if name in _WHOLE else _ARMS.index(name) for name in names if name in {*_WHOLE, *_ARMS}}
    every = [place for place in range(len(COLOURS)) if place != _BLACK]
    free = [place for place in every if place not in kept.values()] or every
    others = [name for name in names if name not in kept]
    return kept | {name: free[number % len(free)] for number, name in enumerate(others)}


def draw(
    name: str, title: str, description: str, plot: Callable[[Canvas], Any], *, width: float = 7.6, height: float = 3.0
) -> Figure:
    """Return a figure.

    Args:
        name: Unique on the page.
        title: One line.
        description: What is to be seen.
        plot: Draws on an empty canvas.
        width: In inches.
        height: In inches.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        canvas = Canvas(figsize=(width, height))
        plot(canvas)
        buffer = io.StringIO()
        # Creator and date would change the bytes with the version and the clock.
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.savefig(buffer, format="svg", metadata=nothing)
    return Figure(name=name, title=title, description=description, svg=_inline(buffer.getvalue(), name, title))


def _inline(svg: str, name: str, title: str) -> str:
    """Return a drawing as an element of a page: no prologue, no style for the whole page, ids of its own."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'xlink:href="#([^"]*)"', rf'xlink:href="#{name}-\1"', body)
    body = body.replace("'DejaVu Sans', sans-serif", _FONTS)
    body = re.sub(r"\s*\n\s*", " ", body)
    label = f'role="img" aria-labelledby="{name}-title" aria-describedby="{name}-about"'
    opening, rest = body.split(">", 1)
    style = 'style="stroke-linejoin:round;stroke-linecap:butt"'
    return f'{opening} {label} {style}><title id="{name}-title">{escape(title)}</title>{rest.strip()}'
