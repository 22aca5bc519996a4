"""One folder into one a center, as hospitals have them: to practise a deployment on one machine."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import openpyxl

from ramw_fed.data import layout
from ramw_fed.data.layout import plain
from ramw_fed.data.manifest_table import name_of
from ramw_fed.data.metadata import find_columns, study_name
from ramw_fed.data.reading import read_cohort, scan
from ramw_fed.data.workbooks import save_workbook
from ramw_fed.errors import CohortError


def part_by_center(root: Path, out: Path) -> Mapping[str, Path]:
    """Write each center's own files, and its own rows of every table, below the new folder ``out``.

    Args:
        root: A cohort that the reader takes.
        out: A folder that does not exist or is empty.

    Returns:
        Name of each center to its folder; folders are numbered, because a name may not be fit for one.

    Raises:
        CohortError: ``root`` has errors, or ``out`` holds something already.
    """
    refuse_filled(out)
    cohort = read_cohort(root, allow_leakage=True)
    places = scan(root).places
    folders = {center: out / f"center-{number}" for number, center in enumerate(cohort.centers, start=1)}
    for center, folder in folders.items():
        names = {radiograph.name for radiograph in cohort.at(center).radiographs}
        for path in sorted(path for name in names for path in places[name].files()):
            _copy(root / path, folder / path, names)
        for path, part in _TABLES.items():
            if (root / path).is_file():
                part(root / path, folder / path, names)
    return folders


def refuse_filled(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        CohortError: It does, or is no folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CohortError(f"{out} exists and is not an empty folder; name a new one, or remove it first")


def _copy(source: Path, target: Path, _names: set[str]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _part_json(source: Path, target: Path, names: set[str]) -> None:
    table: Any = json.loads(source.read_text(encoding="utf-8-sig"))
    if isinstance(table, list):
        table = [entry for entry in table if str(entry.get("identifier", "")).strip() in names]
    else:
        images = [image for image in table["images"] if Path(image["file_name"]).stem in names]
        numbers = {image["id"] for image in images}
        kept = [annotation for annotation in table["annotations"] if annotation["image_id"] in numbers]
        table = {**table, "images": images, "annotations": kept}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _part_workbook(source: Path, target: Path, names: set[str]) -> None:
    studies = {name.rpartition("_")[0] for name in names}
    table = openpyxl.load_workbook(source, read_only=True, data_only=True)
    header, *rows = table.worksheets[0].iter_rows(values_only=True)
    table.close()
    columns = find_columns(header)
    own = openpyxl.Workbook()
    sheet = own.worksheets[0]
    for row in (header, *(row for row in rows if study_name(row, columns) in studies)):
        sheet.append(row)
    save_workbook(own, target)


def _part_manifest(source: Path, target: Path, names: set[str]) -> None:
    with source.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    image = [plain(title) for title in header].index("image")
    with target.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *(row for row in rows if row and name_of(row[image].strip()) in names)])


_TABLES: Mapping[str, Callable[[Path, Path, set[str]], None]] = MappingProxyType(
    {
        layout.DESCRIPTION: _copy,
        layout.MANIFEST: _part_manifest,
        layout.METADATA: _part_workbook,
        layout.JOINT_SCORES: _part_json,
        layout.JOINT_SCORES_ORIGINAL: _part_json,
        layout.JOINT_BOXES: _part_json,
    }
)
