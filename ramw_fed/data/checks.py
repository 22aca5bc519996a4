"""Everything that can be said of a cohort's folder before anyone trains on it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ramw_fed.data import layout
from ramw_fed.data.cohort import Description
from ramw_fed.data.findings import Collector, Findings
from ramw_fed.data.labels import read_scores
from ramw_fed.data.radiograph import SPLITS, Radiograph
from ramw_fed.data.reading import duplicates, note_leakage, scan
from ramw_fed.data.scan import Scan

# Yang et al., NeurIPS 2025; the erosion task's split was read from code and is doubtful, so it is not held against.
PUBLISHED_TOTALS: Mapping[str, int] = MappingProxyType(
    {
        "centers": 6,
        "patients": 388,
        "images": 1048,
        "images with masks": 618,
        "images with scores": 800,
        "patients with arthritis": 207,
        "segmentation train": 425,
        "segmentation val": 69,
        "segmentation test": 124,
    }
)


def check_cohort(root: Path) -> Findings:
    """Look at a folder and list everything at once: errors, warnings, notes, and counts by center.

    What a folder holds cannot make it raise. The result names files but no patients; it is for the center's own eyes.
    """
    found = scan(root)
    collector = found.collector
    note_leakage(found)
    for names in duplicates(found):
        collector.add("image-duplicated", " = ".join(names))
    _check_patients(found)
    _check_scores(root, found)
    _check_splits(found.radiographs, found.description, collector)
    counts = _counts(found)
    # Only RAM-W600's tree has a table of studies; of other cohorts nothing is published.
    if found.description.kind == "real" and found.studies:
        for what, published in PUBLISHED_TOTALS.items():
            if counts["totals"].get(what) != published:
                collector.add("total-differs", detail=f"{what}: {counts['totals'].get(what)}, published {published}")
    return Findings(items=collector.findings(), counts=counts, sha256=found.sha256 if found.radiographs else "")


def _check_patients(found: Scan) -> None:
    centers: dict[str, set[str]] = {}
    splits: dict[str, dict[str, set[str]]] = {}
    for radiograph in found.radiographs:
        if radiograph.center:
            centers.setdefault(radiograph.patient, set()).add(radiograph.center)
        for task, split in (("segmentation", radiograph.mask_split), ("erosion", radiograph.score_split)):
            if split is not None:
                splits.setdefault(radiograph.patient, {}).setdefault(task, set()).add(split)
    for radiograph in found.radiographs:
        if len(centers.get(radiograph.patient, ())) > 1:
            found.collector.add("patient-at-two-centers", radiograph.name)
        by_task = splits.get(radiograph.patient, {})
        if len(by_task) == 2 and any("train" in one and other - {"train"} for one, other in _both_ways(by_task)):
            found.collector.add("patient-splits-differ", radiograph.name)
        study = found.studies.get(radiograph.exam)
        if study is not None and study.patient is not None and study.patient != int(radiograph.patient):
            found.collector.add("patient-number-differs", radiograph.exam)
    sizes = Counter(next(iter(names)) for names in centers.values() if len(names) == 1)
    for center in sorted({name for names in centers.values() for name in names}):
        if sizes[center] <= 1:
            found.collector.add("center-of-one-patient", center)


def _both_ways(by_task: Mapping[str, set[str]]) -> Iterable[tuple[set[str], set[str]]]:
    first, second = by_task.values()
    return (first, second), (second, first)


def _check_scores(root: Path, found: Scan) -> None:
    original: Mapping[str, Mapping[str, int]] = {}
    if (root / layout.JOINT_SCORES_ORIGINAL).is_file():
        path = layout.JOINT_SCORES_ORIGINAL
        original = read_scores(root, path, {path: None}, found.description, Collector())
    for radiograph in found.radiographs:
        if not radiograph.scores:
            continue
        study = found.studies.get(radiograph.exam)
        in_table = study.scores.get(radiograph.side, {}) if study is not None else {}
        if any(in_table.get(joint, grade) != grade for joint, grade in radiograph.scores.items()):
            found.collector.add("score-differs", radiograph.name)
        if original and original.get(radiograph.name) != radiograph.scores:
            found.collector.add("score-original-differs", radiograph.name)
        has_erosion = any(grade > 0 for grade in radiograph.scores.values())
        if study is not None and study.has_arthritis is False and has_erosion:
            found.collector.add("score-without-arthritis", radiograph.name)


def _check_splits(radiographs: Sequence[Radiograph], description: Description, collector: Collector) -> None:
    for center in sorted({radiograph.center for radiograph in radiographs} - {""}):
        own = [radiograph for radiograph in radiographs if radiograph.center == center]
        if not any(radiograph.masks is not None for radiograph in own):
            collector.add("label-missing-at-center", center, detail="segmentation")
        if not any(radiograph.scores for radiograph in own):
            collector.add("label-missing-at-center", center, detail="erosion")
        for split in SPLITS:
            grades = [g for r in own if r.score_split == split for g in r.scores.values()]
            if grades and len({grade > 0 for grade in grades}) == 1:
                collector.add("one-class-only", f"{center} {split}")


def _counts(found: Scan) -> dict[str, Any]:
    centers = sorted({radiograph.center for radiograph in found.radiographs})
    return {
        "kind": found.description.kind,
        "totals": _totals(found),
        "centers": {
            center or "(none)": _of_center([r for r in found.radiographs if r.center == center], found)
            for center in centers
        },
    }


def _totals(found: Scan) -> dict[str, int]:
    radiographs = found.radiographs
    arthritic = {r.patient for r in radiographs if _has_arthritis(r, found)}
    return {
        "centers": len({radiograph.center for radiograph in radiographs} - {""}),
        "patients": len({radiograph.patient for radiograph in radiographs}),
        "images": len(radiographs),
        "images with masks": sum(radiograph.masks is not None for radiograph in radiographs),
        "images with scores": sum(bool(radiograph.scores) for radiograph in radiographs),
        "patients with arthritis": len(arthritic),
        **{f"segmentation {split}": sum(r.mask_split == split for r in radiographs) for split in SPLITS},
        **{f"erosion {split}": sum(r.score_split == split for r in radiographs) for split in SPLITS},
    }


def _has_arthritis(radiograph: Radiograph, found: Scan) -> bool:
    study = found.studies.get(radiograph.exam)
    return study is not None and study.has_arthritis is True


def _of_center(own: Sequence[Radiograph], found: Scan) -> dict[str, Any]:
    joints = found.description.joints
    return {
        "patients": len({radiograph.patient for radiograph in own}),
        "patients with arthritis": len({r.patient for r in own if _has_arthritis(r, found)}),
        "images": len(own),
        "images with masks": sum(radiograph.masks is not None for radiograph in own),
        "images with scores": sum(bool(radiograph.scores) for radiograph in own),
        "segmentation": {split: _size([r for r in own if r.mask_split == split]) for split in SPLITS},
        "erosion": {split: _size([r for r in own if r.score_split == split]) for split in SPLITS},
        "joints": {joint: _grades(joint, own, found.description.max_grade) for joint in joints},
    }


def _size(radiographs: Sequence[Radiograph]) -> dict[str, int]:
    return {"patients": len({radiograph.patient for radiograph in radiographs}), "images": len(radiographs)}


def _grades(joint: str, radiographs: Iterable[Radiograph], max_grade: int) -> dict[str, Any]:
    counted = Counter(radiograph.scores[joint] for radiograph in radiographs if joint in radiograph.scores)
    scored = sum(counted.values())
    eroded = scored - counted[0]
    return {
        "scored": scored,
        "eroded": eroded,
        "prevalence": round(eroded / scored, 4) if scored else None,
        "grades": [counted[grade] for grade in range(max_grade + 1)],
    }
