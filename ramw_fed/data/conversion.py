"""A folder of images, as a PACS exports them, into a cohort with a manifest and without identity."""

import csv
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, cast

import cv2

from ramw_fed.data.cohort import Description
from ramw_fed.data.description import write_description
from ramw_fed.data.dicom import is_dicom, read_dicom, read_header
from ramw_fed.data.findings import Collector, summary
from ramw_fed.data.inspection import inspect
from ramw_fed.data.layout import DESCRIPTION, IMAGE_FORMATS, MANIFEST, plain
from ramw_fed.data.listing import list_files
from ramw_fed.data.manifest_table import COLUMNS
from ramw_fed.data.parting import refuse_filled
from ramw_fed.data.radiograph import read_grey
from ramw_fed.errors import CohortError


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was written.

    Attributes:
        num_patients: Patients, each with a new number.
        num_images: Images, a row each.
        num_unsided: Images of which nothing says whether they are of the left or the right: fill the column.
        num_unspaced: Images of which nothing says how large a pixel is.
        not_images: Files that were left behind, because they hold no image.
    """

    num_patients: int
    num_images: int
    num_unsided: int
    num_unspaced: int
    not_images: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One image to convert; ``patient`` and ``exam`` as the hospital knows them, ``pixels`` their hash."""

    path: str
    patient: str
    exam: str = ""
    side: Literal["L", "R", ""]
    spacing_mm: tuple[float, float] | None = None
    pixels: str


def import_folder(
    folder: Path, out: Path, *, center: str, is_inspected: bool = False, mapping: Path | None = None
) -> Conversion:
    """Convert all images below ``folder`` to 8-bit PNG in the new folder ``out``, patients and exams renumbered.

    A DICOM file tells patient, exam, side and spacing; of other images the first folder is the patient, and ``_L`` or
    ``_R`` at the name's end the side. Numbers follow the pixels' hashes: their order tells nothing.

    Args:
        folder: Is only read.
        out: Gets ``manifest.csv``, ``images/`` and a ``cohort.toml`` in which bones and joints are to be filled in.
        center: Name of the center, in every row and before every patient's number.
        is_inspected: A person has looked at the DICOM images that do not say whether they show text: none does.
        mapping: CSV file to write which file became which image, and which patient; it is identity, for its owner
            alone. Without it nothing leads back.

    Raises:
        CohortError: All faults in one text; nothing was written then.
    """
    refuse_filled(out)
    if not plain(center):
        raise CohortError(f"the center's name is {center!r}; one with some of a-z or 0-9 is wanted")
    if mapping is not None:
        _refuse_mapping(mapping, out)
    sources, not_images = _look(folder, is_inspected)
    names = dict(_numbered(sources, plain(center)))
    (out / "images").mkdir(parents=True)
    for source in sources:
        _convert(folder / source.path, out / "images" / f"{names[source.path]}.png")
    _write_manifest(out, sources, names, center)
    write_description(Description(kind="real", bones=(), joints=()), out / DESCRIPTION)
    if mapping is not None:
        _write_mapping(mapping, sources, names)
    return Conversion(
        num_patients=len({source.patient for source in sources}),
        num_images=len(sources),
        num_unsided=sum(not source.side for source in sources),
        num_unspaced=sum(source.spacing_mm is None for source in sources),
        not_images=not_images,
    )


def _refuse_mapping(path: Path, out: Path) -> None:
    if path.resolve().is_relative_to(out.resolve()) or path.exists() or not path.parent.is_dir():
        raise CohortError(
            f"the mapping leads back to patients; {path} must be a new file, in a folder that exists, outside {out}"
        )


