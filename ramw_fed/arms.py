"""Arms of a comparison: what two folders, of runs or of evaluations, measured on the same patients."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ramw_fed.config import RunConfig
from ramw_fed.errors import PredictionError
from ramw_fed.run_folder import RunFolder, is_study
from ramw_fed.tasks.task import Table

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What a run or an evaluation measured.

    Attributes:
        path: Its folder.
        kind: Who left it.
        splits: Task to the split that was measured.
        cohort: Hash of the cohort.
        knobs: ``threshold``, ``tolerance-px`` and ``field-of-view`` as the files spell them.
    """

    path: Path
    kind: Literal["run", "evaluation"]
    splits: Mapping[str, str]
    cohort: str
    knobs: Mapping[str, float]

    @classmethod
    def open(cls, path: Path) -> "Arm":
        """Open a finished run or an evaluation.

        Raises:
            PredictionError: It is neither.
            RunError: The run did not finish.
        """
        if is_study(path):
            raise PredictionError(
                f"{path} holds a study, whose arms its own file compares (contrasts); give the folders of two runs or "
                "evaluations"
            )
        folder = RunFolder(path)
        is_run = folder.config_path.exists()
        manifest = folder.read_json("manifest.json") if is_run or (path / "manifest.json").exists() else {}
        if not is_run and "evaluation" not in manifest:
            raise PredictionError(
                f"{path} holds neither a run nor an evaluation; give a folder that `ramw-fed run --out` or "
                "`ramw-fed evaluate --out` wrote"
            )
        metrics = folder.read_json("metrics.json")
        return cls(
            path=path,
            kind="run" if is_run else "evaluation",
            splits={task: ", ".join(sorted(splits)) for task, splits in metrics.items()},
            cohort=manifest["cohort"]["sha256"],
            knobs=measuring_knobs(folder.decided_config()) if is_run else manifest["evaluation"]["knobs"],
        )

    def table(self, task: str) -> Table:
        """Return what it measured, the rows sorted by center, patient, radiograph and joint."""
        table = RunFolder(self.path).read_predictions(task)
        keys = _keys(table)
        order = sorted(range(len(keys)), key=lambda row: keys[row])
        return {name: column[order] for name, column in table.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"folder": str(self.path), "kind": self.kind, "cohort": self.cohort, "knobs": dict(self.knobs)}


def measuring_knobs(config: RunConfig) -> dict[str, float]:
    """Return the knobs that decide a measure, as an arm and an evaluation's manifest hold them."""
    return {
        "threshold": config.erosion.threshold,
        "tolerance-px": config.segmentation.tolerance_px,
        "field-of-view": config.segmentation.field_of_view,
    }


def pair(first: Arm, second: Arm, task: str) -> tuple[Table, Table]:
    """Return both arms' tables, row by row of the same radiographs (joints).

    Raises:
        PredictionError: They do not cover the same ones, or measured them otherwise.
    """
    one, other = first.table(task), second.table(task)
    _refuse_other_rows(task, first, one, second, other)
    faults = []
    if task == "erosion" and not np.array_equal(one["grade"], other["grade"]):
        faults.append(f"{np.count_nonzero(one['grade'] != other['grade'])} joints have another true grade")
    if task == "segmentation":
        faults += [
            f"{knob} was {first.knobs[knob]:g} and {second.knobs[knob]:g}"
            for knob in ("tolerance-px", "field-of-view")
            if first.knobs[knob] != second.knobs[knob]
        ]
        if one["dsc"].shape != other["dsc"].shape:
            faults.append("they know different numbers of bones")
    if faults:
        raise PredictionError(f"{task}: the arms were measured differently: {'; '.join(faults)}. Measure both alike")
    return one, other


def remarks(first: Arm, second: Arm) -> list[str]:
    """Return in words what a reader of the comparison must know of its arms."""
    said = []
    if first.path.resolve() == second.path.resolve():
        said.append("both arms are the same folder")
    if first.cohort != second.cohort:
        said.append(
            "the arms name different cohorts (hash): radiographs and grades agree, outlines or training images may not"
        )
    return said


def _refuse_other_rows(task: str, first: Arm, one: Table, second: Arm, other: Table) -> None:
    keys, others = _keys(one), _keys(other)
    if keys == others:
        return
    faults = []
    for arm, own, foreign in ((first, set(keys), set(others)), (second, set(others), set(keys))):
        alone = own - foreign
        patients = {key[:2] for key in own} - {key[:2] for key in foreign}
        if alone:
            names = sorted({key[2] for key in alone})
            more = " .." if len(names) > _SHOWN else ""
            faults.append(
                f"{arm.path} alone has {len(alone)} {'joints' if task == 'erosion' else 'radiographs'} "
                f"({len(names)} radiographs, {len(patients)} whole patients: {', '.join(names[:_SHOWN])}{more})"
            )
    raise PredictionError(
        f"{task}: the arms do not cover the same patients, so they cannot be paired: "
        f"{'; '.join(faults) or 'one of them has a row twice'}. Measure both on the same cohort and split, whole"
    )


def _keys(table: Table) -> list[tuple[str, ...]]:
    names = [name for name in ("center", "patient", "name", "joint") if name in table]
    return list(zip(*(table[name].tolist() for name in names), strict=True))
