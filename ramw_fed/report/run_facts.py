"""What a run's folder holds, as facts for its report; its measures can be taken anew from its predictions."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramw_fed.config import RunConfig
from ramw_fed.errors import RunError
from ramw_fed.report.facts import Facts
from ramw_fed.report.overlays import read_pictures
from ramw_fed.run_folder import DECISION, RunFolder
from ramw_fed.tasks import get_task
from ramw_fed.tasks.task import Table

_FILES = ("config.toml", "manifest.json", "metrics.json", "baselines.json", "rounds.jsonl", DECISION)


@dataclass(frozen=True, kw_only=True)
class RunMaterial:
    """Everything that the report of a run is made from.

    Attributes:
        facts: ``metrics``, ``baselines``, ``manifest``, ``decision``, ``rounds``, ``cards``, ``knobs`` and what was
            derived.
        config: The run's, with what it chose on validation.
        tables: Task to its predictions; empty where they stayed at the centers.
        pictures: Center to a JPEG of its worst, median and best case.
        sources: Name of a file, or of a center's rows in it, to its sha256.
    """

    facts: Facts
    config: RunConfig
    tables: Mapping[str, Table]
    pictures: Mapping[str, bytes]
    sources: Mapping[str, str]

    @property
    def is_phantom(self) -> bool:
        """Whether no patient stands behind the numbers."""
        return bool(self.facts.get("manifest", "cohort", "kind") == "phantom")


def read_run(path: Path, *, anew: bool = False) -> RunMaterial:
    """Read a finished run.

    Args:
        path: Its folder.
        anew: Take the measures from the predictions, where there are some, in place of ``metrics.json``.

    Raises:
        RunError: There is none, it did not finish, or its files are not what a run writes.
    """
    folder = RunFolder.open(path)
    config, manifest, metrics = (
        folder.decided_config(),
        folder.read_json("manifest.json"),
        folder.read_json("metrics.json"),
    )
    baselines = folder.read_json("baselines.json") if (path / "baselines.json").exists() else {}
    if not all(_has_form(one) for one in (metrics, *baselines.values())):
        raise RunError(
            f"metrics.json or baselines.json of {path} is not what a run writes; put it back from a copy, or "
            "--overwrite the run"
        )
    tables = {task: folder.read_predictions(task) for task in sorted(metrics) if predictions_file(path, task).exists()}
    tree = {
        "metrics": metrics_anew(folder, config, metrics, tables) if anew else metrics,
        "baselines": baselines,
        "manifest": manifest,
        "decision": folder.read_json(DECISION) if (path / DECISION).exists() else {},
        "rounds": folder.rounds(),
        "cards": {file.stem: _card(folder, file.stem) for file in sorted((path / "models").glob("*.safetensors"))},
        "knobs": config.deciding(),
    }
    try:
        tree["derived"] = _derive(config, manifest, tables)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"manifest.json or predictions of {path} are not what a run writes; put them back from a copy, or "
            "--overwrite the run"
        ) from error
    pictures = read_pictures(path / "overlays")
    return RunMaterial(facts=Facts(tree), config=config, tables=tables, pictures=pictures, sources=run_sources(path))


def _has_form(metrics: Any) -> bool:
    """Whether it is ``{task: {split: {"pooled": .., "macro": .., "centers": ..}}}``."""
    if not isinstance(metrics, Mapping) or not all(isinstance(one, Mapping) and one for one in metrics.values()):
        return False
    scopes = [scope for splits in metrics.values() for scope in splits.values()]
    return all(isinstance(one, Mapping) and {"pooled", "macro", "centers"} <= set(one) for one in scopes)


def predictions_file(path: Path, task: str) -> Path:
    """Return where a run's predictions of a task stand."""
    return path / "predictions" / f"{task}.csv"


def metrics_anew(
    folder: RunFolder, config: RunConfig, metrics: Mapping[str, Any], tables: Mapping[str, Table]
) -> dict[str, Any]:
    """Return ``metrics.json`` as the predictions give it; a task without predictions keeps what the file says."""
    found = dict(metrics)
    for name in config.tasks:
        task = get_task(name)
        if task.name in tables:
            _, card = folder.load_model(task.name)
            (split,) = metrics[task.name]
            centers = sorted(metrics[task.name][split]["centers"])
            training = config.training(task.name)
            table = tables[task.name]
            scopes = task.summarize(table, card.description, training, config.resamples, config.seed, centers=centers)
            found[task.name] = {split: scopes}
    return found


