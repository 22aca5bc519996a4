"""Findings for a person's eyes."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ramw_fed.data.findings import LEVELS, Finding, Findings
from ramw_fed.data.radiograph import SPLITS
from ramw_fed.wording import counted

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def renderables(findings: Findings, *, num_places: int = 5) -> list[RenderableType]:
    """Return counts by center, prevalence by joint, and all findings with their first places.

    Args:
        findings: Of ``check_cohort``.
        num_places: How many files or centers to name of each finding.
    """
    centers: Mapping[str, Any] = findings.counts.get("centers", {})
    shown: list[RenderableType] = [_center_table(centers), _prevalence_table(centers)] if centers else []
    shown += [_lines(finding, num_places) for finding in findings.items]
    numbers = ", ".join(f"{counted(len(findings.at(level)), 'kind')} of {level}" for level in LEVELS)
    verdict = "The reader takes this folder." if findings.is_usable else "Mend the errors first."
    return [*shown, Text(f"{numbers}. {verdict}")]


def _lines(finding: Finding, num_places: int) -> Text:
    count = f" [{len(finding.places)}]" if len(finding.places) > 1 else ""
    text = Text(f"{finding.level}: ", style=_COLOURS[finding.level])
    text.append(f"{finding.code}{count}: {finding.text}", style="default")
    for place in finding.places[:num_places]:
        text.append(f"\n    {place}", style="default")
    if len(finding.places) > num_places:
        text.append(f"\n    and {len(finding.places) - num_places} more", style="default")
    return text


def _center_table(centers: Mapping[str, Any]) -> Table:
    table = Table(title="Images (patients) by center, task and split")
    tasks = [(task, split) for task in ("segmentation", "erosion") for split in SPLITS]
    for name in ("center", "all", "masks", "scores", *(f"{task[:3]}. {split}" for task, split in tasks)):
        table.add_column(name, justify="left" if name == "center" else "right")
    for center, counts in centers.items():
        cells = [f"{counts[task][split]['images']} ({counts[task][split]['patients']})" for task, split in tasks]
        own = f"{counts['images']} ({counts['patients']})"
        table.add_row(center, own, str(counts["images with masks"]), str(counts["images with scores"]), *cells)
    return table


def _prevalence_table(centers: Mapping[str, Any]) -> Table:
    table = Table(title="Share of joints with an erosion, of those scored")
    joints = list(next(iter(centers.values()))["joints"])
    for name in ("center", *joints, "all"):
        table.add_column(name, justify="left" if name == "center" else "right")
    for center, counts in centers.items():
        by_joint = [counts["joints"][joint] for joint in joints]
        scored, eroded = sum(j["scored"] for j in by_joint), sum(j["eroded"] for j in by_joint)
        shares = [f"{j['prevalence']:.1%}" if j["scored"] else "-" for j in by_joint]
        table.add_row(center, *shares, f"{eroded / scored:.1%} of {scored}" if scored else "-")
    return table
