"""Drawings of probabilities against true erosions, and of agreement between two measurements."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from ramw_fed.metrics.calibration import NUM_BINS
from ramw_fed.report.document import Figure
from ramw_fed.report.drawing import COLOURS, GREY, INK, draw, places

Scores = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""``(N,)`` probabilities and whether each joint is eroded."""


def operating_points(scores: Scores) -> dict[str, NDArray[np.float64]]:
    """Return sensitivity, specificity and precision at each threshold, from the strictest on; both classes occur.

    Args:
        scores: Probabilities and truths.

    Returns:
        ``sen``, ``fpr`` and ``pre``, each ``(thresholds,)``; equal probabilities are one threshold.
    """
    probabilities, eroded = scores
    order = np.argsort(-probabilities, kind="stable")
    found = np.cumsum(eroded[order])
    called = np.arange(1, len(order) + 1)
    last = np.append(np.diff(probabilities[order]) != 0, True)
    sensitivity = found[last] / eroded.sum()
    false_positive_rate = (called - found)[last] / (~eroded).sum()
    return {"sen": sensitivity, "fpr": false_positive_rate, "pre": (found / called)[last]}


def roc_and_pr(
    name: str, arms: Mapping[str, Scores], prevalence: float, more: str = "", *, colours: Sequence[str] = ()
) -> Figure:
    """Draw ROC and precision-recall curves; the first arm strong, up to five others thin.

    Args:
        name: Unique on the page.
        arms: Title to scores; those with one class only are left out.
        prevalence: Share of eroded joints, where the precision of chance lies.
        more: What else to say of it.
        colours: Names of curves in the order in which they take their colours; empty: as they come.
    """
    place_of = places(list(dict.fromkeys([*colours, *arms])))
    drawn = {title: operating_points(scores) for title, scores in arms.items() if 0 < scores[1].sum() < len(scores[1])}

    def plot(canvas: Canvas) -> None:
        roc, pr = canvas.subplots(1, 2)
        for place, (title, points) in enumerate(drawn.items()):
            look = {"color": COLOURS[place_of[title]], "linewidth": 1.0 if place else 2.2, "label": title}
            roc.plot([0, *points["fpr"]], [0, *points["sen"]], **look)
            pr.step([0, *points["sen"]], [points["pre"][0], *points["pre"]], where="pre", **look)
        roc.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        pr.axhline(prevalence, color=GREY, linestyle="--", linewidth=1)
        pr.text(1.03, prevalence, "prevalence", va="center", color=GREY, fontsize=7.5)
        roc.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity")
        pr.set(title="Precision-recall", xlabel="sensitivity (recall)", ylabel="precision")
        for axes in (roc, pr):
            _unit_square(axes)
        canvas.legend(*roc.get_legend_handles_labels(), loc="outside lower center", ncols=min(6, len(drawn)))

    about = "Dashed: what a guess reaches, the diagonal of ROC and the prevalence of erosions in precision-recall."
    return draw(name, "ROC and precision-recall", f"{about} {more}".strip(), plot, height=4.1)


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def calibration(name: str, scores: Scores, title: str = "Calibration of the erosion probabilities") -> Figure:
    """Draw observed shares against predicted probabilities in equal-mass bins, with the histogram below."""
    probabilities, eroded = scores
    edges = np.quantile(probabilities, np.arange(1, NUM_BINS) / NUM_BINS)
    bins = np.searchsorted(edges, probabilities, side="right")
    used = [bins == number for number in range(NUM_BINS) if (bins == number).any()]

    def plot(canvas: Canvas) -> None:
        axes, below = canvas.subplots(1, 2)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        points = [(probabilities[one].mean(), eroded[one].mean()) for one in used]
        axes.plot(*zip(*points, strict=True), color=COLOURS[0], marker="o", markersize=6)
        axes.set(title="Calibration", xlabel="mean predicted probability", ylabel="observed share of erosions")
        _unit_square(axes)
        below.hist(
            [probabilities[~eroded], probabilities[eroded]],
            bins=np.linspace(0, 1, 21),
            stacked=True,
            color=["#b8c4d0", COLOURS[1]],
            label=["intact", "eroded"],
        )
        below.set(title="Where the probabilities lie", xlabel="predicted probability", ylabel="joints", xlim=(0, 1))
        below.legend()

    about = (
        f"{NUM_BINS} bins of equal size; on the dashed line probabilities mean what they say. Below it erosions are "
        "rarer than predicted: expected where the loss was adjusted for rare erosions."
    )
    return draw(name, title, about, plot, height=3.7)


def grades(name: str, found: Sequence[tuple[int, int, int]]) -> Figure:
    """Draw how many eroded joints of each grade were missed.

    Args:
        name: Unique on the page.
        found: Grade, joints, missed joints.
    """

    def plot(canvas: Canvas) -> None:
        axes = canvas.subplots()
        labels = [f"grade {grade}" for grade, _, _ in found]
        missed, hit = [miss for *_, miss in found], [joints - miss for _, joints, miss in found]
        axes.barh(labels, missed, color=COLOURS[1], label="missed")
        axes.barh(labels, hit, left=missed, color="#b8c4d0", label="found")
        axes.set(xlabel="eroded joints")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", integer=True)
        axes.legend(loc="best")

    about = "Eroded joints of the test split by true grade; missed: below the threshold."
    return draw(name, "Missed erosions by grade", about, plot, height=0.9 + 0.32 * len(found))


def bland_altman(name: str, means: NDArray[np.float64], differences: NDArray[np.float64], unit: str) -> Figure:
    """Draw differences against means, with bias and limits of agreement (Bland and Altman 1986).

    Args:
        name: Unique on the page.
        means: ``(N,)`` of the two measurements.
        differences: ``(N,)`` predicted less true.
        unit: Of both.
    """
    bias, spread = differences.mean(), 1.96 * differences.std(ddof=1)

    def plot(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.plot(means, differences, "o", color=COLOURS[0], markersize=3, alpha=0.45, markeredgewidth=0)
        axes.axhline(0, color=GREY, linewidth=0.8)
        for level, label, dash in (
            (bias, "bias", "-"),
            (bias + spread, "+1.96 SD", "--"),
            (bias - spread, "-1.96 SD", "--"),
        ):
            axes.axhline(level, color=INK, linestyle=dash, linewidth=1)
            axes.annotate(
                label, (1, level), (-2, 3), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right"
            )
        axes.set(xlabel=f"mean of predicted and true [{unit}]", ylabel=f"predicted less true [{unit}]")

    about = "Each point is one joint space, all spaces pooled; solid: bias, dashed: limits of agreement."
    return draw(name, "Agreement of joint spaces (Bland-Altman)", about, plot, height=3.3)
