"""``manifest.csv``: a row an image."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal

from ramw_fed.data.cohort import Description
from ramw_fed.data.findings import Collector
from ramw_fed.data.labels import Box, is_grade
from ramw_fed.data.layout import MANIFEST, known_joint, plain
from ramw_fed.data.radiograph import SPLITS, Split
from ramw_fed.data.spacing import read_spacing

# Each joint has two more, both optional: its name for the grade, its name and "box" for the region.
COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "image": "path of the image inside the folder; without its extension it is the radiograph's name",
        "patient": "key of the patient, the same for all images of one",
        "side": "L or R",
        "center": "name of the center",
        "exam": "key of the imaging study; empty: all images of the patient are of one",
        "split": "train, val or test, for both tasks; empty: none",
        "mask": "path of the masks (.npy) inside the folder; empty: none",
        "spacing": "height and width of a pixel in mm, or one number; empty: from a DICOM header, else unknown",
    }
)
_REQUIRED = ("image", "patient", "side", "center")
_SIDES: Mapping[str, Literal["L", "R"]] = MappingProxyType({"l": "L", "left": "L", "r": "R", "right": "R"})
_MAX_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row, read; ``image`` and ``mask`` are empty where there is none, the rest as in ``Radiograph``."""

    name: str
    patient: str
    exam: str
    side: Literal["L", "R"]
    center: str
    split: Split | None
    image: str
    mask: str
    scores: Mapping[str, int]
    boxes: Mapping[str, Box]
    spacing_mm: tuple[float, float] | None


def name_of(image: str) -> str:
    """Return the name of the radiograph whose image has this path; empty without one.

    >>> name_of("./images/a.left.png")
    'images/a.left'
    """
    return str(PurePosixPath(image.replace("\\", "/")).with_suffix("")) if image else ""


def read_rows(path: Path, description: Description, collector: Collector) -> dict[str, Row]:
    """Return name of the radiograph to its row; everything odd goes to ``collector``."""
    header, *lines = _cells(path, collector) or [[]]
    columns = _columns(header, description, collector) if header else None
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines if columns is not None else [], start=2):
        if not any(line):
            continue
        cells = {meaning: line[column] for meaning, column in (columns or {}).items()}
        place = f"{MANIFEST} row {number}"
        row = _row(cells, place, description, collector)
        if row is not None and row.name in rows:
            collector.add("row-twice", place, radiograph=row.name)
        elif row is not None:
            rows[row.name] = row
    return rows


def _cells(path: Path, collector: Collector) -> list[list[str]]:
    """All cells without blanks at their ends; nothing where the file is no table."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            collector.add("file-too-large", MANIFEST)
            return []
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = [[cell.strip() for cell in row] for row in csv.reader(file, strict=True)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        collector.add("manifest-unreadable", detail=type(error).__name__)
        return []
    uneven = [number for number, row in enumerate(table, start=1) if row and len(row) != len(table[0])]
    if uneven or not table or not any(table[0]):
        collector.add("manifest-unreadable", detail=f"row {uneven[0]}" if uneven else "no header")
        return []
    return table


def _columns(header: Sequence[str], description: Description, collector: Collector) -> dict[str, int] | None:
    """Meaning to number of its column: those of ``COLUMNS``, joints, and joints with " box"; None without some."""
    columns: dict[str, int] = {}
    for number, title in enumerate(header):
        meaning = _meaning(title, description.joints)
        if meaning is None:
            collector.add("column-unknown", detail=title)
        elif meaning in columns:
            collector.add("manifest-unreadable", detail=f"two columns {meaning!r}")
            return None
        else:
            columns[meaning] = number
    missing = [name for name in _REQUIRED if name not in columns]
    for name in missing:
        collector.add("manifest-column-missing", detail=name)
    return None if missing else columns


def _meaning(title: str, joints: tuple[str, ...]) -> str | None:
    if plain(title) in COLUMNS:
        return plain(title)
    box = re.fullmatch(r"(.+?)[\s_-]*box", title, re.IGNORECASE)
    joint = known_joint(box[1] if box else title, joints)
    return f"{joint} box" if joint and box else joint


def _row(cells: Mapping[str, str], place: str, description: Description, collector: Collector) -> Row | None:
    image, mask = (_inside(cells.get(column, ""), place, collector) for column in ("image", "mask"))
    name = name_of(image)
    _note_cells(cells, place, name, collector)
    if not name:
        return None
    split = cells.get("split", "").lower()
    return Row(
        name=name,
        patient=cells["patient"],
        exam=cells.get("exam") or cells["patient"],
        side=_SIDES.get(cells["side"].lower(), "R"),  # any other is an error: the row is not used
        center=cells["center"],
        split=split if split in SPLITS else None,
        image=image,
        mask=mask,
        scores=_scores(cells, place, name, description, collector),
        boxes=_boxes(cells, place, description, collector),
        spacing_mm=read_spacing(cells.get("spacing", "")),
    )


def _note_cells(cells: Mapping[str, str], place: str, name: str, collector: Collector) -> None:
    for column in ("image", "patient", "center"):
        if not cells[column]:
            collector.add("cell-missing", place, detail=column, radiograph=name)
    if cells["side"].lower() not in _SIDES:
        collector.add("side-malformed", place, radiograph=name)
    if cells.get("split", "").lower() not in ("", *SPLITS):
        collector.add("split-malformed", place, radiograph=name)
    if cells.get("spacing") and read_spacing(cells["spacing"]) is None:
        collector.add("spacing-malformed", place)


def _inside(path: str, place: str, collector: Collector) -> str:
    """The path as ``list_files`` has it; empty where it leads out of the folder."""
    pure = PurePosixPath(path.replace("\\", "/"))
    if not path:
        return ""
    if not pure.name or pure.is_absolute() or ".." in pure.parts or ":" in path:
        collector.add("path-leaves-folder", place)
        return ""
    return str(pure)


def _scores(
    cells: Mapping[str, str], place: str, name: str, description: Description, collector: Collector
) -> dict[str, int]:
    scores = {}
    for joint in description.joints:
        grade = _number(cells.get(joint, "") or "nan")
        if cells.get(joint) and not is_grade(grade, description.max_grade):
            collector.add("score-malformed", place, radiograph=name)
        elif cells.get(joint):
            scores[joint] = int(grade)
    return scores


def _boxes(cells: Mapping[str, str], place: str, description: Description, collector: Collector) -> dict[str, Box]:
    boxes = {}
    for joint in description.joints:
        numbers = [_number(text) for text in cells.get(f"{joint} box", "").split()]
        if not numbers:
            continue
        if (
            len(numbers) == 4
            and all(map(math.isfinite, numbers))
            and numbers[0] < numbers[2]
            and numbers[1] < numbers[3]
        ):
            boxes[joint] = (numbers[0], numbers[1], numbers[2], numbers[3])
        else:
            collector.add("box-malformed", place)
    return boxes


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
