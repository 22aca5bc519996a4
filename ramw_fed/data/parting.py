"""One tree into one tree a center, as hospitals have them: to practise a deployment on one machine."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openpyxl

from ramw_fed.data import layout
from ramw_fed.data.findings import Collector
from ramw_fed.data.listing import find_places, list_files
from ramw_fed.data.metadata import find_columns, study_name
from ramw_fed.data.reading import read_cohort
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
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CohortError(f"{out} exists and is not an empty folder; name a new one, or remove it first")
    cohort = read_cohort(root, allow_leakage=True)
    files = list_files(root, Collector())
    places = find_places(files, cohort.description, Collector())
    folders = {center: out / f"center-{number}" for number, center in enumerate(cohort.centers, start=1)}
    for center, folder in folders.items():
        names = {radiograph.name for radiograph in cohort.at(center).radiographs}
        for path in sorted(path for name in names for path in places[name].files()):
            _copy(root / path, folder / path)
        if layout.DESCRIPTION in files:
            _copy(root / layout.DESCRIPTION, folder / layout.DESCRIPTION)
        for path in (layout.JOINT_SCORES, layout.JOINT_SCORES_ORIGINAL, layout.JOINT_BOXES):
            if path in files:
                _part_json(root / path, folder / path, names)
        _part_table(root / layout.METADATA, folder / layout.METADATA, {name.rpartition("_")[0] for name in names})
    return folders


def _copy(source: Path, target: Path) -> None:
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


def _part_table(source: Path, target: Path, studies: set[str]) -> None:
    table = openpyxl.load_workbook(source, read_only=True, data_only=True)
    header, *rows = table.worksheets[0].iter_rows(values_only=True)
    table.close()
    columns = find_columns(header)
    own = openpyxl.Workbook()
    sheet = own.worksheets[0]
    for row in (header, *(row for row in rows if study_name(row, columns) in studies)):
        sheet.append(row)
    save_workbook(own, target)
