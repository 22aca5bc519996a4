"""A study's folder with made-up numbers, in the form in which the study engine leaves one.

``analyse`` stands in for the engine's: its values are means of the table, its intervals a fixed width.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CENTERS = ("BTXRD", "DHA", "FA", "HMCRD", "HU", "SCGH")
METHODS = ("fedavg", "fedprox")
ARMS = ("local", "central", *METHODS)
MODEL = ("study", "design", "arm", "method", "seed", "fold", "dose", "label", "train_centers", "test_center", "task")
COLUMNS = (*MODEL, "patient", "radiograph", "item", "measure", "value")
DESIGNS = ("matched-arms", "cross-site-matrix", "leave-one-center-out", "scale-up", "dose-response")
METRICS = {"segmentation": "dsc", "erosion": "auroc"}

Table = list[dict[str, str]]


def write_study(folder: Path, *, kind: str = "phantom") -> None:
    """Write everything but the report."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(
        'tasks = ["segmentation", "erosion"]\n[erosion]\nthreshold = 0.5\n[study]\nseeds = 2\n'
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(np.random.default_rng(0)))
    (folder / "table.csv").write_text(text.getvalue())
    pq.write_table(pa.Table.from_pylist(read_table(folder)), folder / "table.parquet")
    study = _study(folder, kind)
    (folder / "study.json").write_text(json.dumps(study, indent=1, sort_keys=True))
    analysis = analyse(read_table(folder), study)
    (folder / "analysis.json").write_text(json.dumps(analysis, indent=1, sort_keys=True))
    for one in study["trainings"]:
        place = folder / one["folder"]
        place.mkdir(parents=True)
        lines = [json.dumps(record) for record in _rounds(one)]
        (place / "rounds.jsonl").write_text("\n".join(lines) + "\n")
    opened = {f"{one['key']}/{center}": "cd" * 32 for one in study["trainings"] for center in one["opened"]}
    (folder / "opened.json").write_text(json.dumps({"chosen": {}, "opened": opened}, indent=1, sort_keys=True))


def read_table(folder: Path) -> Table:
    """Return the rows of ``table.csv``."""
    with (folder / "table.csv").open(newline="") as file:
        return [dict(row, value=str(float(row["value"]))) for row in csv.DictReader(file)]


def read_parquet(folder: Path) -> Table:
    """Return the rows of ``table.parquet``."""
    rows: Table = pq.read_table(folder / "table.parquet").to_pylist()
    return rows


