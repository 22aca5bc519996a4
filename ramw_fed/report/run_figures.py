"""The drawn sections of a run's report: learning and drift, discrimination, agreement."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ramw_fed.report.charts import Series, curves
from ramw_fed.report.digits import percent
from ramw_fed.report.document import Block, Paragraph, Section, text
from ramw_fed.report.erosion_charts import Scores, bland_altman, calibration, roc_and_pr
from ramw_fed.report.measures import quality_title
from ramw_fed.report.run_facts import RunMaterial
from ramw_fed.report.run_sections import task_splits, trained_tasks
from ramw_fed.report.tables import Address, parts_table


def training(run: RunMaterial) -> Section | None:
    """Draw learning and drift by round; None where the run has no rounds."""
    rounds: Sequence[dict[str, Any]] = run.facts.get("rounds")
    names = sorted({center for record in rounds for center in record["centers"]})
    blocks: list[Block] = []
    for task in trained_tasks(run):
        own = [record for record in rounds if record["task"] == task]
        if own:
            about = (
                "Quality is the federated validation measure, larger is better; loss is each center's training loss. "
                "Drift: the length of a center's update, and the cosine of its angle with the mean update; 1: all "
                "centers pull the same way."
            )
            if run.config.pays_to_validate:
                about += (
                    " Validation carries noise that hides single patients: it may lie outside of its measure's range."
                )
            named = f"{task.capitalize()}: learning and drift by round"
            panels = learning_panels(own, task)
            blocks.append(curves(f"{task}-learning", named, panels, along="round", about=about, colours=names))
    return Section(name="training", title="Learning and drift", blocks=blocks) if blocks else None


def learning_panels(rounds: Sequence[dict[str, Any]], task: str) -> list[tuple[str, Series]]:
    """Return quality over all centers, and by center loss, length and direction of the update."""
    quality = [(record["round"], record["quality"]) for record in rounds if record.get("quality") is not None]
    panels: list[tuple[str, Series]] = [(quality_title(task), {"all centers": quality} if quality else {})]
    for key, label in (
        ("loss", "training loss"),
        ("update_norm", "length of update"),
        ("cosine", "cosine to the mean"),
    ):
        lines: dict[str, list[tuple[float, float]]] = {}
        for record in rounds:
            for center, measured in record["centers"].items():
                if measured.get(key) is not None:
                    lines.setdefault(center, []).append((record["round"], measured[key]))
        if lines:  # where patients are protected no loss is told
            panels.append((label, lines))
    return panels


def discrimination(run: RunMaterial) -> Section | None:
    """Draw ROC, precision-recall and calibration; None without single joints of both classes."""
    if not run.facts.has("derived", "erosion", "prevalence"):
        return None
    table = run.tables["erosion"]
    scores: Scores = (np.asarray(table["probability"], np.float64), np.asarray(table["grade"]) > 0)
    if not 0 < scores[1].sum() < len(scores[1]):
        said = "The scored test joints are of one class: curves cannot be drawn."
        return Section(name="discrimination", title="Discrimination and calibration", blocks=[Paragraph((said,))])
    arms = {"pooled": scores}
    for center in sorted(set(table["center"].tolist())):
        rows = table["center"] == center
        arms[center] = (scores[0][rows], scores[1][rows])
    names = sorted({center for record in run.facts.get("rounds") for center in record["centers"]})
    prevalence = run.facts.number("derived", "erosion", "prevalence", form=percent)
    said_text = text("Prevalence of erosions among the scored test joints: ", prevalence, ".")
    blocks: list[Block] = [
        Paragraph(said_text),
        roc_and_pr("roc-pr", arms, float(prevalence.value), colours=names),
        calibration("calibration", scores),
    ]
    return Section(name="discrimination", title="Discrimination and calibration", blocks=blocks)


def agreement(run: RunMaterial) -> Section | None:
    """Draw joint spaces against the truth (Bland-Altman); None where they were not measured."""
    at = ("derived", "joint_space")
    if not run.facts.has(*at, "bias"):
        return None
    table = run.tables["segmentation"]
    predicted, true = (np.asarray(table[f"joint_space_{one}"], np.float64).ravel() for one in ("predicted", "true"))
    known = np.isfinite(predicted) & np.isfinite(true)
    said = text(
        "Over ",
        run.facts.number(*at, "joints", form=str),
        " joint spaces the bias is ",
        run.facts.number(*at, "bias"),
        " mm, with limits of agreement from ",
        run.facts.number(*at, "low"),
        " to ",
        run.facts.number(*at, "high"),
        " mm; ",
        run.facts.number(*at, "unknown", form=str),
        " could not be measured in the prediction. Spaces of one patient are not independent: the limits describe "
        "these spaces and are no interval. The drawing pools all spaces; the table has each of its own, by patient.",
    )
    means, differences = (predicted + true)[known] / 2, (predicted - true)[known]
    drawn = bland_altman("bland-altman", means, differences, "mm")
    blocks: list[Block] = [Paragraph(said), drawn]
    for task, split in task_splits(run):
        pooled: Address = ("metrics", task, split, "pooled")
        for kind, of in (
            ("joint_space", "joint space"),
            ("joint_space_change", "joint space's change since the exam before"),
        ):
            if _is_known(run, (*pooled, "by", kind)):
                caption = f"Bias, limits of agreement and mean absolute error of each {of}, by patient"
                limits = ("bias", "loa_low", "loa_high", "mae")
                blocks.append(parts_table(run.facts, f"{kind.replace('_', '-')}s", caption, pooled, kind, limits))
    return Section(name="agreement", title="Agreement of joint spaces", blocks=blocks)


def _is_known(run: RunMaterial, at: Address) -> bool:
    return run.facts.has(*at) and any(
        run.facts.get(*at, part, "mae", "value") is not None for part in run.facts.keys(*at)
    )