def run_sources(path: Path) -> dict[str, str]:
    """Return the hash of each file that a report is made from, and of each center's rows of the predictions."""
    files = [path / name for name in _FILES]
    files += sorted((path / "predictions").glob("*.csv")) + sorted((path / "models").glob("*.safetensors"))
    files += sorted((path / "overlays").glob("*.png"))
    sources: dict[str, str] = {}
    for file in files:
        if file.exists():
            content, name = file.read_bytes(), file.relative_to(path).as_posix()
            sources[name] = hashlib.sha256(content).hexdigest()
            sources |= _rows_by_center(name, content) if file.suffix == ".csv" else {}
    return sources


def _rows_by_center(name: str, content: bytes) -> dict[str, str]:
    """Return the hash of each center's lines; the center stands first in a line."""
    groups: dict[bytes, list[bytes]] = {}
    for line in content.splitlines()[1:]:
        groups.setdefault(line.split(b",", 1)[0], []).append(line)
    return {
        f"{name}, rows of {center.decode(errors='replace')}": hashlib.sha256(b"\n".join(lines)).hexdigest()
        for center, lines in sorted(groups.items())
    }


def _card(folder: RunFolder, task: str) -> dict[str, Any]:
    _, card = folder.load_model(task)
    return {
        "task": card.task,
        "round": card.round,
        "version": card.version,
        "cohort": card.cohort,
        "kind": card.description.kind,
        "bones": list(card.description.bones),
        "joints": list(card.description.joints),
        "max_grade": card.description.max_grade,
    }


def _derive(config: RunConfig, manifest: Mapping[str, Any], tables: Mapping[str, Table]) -> dict[str, Any]:
    derived: dict[str, Any] = {"totals": {task: _totals(own) for task, own in manifest["centers"].items()}}
    derived["num_centers"] = len({center for own in manifest["centers"].values() for center in own})
    if "erosion" in tables:
        derived["erosion"] = describe_erosions(tables["erosion"], config.erosion.threshold)
    if "segmentation" in tables and "joint_space_predicted" in tables["segmentation"]:
        derived["joint_space"] = describe_joint_spaces(tables["segmentation"])
    return derived


def _totals(centers: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    names = ("patients", "examples", "validation", "test")
    totals = {name: sum(center[name] for center in centers.values()) for name in names}
    return {**totals, "centers": sum(center["patients"] > 0 for center in centers.values())}


def describe_erosions(table: Table, threshold: float | NDArray[np.float64]) -> dict[str, Any]:
    """Count eroded and missed joints, over all, by center and by grade.

    Args:
        table: Predictions of the erosion task.
        threshold: Joints with at least this probability are called eroded; one for all, or ``(joints,)``.
    """
    grade, probability = np.asarray(table["grade"]), np.asarray(table["probability"])
    missed = (grade > 0) & (probability < threshold)
    falsely = (grade == 0) & (probability >= threshold)
    rows = sorted(np.flatnonzero(missed).tolist(), key=lambda row: (-grade[row], probability[row], row))

    def count(chosen: Any) -> dict[str, Any]:
        joints, eroded = int(chosen.sum()), int((chosen & (grade > 0)).sum())
        return {
            "joints": joints,
            "eroded": eroded,
            "missed": int((chosen & missed).sum()),
            "false": int((chosen & falsely).sum()),
            **({"prevalence": eroded / joints} if joints else {}),
        }

    return {
        **count(np.ones(len(grade), bool)),
        "centers": {center: count(table["center"] == center) for center in sorted(set(table["center"].tolist()))},
        "grades": {str(int(one)): count(grade == one) for one in sorted(set(grade[grade > 0].tolist()))},
        "cases": [
            {
                **{name: str(table[name][row]) for name in ("center", "patient", "name", "joint")},
                "grade": int(grade[row]),
                "probability": float(probability[row]),
            }
            for row in rows
        ],
    }


def describe_joint_spaces(table: Table) -> dict[str, Any]:
    """Return bias and limits of agreement of joint spaces in mm (Bland and Altman 1986); empty below two."""
    predicted, true = (np.asarray(table[f"joint_space_{one}"], np.float64).ravel() for one in ("predicted", "true"))
    known = np.isfinite(predicted) & np.isfinite(true)
    difference = (predicted - true)[known]
    counts: dict[str, Any] = {"joints": int(known.sum()), "unknown": int((~known & np.isfinite(true)).sum())}
    if len(difference) < 2:
        return counts
    bias, deviation = float(difference.mean()), float(difference.std(ddof=1))
    limits = {"low": bias - 1.96 * deviation, "high": bias + 1.96 * deviation}
    return {**counts, "bias": bias, "deviation": deviation, **limits}
