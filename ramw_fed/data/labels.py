"""Scores and joint boxes of a RAM-W600 tree, from their JSON files."""

import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, cast

from ramw_fed.data import layout
from ramw_fed.data.cohort import Description
from ramw_fed.data.findings import Collector

Box = tuple[float, float, float, float]
_MAX_JSON_BYTES = 1 << 28


def _load_json(root: Path, path: str) -> Any:
    """Content of a JSON file; None where there is none that can be read."""
    try:
        if (root / path).stat().st_size > _MAX_JSON_BYTES:
            return None
        return json.loads((root / path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None


def read_scores(
    root: Path, path: str, files: Mapping[str, object], description: Description, collector: Collector
) -> dict[str, dict[str, int]]:
    """Read a list of ``{"identifier": name, "joints": {joint: grade}}`` as name to joint to grade."""
    if path not in files:
        return {}
    entries = _load_json(root, path)
    if not isinstance(entries, list):
        collector.add("scores-unreadable", path)
        return {}
    scores: dict[str, dict[str, int]] = {}
    for number, entry in enumerate(entries, start=1):
        place = f"{path} entry {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("joints"), dict):
            collector.add("score-malformed", place)
            continue
        name = str(entry.get("identifier", "")).strip()
        if layout.STEM.fullmatch(name) is None:
            collector.add("name-malformed", place)
            continue
        if name in scores:
            collector.add("score-twice", place, radiograph=name)
            continue
        scores[name] = {}
        for joint_name, grade in entry["joints"].items():
            joint = layout.known_joint(joint_name, description.joints)
            if joint is None:
                collector.add("joint-unknown", detail=joint_name)
            elif not is_grade(grade, description.max_grade):
                collector.add("score-malformed", place, radiograph=name)
            else:
                scores[name][joint] = int(grade)
    return scores


def is_grade(value: object, max_grade: int) -> bool:
    """Tell whether ``value`` is a whole number from 0 to ``max_grade``; True and False are none."""
    # Not math.isfinite: it cannot take the whole numbers of arbitrary length that JSON allows.
    return type(value) in (int, float) and 0 <= cast(float, value) <= max_grade and value == int(cast(float, value))


def read_boxes(
    root: Path, files: Mapping[str, object], description: Description, collector: Collector
) -> dict[str, dict[str, Box]]:
    """Read joint boxes in COCO's form as name to joint to ``(x0, y0, x1, y1)``."""
    if layout.JOINT_BOXES not in files:
        return {}
    table = _load_json(root, layout.JOINT_BOXES)
    try:
        names = {image["id"]: PurePosixPath(str(image["file_name"])).stem for image in table["images"]}
        joints = {
            category["id"]: layout.known_joint(str(category["name"]), description.joints)
            for category in table["categories"]
        }
        unknown = [str(c["name"]) for c in table["categories"] if joints[c["id"]] is None]
        annotations = list(table["annotations"])
    except (TypeError, KeyError):
        collector.add("boxes-unreadable", layout.JOINT_BOXES)
        return {}
    for name in unknown:
        collector.add("joint-unknown", detail=name)
    boxes: dict[str, dict[str, Box]] = {}
    for number, annotation in enumerate(annotations, start=1):
        try:
            name, joint = names[annotation["image_id"]], joints[annotation["category_id"]]
            x, y, width, height = (float(value) for value in annotation["bbox"])
        except (TypeError, KeyError, ValueError):
            collector.add("box-malformed", f"{layout.JOINT_BOXES} annotation {number}")
            continue
        if not (all(map(math.isfinite, (x, y, width, height))) and width > 0 and height > 0):
            collector.add("box-malformed", f"{layout.JOINT_BOXES} annotation {number}")
        elif joint is not None:
            boxes.setdefault(name, {})[joint] = (x, y, x + width, y + height)
    return boxes
