"""Small tables of a study, written by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ramw_fed.studies.table import COLUMNS, Columns


def table(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Return sorted columns; what a row does not say is empty."""
    blank = dict.fromkeys(COLUMNS, "") | {"study": "s", "design": "matched-arms", "task": "segmentation", "seed": 0}
    full = [{**blank, **row} for row in rows]
    full.sort(key=lambda row: tuple(row[name] for name in COLUMNS[:-1]))
    kinds = {"seed": np.int64, "value": np.float64}
    return {name: np.array([row[name] for row in full], kinds.get(name, np.str_)) for name in COLUMNS}


def dsc(arm: str, center: str, patient: str, value: float, *, seed: int = 0, **more: Any) -> dict[str, Any]:
    own = {"arm": arm, "test_center": center, "patient": patient, "value": value, "seed": seed, "measure": "dsc"}
    return {"train_centers": center if arm == "local" else "A+B", **own, **more}


def joint(
    arm: str, center: str, patient: str, probability: float, grade: int, *, item: str = "J", **more: Any
) -> list[dict[str, Any]]:
    """Return both rows of a scored joint."""
    own = {
        "arm": arm,
        "test_center": center,
        "patient": patient,
        "task": "erosion",
        "radiograph": patient,
        "item": item,
    }
    own |= {"train_centers": center if arm == "local" else "A+B", **more}
    return [{**own, "measure": "probability", "value": probability}, {**own, "measure": "grade", "value": grade}]