def _look(folder: Path, is_inspected: bool) -> tuple[list[_Source], tuple[str, ...]]:
    """All images in the order of their paths, and the files that are none; or one refusal with every fault."""
    collector, sources, not_images = Collector(), [], []
    for path in sorted(list_files(folder, collector)):
        if is_dicom(folder / path):
            source = _look_at_dicom(folder, path, is_inspected, collector)
        elif PurePosixPath(path.lower()).suffix in IMAGE_FORMATS:
            source = _look_at_image(folder, path, collector)
        else:
            source = None
        if source is None:
            not_images.append(path)
        else:
            sources.append(source)
    not_images += [place for one in collector.findings() if one.code == "file-unknown" for place in one.places]
    errors = [finding for finding in collector.findings() if finding.level == "error"]
    if not errors and not sources:
        collector.add("radiograph-missing")
        errors = list(collector.findings())[:1]
    if errors:
        raise CohortError(f"{folder} cannot be imported; nothing was written.\n{summary(errors)}")
    return sources, tuple(sorted(not_images))


def _look_at_dicom(folder: Path, path: str, is_inspected: bool, collector: Collector) -> _Source | None:
    header, facts = read_header(folder / path), inspect(folder / path)
    if facts.fault == "dicom-without-image":
        return None
    if facts.fault:
        collector.add(facts.fault, path)
    # Identity stays behind with the tags; text in the pixels would come along.
    elif header.is_annotated or (header.is_annotated is None and not is_inspected):
        collector.add("dicom-annotation", path, detail=dict(facts.also)["dicom-annotation"])
    return _Source(
        path=path,
        patient=header.patient or _first_folder(path, collector),
        exam=header.exam,
        side=header.side,
        spacing_mm=header.spacing_mm,
        pixels=facts.pixels,
    )


def _look_at_image(folder: Path, path: str, collector: Collector) -> _Source:
    facts = inspect(folder / path)
    if facts.fault:
        collector.add(facts.fault, path)
    side = re.search(r"_([LR])$", PurePosixPath(path).stem)
    return _Source(
        path=path,
        patient=_first_folder(path, collector),
        side=cast(Literal["L", "R"], side[1]) if side else "",
        pixels=facts.pixels,
    )


def _first_folder(path: str, collector: Collector) -> str:
    parts = PurePosixPath(path).parts
    if len(parts) == 1:
        collector.add("patient-unknown", path)
    return parts[0]


def _numbered(sources: list[_Source], prefix: str) -> Iterator[tuple[str, str]]:
    """Path of each source to its new name: center and patient, exam, image; each numbered from 1."""
    patients = _in_order({source.patient: source.pixels for source in reversed(_by_hash(sources))})
    for number, patient in enumerate(patients, start=1):
        own = [source for source in _by_hash(sources) if source.patient == patient]
        exams = _in_order({source.exam: source.pixels for source in reversed(own)})
        for image, source in enumerate(own, start=1):
            yield source.path, f"{prefix}-{number:04d}_{exams.index(source.exam) + 1:02d}_{image:02d}"


def _by_hash(sources: list[_Source]) -> list[_Source]:
    return sorted(sources, key=lambda source: (source.pixels, source.path))


def _in_order(first: Mapping[str, str]) -> list[str]:
    return sorted(first, key=lambda key: (first[key], key))


def _convert(source: Path, target: Path) -> None:
    pixels = read_dicom(source) if is_dicom(source) else read_grey(source)
    if not cv2.imwrite(str(target), pixels):
        raise CohortError(f"{target} cannot be written; is the disk full?")


def _write_manifest(out: Path, sources: list[_Source], names: Mapping[str, str], center: str) -> None:
    with (out / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(COLUMNS), restval="")
        table.writeheader()
        for source in sorted(sources, key=lambda source: names[source.path]):
            name = names[source.path]
            patient, exam, _ = name.rsplit("_", 2)
            spacing = " ".join(map(str, source.spacing_mm or ()))
            row = {"image": f"images/{name}.png", "patient": patient, "exam": f"{patient}_{exam}"}
            table.writerow({**row, "side": source.side, "center": center, "spacing": spacing})


def _write_mapping(path: Path, sources: list[_Source], names: Mapping[str, str]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("image", "file", "patient", "exam"))
        table.writerows((names[source.path], source.path, source.patient, source.exam) for source in sources)
