"""The one tidy table of a study, as CSV and as parquet, and the seals by which a change is found and named.

A row is one value: of a patient (segmentation) or of a joint (erosion), under one model. Everything that a study says
is computed from it.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ramw_fed.errors import StudyError
from ramw_fed.metrics.scopes import group_by_patient
from ramw_fed.metrics.segmentation_scopes import patient_values
from ramw_fed.metrics.surface import SEGMENTATION_COUNTS, SEGMENTATION_METRICS
from ramw_fed.studies.training import Cell
from ramw_fed.tasks.task import Table

MODEL = ("study", "design", "arm", "method", "seed", "fold", "dose", "label", "train_centers", "test_center", "task")
COLUMNS = (*MODEL, "patient", "radiograph", "item", "measure", "value")
_WHOLE = frozenset({"seed"})
_EROSION_MEASURES = ("probability", "grade", "predicted_grade")

Row = tuple[Any, ...]
Columns = Mapping[str, NDArray[Any]]
"""``COLUMNS``, each ``(rows,)``: texts, ``seed`` int64, ``value`` float64 with NaN where it is not defined."""


def rows_of(study: str, cell: Cell, center: str, measured: Table) -> Iterator[Row]:
    """Yield the rows of one model at one center.

    Args:
        study: Name of the study.
        cell: Design and training.
        center: Where it was tested.
        measured: What the task's ``measure`` returned there.
    """
    one = cell.training
    model = (
        *(study, cell.design, one.arm, one.method, one.seed, one.fold, one.dose, cell.label),
        *("+".join(one.centers), center, one.task),
    )
    values = _joints(measured) if one.task == "erosion" else _patients(measured)
    for patient, radiograph, item, measure, value in values:
        yield (*model, patient, radiograph, item, measure, value)


def _patients(measured: Table) -> Iterator[Row]:
    centers, patients = measured["center"].tolist(), measured["patient"].tolist()
    names = [patient for _, patient in group_by_patient(centers, patients)[0]]
    for metric in (*SEGMENTATION_METRICS, *SEGMENTATION_COUNTS):
        by_bone = np.asarray(measured[metric], np.float64).reshape(len(centers), -1)
        for name, value in zip(names, patient_values(centers, patients, by_bone, metric), strict=True):
            yield name, "", "", metric, float(value)


def _joints(measured: Table) -> Iterator[Row]:
    given = [measure for measure in _EROSION_MEASURES if measure in measured]
    for row in range(len(measured["name"])):
        place = tuple(str(measured[column][row]) for column in ("patient", "name", "joint"))
        for measure in given:
            yield (*place, measure, float(measured[measure][row]))


def write_table(folder: Path, rows: Iterable[Row]) -> None:
    """Write ``table.csv`` and ``table.parquet``, sorted; equal rows give equal bytes."""
    ordered = sorted(rows, key=lambda row: row[:-1])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*row[:-1], "" if np.isnan(row[-1]) else repr(row[-1])) for row in ordered)
    _replace(folder / "table.csv", text.getvalue().encode())
    buffer = io.BytesIO()
    pq.write_table(_arrow(ordered), buffer, compression="zstd")
    _replace(folder / "table.parquet", buffer.getvalue())


def read_table(folder: Path) -> Columns:
    """Read ``table.csv``.

    Raises:
        StudyError: It is missing, or no table of a study.
    """
    path = folder / "table.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
            raise ValueError("its columns are not those of a study")
        columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(COLUMNS, ())
        return {name: _column(name, texts) for name, texts in columns.items()}
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise StudyError(f"{path} cannot be read: {error}; put it back from a copy, or run the study again") from error


def read_parquet(folder: Path) -> Columns:
    """Read ``table.parquet``.

    Raises:
        StudyError: As in :func:`read_table`.
    """
    path = folder / "table.parquet"
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise StudyError(f"{path} cannot be read: {error}; put it back from a copy, or run the study again") from error
    found: dict[str, NDArray[Any]] = {}
    for name in COLUMNS:
        column = table.column(name).to_pylist()
        found[name] = _column(name, ["" if value is None else value for value in column])
    return found


def seals(table: Columns) -> dict[str, str]:
    """Return, for each model at each test center, a hash (hex) of its rows, by the names that tell them apart."""
    by_model: dict[str, Any] = {}
    lines = zip(*(table[name].tolist() for name in COLUMNS), strict=True)
    for row in lines:
        model = "/".join(map(str, row[1 : len(MODEL)]))
        by_model.setdefault(model, hashlib.sha256()).update(repr(row).encode())
    return {model: hasher.hexdigest() for model, hasher in sorted(by_model.items())}


def _arrow(rows: list[Row]) -> pa.Table:
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(COLUMNS, ())
    arrays = {
        name: pa.array([None if np.isnan(value) else value for value in values], pa.float64())
        if name == "value"
        else pa.array(values, pa.int64() if name in _WHOLE else pa.string())
        for name, values in columns.items()
    }
    return pa.table(arrays)


def _column(name: str, values: Iterable[Any]) -> NDArray[Any]:
    if name == "value":
        return np.array([np.nan if value == "" else float(value) for value in values], np.float64)
    if name in _WHOLE:
        return np.array([int(value) for value in values], np.int64)
    return np.array(list(values), np.str_)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    temporary.replace(path)