def logged(folder: Path, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the log of a training's rounds says."""
    lines = (folder / training["folder"] / "rounds.jsonl").read_text().splitlines()
    rounds = [json.loads(line) for line in lines]
    return {"steps": sum(center["steps"] for one in rounds for center in one["centers"].values())}


def seals(table: Table) -> dict[str, str]:
    """Return a hash of each model's rows."""
    groups: dict[str, list[str]] = {}
    for row in table:
        groups.setdefault("/".join(row[name] for name in MODEL[1:]), []).append(repr(sorted(row.items())))
    return {name: hashlib.sha256("\n".join(lines).encode()).hexdigest() for name, lines in sorted(groups.items())}


def analyse(table: Table, study: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``analysis.json`` in the form of the engine's, with simple means."""
    designs: dict[str, Any] = {design: {} for design in study["designs"]}
    for task, metric in METRICS.items():
        own = [row for row in table if row["task"] == task and row["measure"] in ("dsc", "probability")]
        arms = {arm: _scopes([row for row in own if row["arm"] == arm]) for arm in ARMS}
        if task == "erosion":
            arms["local"]["pooled"] = {"value": None, "ci": None, "n": 36, "reason": "scores do not rank together"}
        designs["matched-arms"][task] = {metric: _matched(arms)}
        designs["cross-site-matrix"][task] = {metric: _matrix(arms)}
        designs["leave-one-center-out"][task] = {
            metric: {
                arm: {
                    "centers": arms[arm]["centers"],
                    "macro": arms[arm]["macro"],
                    "inside": arms["central"]["centers"],
                    "loss": _entry(arms["central"]["macro"]["value"] - arms[arm]["macro"]["value"], 36),
                }
                for arm in METHODS
            }
        }
        values = {arm: arms[arm]["macro"]["value"] for arm in ARMS}
        designs["scale-up"][task] = {
            metric: {arm: {str(n): _entry(values[arm] - 0.1 / n, 36) for n in range(2, 7)} for arm in METHODS}
        }
        designs["dose-response"][task] = {
            metric: {
                arm: {dose: _entry(values[arm] - 0.1 * float(dose), 36) for dose in ("0.0", "0.5", "1.0")}
                for arm in ARMS
            }
        }
    return {"designs": designs}


def _matched(arms: Mapping[str, Any]) -> dict[str, Any]:
    contrasts = []
    for first, second in (("fedprox", "fedavg"), ("fedprox", "local"), ("fedprox", "central")):
        value = arms[first]["macro"]["value"] - arms[second]["macro"]["value"]
        entry = {
            "arms": [first, second],
            "scope": "within centers" if second == "local" else "pooled",
            "p": 0.02,
            "p_holm": 0.04,
            "test": "Wilcoxon signed ranks",
            **_entry(value, 36),
        }
        entry |= {"reading": f"{first} better" if value > 0 else f"{second} better", "rank_biserial": 0.4}
        entry |= {"equivalence": {"margin": 0.02, "ci90": [value - 0.01, value + 0.01], "verdict": "not shown"}}
        models = {"mixed": 0.03, "fixed": 0.04}
        contrasts.append(
            entry | {name: {"value": value, "ci": [value - wide, value + wide]} for name, wide in models.items()}
        )
    fairness = {
        arm: {
            "worst_center": "FA",
            "worst": scopes["centers"]["FA"]["value"],
            "gap": 0.1,
            "sd": 0.03,
            "margin": 0.02,
            **({} if arm == "local" else {"harmed": ["DHA", "FA"], "surely_harmed": ["DHA"]}),
        }
        for arm, scopes in arms.items()
    }
    return {"arms": arms, "contrasts": contrasts, "fairness": fairness}


def _matrix(arms: Mapping[str, Any]) -> dict[str, Any]:
    cells = {
        row: {
            column: _entry(arms["local"]["centers"][column]["value"] - (0.15 if row != column else 0), 6)
            for column in CENTERS
        }
        for row in CENTERS
    }
    cells["DHA"]["FA"] = {"value": None, "ci": None, "n": 0, "reason": "no scored joints"}
    cells |= {arm: arms[arm]["centers"] for arm in ("central", *METHODS)}
    rows = [*CENTERS, "central", *METHODS]
    return {"rows": rows, "columns": list(CENTERS), "cells": cells, "gap": _entry(0.15, 36)}


def _scopes(rows: Table) -> dict[str, Any]:
    by_center = {one: [float(row["value"]) for row in rows if row["test_center"] == one] for one in CENTERS}
    centers = {center: _entry(float(np.mean(values)), 6) for center, values in by_center.items()}
    mean = float(np.mean([entry["value"] for entry in centers.values()]))
    seeds = {seed: float(np.mean([float(row["value"]) for row in rows if row["seed"] == seed])) for seed in "01"}
    return {
        **{scope: _entry(mean, 36) for scope in ("pooled", "within", "macro")},
        **{"centers": centers, "seeds": seeds, "seed_sd": 0.01},
    }


def _entry(value: float, n: int) -> dict[str, Any]:
    return {"value": value, "ci": [value - 0.02, value + 0.03], "n": n}


def _rows(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    for task in sorted(METRICS):
        for place, arm in enumerate(ARMS):
            for seed in (0, 1):
                for center in CENTERS:
                    trained = center if arm == "local" else "+".join(CENTERS)
                    model = ("fake", "matched-arms", arm, arm, seed, "", "", "", trained, center, task)
                    for patient in range(6):
                        yield from _patient(model, f"{patient:04d}", 0.7 + 0.05 * place, rng)


def _patient(model: tuple[Any, ...], name: str, skill: float, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    if model[-1] == "segmentation":
        yield (*model, name, "", "", "dsc", repr(float(np.clip(rng.normal(skill, 0.04), 0, 1))))
        return
    for joint in ("Lunate", "Scaphoid"):
        grade = int(rng.integers(1, 6)) if rng.random() < 0.3 else 0
        probability = float(np.clip(rng.normal(0.3 + (skill - 0.4) * (grade > 0), 0.15), 0.01, 0.99))
        yield (*model, name, f"{name}_L", joint, "grade", repr(float(grade)))
        yield (*model, name, f"{name}_L", joint, "probability", repr(probability))


def _study(folder: Path, kind: str) -> dict[str, Any]:
    table = read_table(folder)
    counts = {"patients": 6, "radiographs": 12, "masks": 12, "scored_joints": 12, "eroded_joints": 4}
    trainings = [
        {
            "key": f"{arm}-{task}-{seed}",
            "arm": arm,
            "method": arm,
            "task": task,
            "seed": seed,
            "fold": "",
            "dose": "",
            "train_centers": list(CENTERS),
            "folder": f"runs/{arm}-{task}-{seed}",
            "opened": list(CENTERS),
            "steps": 5 * 9 * len(CENTERS),
        }
        for arm in METHODS
        for task in METRICS
        for seed in (0, 1)
    ]
    return {
        "name": "fake",
        "kind": kind,
        "cohort": {"sha256": "ab" * 32, "kind": kind},
        "versions": {"ramw-fed": "0.1.0"},
        "git_commit": None,
        "seconds": 12.5,
        "resamples": 2000,
        "seed": 0,
        "tasks": list(METRICS),
        "designs": list(DESIGNS),
        "methods": list(METHODS),
        "own_models": [],
        "seeds": [0, 1],
        "folds": 1,
        "contrasts": [["fedprox", "fedavg"], ["fedprox", "local"], ["fedprox", "central"]],
        "margins": {"dsc": 0.02},
        "availability": {center: dict.fromkeys(("train", "val", "test"), counts) for center in CENTERS},
        "trainings": trainings,
        "table": {
            "rows": len(table),
            **{
                f"{kind}_sha256": hashlib.sha256((folder / f"table.{kind}").read_bytes()).hexdigest()
                for kind in ("csv", "parquet")
            },
        },
        "seals": seals(table),
    }


def _rounds(training: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for number in range(1, 6):
        centers = {
            center: {"loss": 1 / number, "update_norm": 3 / number, "cosine": 0.5 + 0.05 * place, "steps": 9}
            for place, center in enumerate(CENTERS)
        }
        quality = 0.5 + 0.08 * number + (0.01 if training["arm"] == "fedprox" else 0)
        yield {"round": number, "task": training["task"], "quality": quality, "centers": centers, "best_round": 5}
