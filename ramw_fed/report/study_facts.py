"""What a study's folder holds, as facts for its report."""

import csv
import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.errors import RunError
from ramw_fed.report.facts import Facts
from ramw_fed.report.overlays import read_pictures
from ramw_fed.report.run_facts import describe_erosions
from ramw_fed.run_folder import DECISION, RunFolder
from ramw_fed.tasks.task import Table

_FILES = ("config.toml", "study.json", "analysis.json", "table.csv", "table.parquet", "opened.json")
MATCHED = "matched-arms"


@dataclass(frozen=True, kw_only=True)
class StudyMaterial:
    """Everything that the report of a study is made from.

    Attributes:
        facts: ``study``, ``analysis``, ``knobs`` and what was derived.
        config: The knobs that all its runs share, under FedAvg.
        erosions: Arm to its scored joints under its first seed, in the columns of a run's predictions; beside them
            the ``fold`` and the ``threshold`` of the model that judged each.
        rounds: Key of a training to the records of its rounds.
        pictures: Center to a JPEG of cases, where some were drawn.
        sources: Name of a file to its sha256.
    """

    facts: Facts
    config: RunConfig
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
        config = run_config(knobs, "fedavg")
        erosions = _erosions(path, study, config.erosion.threshold)
    except (OSError, KeyError, ValueError) as error:
        raise RunError(f"config.toml or table.csv of {path} is not what a study writes ({error})") from error
    rounds = {one["key"]: RunFolder(path / one["folder"]).rounds() for one in study["trainings"]}
    tree = {
        "study": study,
        "analysis": read_json(path / "analysis.json") if analysis is None else analysis,
        "knobs": knobs,
        "derived": {
            "erosion": {arm: describe_erosions(table, table["threshold"]) for arm, table in erosions.items()},
            "availability": _totals(study["availability"]),
            "prevalence": {arm: float((first_fold(table)["grade"] > 0).mean()) for arm, table in erosions.items()},
            "thresholds": {arm: np.unique(table["threshold"]).tolist() for arm, table in erosions.items()},
        },
    }
    return StudyMaterial(
        facts=Facts(tree),
        config=config,
        erosions=erosions,
        rounds={key: own for key, own in rounds.items() if own},
        pictures=read_pictures(path / "overlays"),
        sources=study_sources(path),
    )


def run_config(knobs: Mapping[str, Any], method: str) -> RunConfig:
    """Return what a study's file says of its runs under a method."""
    return resolve({name: value for name, value in knobs.items() if name != "study"}, {"method": method})


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
    files += sorted(path.glob(f"runs/*/{DECISION}"))
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


def _erosions(path: Path, study: Mapping[str, Any], threshold: float) -> dict[str, Table]:
    """Return the scored joints of each arm that was tested everywhere, under its first seed, in all folds."""
    arms = ("central", *study["methods"])
    joints: dict[str, dict[tuple[str, ...], dict[str, float]]] = {}
    seeds: dict[str, str] = {}
    with (path / "table.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["design"] != MATCHED or row["task"] != "erosion" or row["arm"] not in arms:
                continue
            if seeds.setdefault(row["arm"], row["seed"]) == row["seed"]:
                key = tuple(row[name] for name in ("test_center", "patient", "radiograph", "item", "fold"))
                joints.setdefault(row["arm"], {}).setdefault(key, {})[row["measure"]] = float(row["value"] or "nan")
    decided = _decided_thresholds(path, study)

    def threshold_of(arm: str) -> Callable[[str], float]:
        return lambda fold: decided.get((arm, seeds[arm], fold), threshold)

    return {arm: _columns(joints[arm], threshold_of(arm)) for arm in arms if arm in joints}


def first_fold(table: Table) -> Table:
    """Return the joints of the first fold: scores of models of different folds do not rank together."""
    own = table["fold"] == min(table["fold"].tolist())
    return {name: column[own] for name, column in table.items()}


def _decided_thresholds(path: Path, study: Mapping[str, Any]) -> dict[tuple[str, str, str], float]:
    """Return the threshold of each training of all centers that chose one, by arm, seed and fold."""
    found: dict[tuple[str, str, str], float] = {}
    trainings = [one for one in study["trainings"] if one["task"] == "erosion" and not one["dose"]]
    for one in sorted(trainings, key=lambda one: len(one["train_centers"])):  # those of all centers come last
        folder = RunFolder(path / one["folder"])
        if (folder.path / DECISION).exists():
            found[one["arm"], str(one["seed"]), one["fold"]] = folder.decided_config().erosion.threshold
    return found


def _columns(joints: Mapping[tuple[str, ...], Mapping[str, float]], threshold_of: Callable[[str], float]) -> Table:
    keys = sorted(joints)
    texts = dict(zip(("center", "patient", "name", "joint", "fold"), zip(*keys, strict=True), strict=True))
    numbers = {name: [joints[key][name] for key in keys] for name in ("probability", "grade")}
    numbers["threshold"] = [threshold_of(fold) for fold in texts["fold"]]
    return {
        **{name: np.array(values, np.str_) for name, values in texts.items()},
        **{name: np.array(values, np.float64) for name, values in numbers.items()},
    }
