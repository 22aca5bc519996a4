"""The figure of docs/private_utility.csv."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

Row = Mapping[str, str]
PLACES: Mapping[str, int] = {"1": 0, "3": 1, "8": 2, "none": 3}
TITLES = {"segmentation": ("Bones", "Dice"), "erosion": ("Erosions", "AUROC")}
# Arm and start: words, colour, marker, shift along x.
LINES: Mapping[tuple[str, str], tuple[str, str, str, float]] = {
    ("head", "phantoms"): ("head alone, backbone taught by phantoms", "#0072b2", "o", -0.08),
    ("full", "phantoms"): ("all weights, from phantoms", "#d55e00", "s", 0.0),
    ("full", "seeded"): ("all weights, from seeded ones", "#555555", "^", 0.0),
}
LEVELS: Mapping[tuple[str, str], tuple[str, str, str]] = {
    ("untouched", "phantoms"): ("pretrained on phantoms, untouched", "#0072b2", ":"),
    ("local", "phantoms"): ("each center alone, all weights, from phantoms", "#009e73", "--"),
}


def draw(table: Path, path: Path) -> None:
    """Draw what ``table`` holds so far: points are means over seeds, bars run from the least seed to the most.

    The lower panels have an axis of their own: what starts from seeded weights would flatten all the rest.
    """
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(
        2, 2, figsize=(10, 6.2), layout="constrained", sharex=True, gridspec_kw={"height_ratios": (3, 1)}
    )
    for column, (task, (title, label)) in enumerate(TITLES.items()):
        upper, lower = axes[:, column]
        own = [row for row in rows if row["task"] == task]
        for key, words in LINES.items():
            _line(upper if key[1] == "phantoms" else lower, own, key, *words)
        for key, level in LEVELS.items():
            _level(upper, own, key, *level)
        upper.set(title=title, ylabel=f"{label}, mean over six centers")
        lower.set(xlabel="epsilon at each center, for the task's whole training", ylabel=label)
        lower.set_xticks(list(PLACES.values()), [*list(PLACES)[:-1], "no privacy"])
        lower.set_xlim(-0.4, 3.4)
        for ax, margin in ((upper, 0.15), (lower, 0.4)):
            ax.grid(axis="y", alpha=0.3)
            ax.margins(y=margin)
    handles = [axes[row, 0].get_legend_handles_labels() for row in (0, 1)]
    figure.legend(
        *(handles[0][part] + handles[1][part] for part in (0, 1)), loc="outside lower center", ncols=2, frameon=False
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _line(
    ax: Axes, rows: Sequence[Row], key: tuple[str, str], words: str, colour: str, marker: str, shift: float
) -> None:
    values = {epsilon: _values(rows, key, epsilon) for epsilon in PLACES}
    known = [epsilon for epsilon in PLACES if values[epsilon]]
    if not known:
        return
    means = [sum(values[one]) / len(values[one]) for one in known]
    below = [max(mean - min(values[one]), 0) for mean, one in zip(means, known, strict=True)]
    above = [max(max(values[one]) - mean, 0) for mean, one in zip(means, known, strict=True)]
    places = [PLACES[one] + shift for one in known]
    ax.errorbar(places, means, [below, above], color=colour, marker=marker, capsize=3, linewidth=1, label=words)
    for place, mean in zip(places, means, strict=True):
        # the points lie closer than an axis can tell
        side = -14 if key[0] == "head" else 8
        ax.annotate(f"{mean:.3f}", (place, mean), (0, side), textcoords="offset points", ha="center", fontsize=8)


def _level(ax: Axes, rows: Sequence[Row], key: tuple[str, str], words: str, colour: str, style: str) -> None:
    values = _values(rows, key, "none")
    if values:
        mean = sum(values) / len(values)
        ax.axhline(mean, color=colour, linestyle=style, linewidth=1.2, label=words)
        ax.axhspan(min(values), max(values), color=colour, alpha=0.12, linewidth=0)
        ax.annotate(
            f"{mean:.3f}", (3.38, mean), (0, 3), textcoords="offset points", ha="right", fontsize=8, color=colour
        )


def _values(rows: Sequence[Row], key: tuple[str, str], epsilon: str) -> list[float]:
    return [float(row["value"]) for row in rows if (row["arm"], row["start"], row["epsilon"]) == (*key, epsilon)]
