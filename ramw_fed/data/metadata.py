"""``Metadata.xlsx``: one row a study; whose wrist it is and which center owns it."""

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import openpyxl

from ramw_fed.data.findings import Collector
from ramw_fed.data.layout import METADATA, known_joint, plain
from ramw_fed.data.spacing import read_spacing

_MAX_UNPACKED_BYTES = 1 << 29

# What a column means, and every spelling met so far (RAM-H1200, the successor, spells some differently).
COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "study": ("Mapped Image Stem", "Image Stem", "Mapped Stem"),
        "patient": ("NormalizedPatientID", "Normalized PatientID", "PatientID"),
        "exam": ("NormalizedStudyID", "Normalized StudyID", "StudyID"),
        "center": ("InstitutionName", "Institution Name", "Institution", "Center"),
        "has_arthritis": ("IsRA", "Is RA", "RA"),
        "spacing_mm": ("ImagerPixelSpacing", "Imager Pixel Spacing", "PixelSpacing"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One row.

    Attributes:
        center: As the file has it, blanks at the ends taken off; empty where it says nothing.
        patient: Number of the patient; None where it says nothing.
        has_arthritis: Whether the patient has rheumatoid arthritis; None where it says nothing.
        spacing_mm: Height and width of a pixel at the detector.
        scores: Side to joint to grade, as far as the row holds them.
    """

    center: str = ""
    patient: int | None = None
    has_arthritis: bool | None = None
    spacing_mm: tuple[float, float] | None = None
    scores: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def read_metadata(path: Path, joints: tuple[str, ...], collector: Collector) -> dict[str, Study]:
    """Read the table; everything odd goes to ``collector``.

    Returns:
        Name of the study (``PPPP_SSSS``) to its row.
    """
    rows = _rows(path, collector)
    if not rows:
        return {}
    columns = find_columns(rows[0])
    for meaning in ("study", "center"):
        has_both = columns["patient"] is not None and columns["exam"] is not None
        if columns[meaning] is None and not (meaning == "study" and has_both):
            collector.add("metadata-column-missing", METADATA, detail=COLUMNS[meaning][0])
            return {}
    scores = _score_columns(rows[0], joints)
    studies: dict[str, Study] = {}
    for number, row in enumerate(rows[1:], start=2):
        if all(cell is None for cell in row):
            continue
        cells = {meaning: row[column] if column is not None else None for meaning, column in columns.items()}
        name, study = study_name(row, columns), _study(cells, row, scores, number, collector)
        if studies.setdefault(name, study) != study:
            collector.add("study-contradicted", f"{METADATA} row {number}")
    return studies


def find_columns(header: Sequence[Any]) -> dict[str, int | None]:
    """Return the number of the column for each meaning of ``COLUMNS``; None where there is none."""
    found = {plain(str(cell)): number for number, cell in enumerate(header) if cell is not None}
    return {
        meaning: next((found[plain(name)] for name in names if plain(name) in found), None)
        for meaning, names in COLUMNS.items()
    }


def study_name(row: Sequence[Any], columns: Mapping[str, int | None]) -> str:
    """Return ``PPPP_SSSS`` of a row, from its own column or from patient and study; empty where it has neither."""

    def cell(meaning: str) -> Any:
        column = columns[meaning]
        return row[column] if column is not None else None

    if cell("study") is not None:
        return str(cell("study")).strip()
    patient, exam = _number(cell("patient")), _number(cell("exam"))
    return f"{patient:04d}_{exam:04d}" if patient is not None and exam is not None else ""


def _rows(path: Path, collector: Collector) -> list[tuple[Any, ...]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_UNPACKED_BYTES:
                collector.add("file-too-large", METADATA)
                return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of styles and extensions that do not matter here
            workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                return list(workbook.worksheets[0].iter_rows(values_only=True))
            finally:
                workbook.close()
    except Exception as error:  # a broken workbook can raise almost anything in zip, XML or openpyxl
        collector.add("metadata-unreadable", METADATA, detail=type(error).__name__)
        return []


def _score_columns(header: Sequence[Any], joints: tuple[str, ...]) -> dict[int, tuple[str, str]]:
    """Column number to (side, joint) of columns such as ``1st MC_L``."""
    found = {}
    for number, cell in enumerate(header):
        match = re.fullmatch(r"(.+?)[_ ]([LR])", str(cell).strip()) if cell is not None else None
        joint = known_joint(match[1], joints) if match else None
        if match and joint:
            found[number] = (match[2], joint)
    return found


def _study(
    cells: Mapping[str, Any],
    row: Sequence[Any],
    columns: Mapping[int, tuple[str, str]],
    number: int,
    collector: Collector,
) -> Study:
    scores: dict[str, dict[str, int]] = {}
    for column, (side, joint) in columns.items():
        grade = _number(row[column]) if column < len(row) else None
        if grade is not None:
            scores.setdefault(side, {})[joint] = grade
    spacing = read_spacing(cells["spacing_mm"])
    if spacing is None and cells["spacing_mm"] not in (None, ""):
        collector.add("spacing-malformed", f"{METADATA} row {number}")
    has_arthritis = _number(cells["has_arthritis"])
    return Study(
        center=str(cells["center"]).strip() if cells["center"] is not None else "",
        patient=_number(cells["patient"]),
        has_arthritis=bool(has_arthritis) if has_arthritis in (0, 1) else None,
        spacing_mm=spacing,
        scores=scores,
    )


def _number(cell: Any) -> int | None:
    try:
        return int(cell)
    except (TypeError, ValueError, OverflowError):
        return None
