"""What a study's folder holds, as facts for its report."""

import csv
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ramw_fed.errors import RunError
from ramw_fed.report.facts import Facts
from ramw_fed.report.overlays import read_pictures
from ramw_fed.report.run_facts import describe_erosions
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks.task import Table

_FILES = ("config.toml", "study.json", "analysis.json", "table.csv", "table.parquet", "opened.json")
MATCHED = "matched-arms"


@dataclass(frozen=True, kw_only=True)
class StudyMaterial:
    """Everything that the report of a study is made from.

    Attributes:
        facts: ``study``, ``analysis``, ``knobs`` and what was derived.
        erosions: Arm to its scored joints under its first seed, in the columns of a run's predictions.
        rounds: Key of a training to the records of its rounds.
        pictures: Center to a JPEG of cases, where a training left some.
        sources: Name of a file to its sha256.
    """

    facts: Facts
    erosions: Mapping[str, Table]
    rounds: Mapping[str, list[dict[str, Any]]]
    pictures: Mapping[str, bytes]
    sources: Mapping[str, str]

    @property
    def is_phantom(self) -> bool:
        """Whether no patient stands behind the numbers."""
        return bool(self.facts.get("study", "kind") == "phantom")


def read_study(path: Path, *, analysis: Mapping[str, Any] | None = None) -> StudyMaterial:
    """Read a finished study.

    Args:
        path: Its folder.
        analysis: In place of ``analysis.json``.

    Raises:
        RunError: It holds no finished study, or its files are not what a study writes.
    """
    study = read_json(path / "study.json")
    try:
        knobs = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
        threshold = knobs.get("erosion", {}).get("threshold", 0.5)
        erosions = _erosions(path / "table.csv", study)
    except (OSError, KeyError, ValueError) as error:
        raise RunError(f"config.toml or table.csv of {path} is not what a study writes ({error})") from error
    folders = {one["key"]: path / one["folder"] for one in study["trainings"]}
    rounds = {key: RunFolder(folder).rounds() for key, folder in folders.items()}
    tree = {
        "study": study,
        "analysis": read_json(path / "analysis.json") if analysis is None else analysis,
        "knobs": knobs,
        "derived": {
            "erosion": {arm: describe_erosions(table, threshold) for arm, table in erosions.items()},
            "availability": _totals(study["availability"]),
            "threshold": threshold,
        },
    }
    places = [folder / "overlays" for folder in (path, *folders.values())]
    pictures = next((read_pictures(place) for place in places if place.is_dir()), {})
    return StudyMaterial(
        facts=Facts(tree),
        erosions=erosions,
        rounds={key: own for key, own in rounds.items() if own},
        pictures=pictures,
        sources=study_sources(path),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of a study.

    Raises:
        RunError: It is missing or no JSON.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}): the study did not finish, or the file was changed") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} holds no table; put it back from a copy, or run the study again")
    return content


def study_sources(path: Path) -> dict[str, str]:
    """Return the hash of each file that a report is made from."""
    files = [path / name for name in _FILES]
    files += sorted(path.glob("overlays/*.png")) + sorted(path.glob("runs/*/rounds.jsonl"))
    files += sorted(path.glob("runs/*/overlays/*.png"))
    return {file.relative_to(path).as_posix(): file_hash(file) for file in files if file.exists()}


def file_hash(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _totals(availability: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    splits = sorted({split for center in availability.values() for split in center})
    return {
        split: {
            name: sum(center.get(split, {}).get(name, 0) for center in availability.values())
            for name in ("patients", "radiographs", "masks", "scored_joints", "eroded_joints")
        }
        for split in splits
    }


def _erosions(path: Path, study: Mapping[str, Any]) -> dict[str, Table]:
    """Return the scored joints of each arm that was tested everywhere, under its first seed."""
    arms = ("central", *study["methods"])
    joints: dict[str, dict[tuple[str, ...], dict[str, float]]] = {}
    seeds: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["design"] != MATCHED or row["task"] != "erosion" or row["arm"] not in arms:
                continue
            if seeds.setdefault(row["arm"], row["seed"]) == row["seed"]:
                key = (row["test_center"], row["patient"], row["radiograph"], row["item"])
                joints.setdefault(row["arm"], {}).setdefault(key, {})[row["measure"]] = float(row["value"] or "nan")
    return {arm: _columns(joints[arm]) for arm in arms if arm in joints}


def _columns(joints: Mapping[tuple[str, ...], Mapping[str, float]]) -> Table:
    keys = sorted(joints)
    texts = dict(zip(("center", "patient", "name", "joint"), zip(*keys, strict=True), strict=True))
    numbers = {name: [joints[key][name] for key in keys] for name in ("probability", "grade")}
    return {
        **{name: np.array(values, np.str_) for name, values in texts.items()},
        **{name: np.array(values, np.float64) for name, values in numbers.items()},
    }
