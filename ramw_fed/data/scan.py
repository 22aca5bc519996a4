"""What lies in a RAM-W600 tree and what is wrong with it; nothing is refused here, everything is noted."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from ramw_fed.data import layout
from ramw_fed.data.cohort import Description
from ramw_fed.data.description import read_description
from ramw_fed.data.findings import Collector
from ramw_fed.data.inspection import Facts, inspect_all
from ramw_fed.data.labels import Box, read_boxes, read_scores
from ramw_fed.data.listing import Places, find_places, list_files
from ramw_fed.data.metadata import Study, read_metadata
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.errors import CohortError


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Everything known of a folder.

    Attributes:
        description: From ``cohort.toml``, or RAM-W600's.
        radiographs: Sorted by name, faulty ones included, split as the folders say.
        facts: File to facts, for every file that was read.
        studies: Rows of the metadata.
        collector: What is wrong so far.
        sha256: Hash of all that was read.
    """

    description: Description
    radiographs: tuple[Radiograph, ...]
    facts: Mapping[str, Facts]
    studies: Mapping[str, Study]
    collector: Collector
    sha256: str


def scan(root: Path) -> Scan:
    """Look at the whole tree below ``root``; never raises for what files hold."""
    collector = Collector()
    files = list_files(root, collector)
    description = _description(root, files, collector)
    places = find_places(files, description, collector)
    tables = [name for name in _TABLES if name in files]
    wanted = sorted({*tables, *(path for place in places.values() for path in place.files())})
    facts = inspect_all(root, files, wanted)
    studies = _studies(root, facts, description, collector)
    scores = read_scores(root, layout.JOINT_SCORES, facts, description, collector)
    boxes = read_boxes(root, facts, description, collector)
    for path in sorted(set(files) - set(wanted) - {layout.JOINT_SCORES_ORIGINAL}):
        collector.add("file-unknown", path)
    _note_files(places, facts, description, collector)
    radiographs = _assemble(root, places, studies, scores, boxes, description, collector)
    _check_boxes(radiographs, places, boxes, facts, collector)
    digest = hashlib.sha256("".join(f"{path}\0{facts[path].sha256}\n" for path in wanted).encode())
    return Scan(
        description=description,
        radiographs=radiographs,
        facts=facts,
        studies=studies,
        collector=collector,
        sha256=digest.hexdigest(),
    )


_TABLES = (layout.DESCRIPTION, layout.METADATA, layout.JOINT_SCORES, layout.JOINT_BOXES)


def _description(root: Path, files: Mapping[str, object], collector: Collector) -> Description:
    if layout.DESCRIPTION not in files:
        return layout.RAMW600
    try:
        return read_description(root / layout.DESCRIPTION)
    except CohortError as error:
        collector.add("description-unreadable", layout.DESCRIPTION, detail=str(error))
        return layout.RAMW600


def _studies(
    root: Path, facts: Mapping[str, Facts], description: Description, collector: Collector
) -> dict[str, Study]:
    if layout.METADATA not in facts:
        collector.add("metadata-missing")
        return {}
    studies = read_metadata(root / layout.METADATA, description.joints, collector)
    raw = {study.center for study in studies.values()}
    for name in sorted(set(description.center_names) - raw):
        collector.add("center-name-unused", name)
    renamed = {
        name: replace(study, center=description.center_names.get(study.center, study.center))
        for name, study in studies.items()
    }
    by_plain: dict[str, set[str]] = {}
    for study in renamed.values():
        by_plain.setdefault(layout.plain(study.center), set()).add(study.center)
    for plain, names in sorted(by_plain.items()):
        if len(names) > 1 and plain:
            collector.add("center-names-alike", detail=" / ".join(sorted(names)))
    return renamed


def _note_files(
    places: Mapping[str, Places], facts: Mapping[str, Facts], description: Description, collector: Collector
) -> None:
    """Note what is wrong with each file by itself, and with masks beside their image."""
    for path in _TABLES:
        if path in facts and facts[path].fault:
            collector.add(facts[path].fault, path)
    for name, place in places.items():
        for path in place.files():
            if facts[path].fault:
                collector.add(facts[path].fault, path, radiograph=name)
            elif facts[path].is_blank:
                collector.add("image-blank", path)
        image = place.bone_image or place.joint_image
        for path in place.masks.values():
            if image is None:
                collector.add("mask-without-image", path, radiograph=name)
                continue
            shape, expected = facts[path].shape, (len(description.bones), *facts[image].shape)
            if not facts[path].fault and not facts[image].fault and shape != expected:
                collector.add("mask-shape", path, radiograph=name)
            elif facts[path].absent and not facts[path].fault:
                collector.add("bone-absent", path)
        if place.bone_image and place.joint_image:
            pixels = (facts[place.bone_image].pixels, facts[place.joint_image].pixels)
            if all(pixels) and pixels[0] != pixels[1]:
                collector.add("image-copies-differ", place.joint_image)


def _assemble(
    root: Path,
    places: Mapping[str, Places],
    studies: Mapping[str, Study],
    scores: Mapping[str, Mapping[str, int]],
    boxes: Mapping[str, Mapping[str, Box]],
    description: Description,
    collector: Collector,
) -> tuple[Radiograph, ...]:
    radiographs = []
    for name, place in sorted(places.items()):
        radiograph = _radiograph(root, name, place, studies, scores, boxes, collector)
        _note_labels(radiograph, place, description, collector)
        radiographs.append(radiograph)
    for name in sorted(set(scores) - set(places)):
        collector.add("score-without-image", name)
    for name in sorted(set(studies) - {name.rpartition("_")[0] for name in places}):
        collector.add("study-without-image", name)
    if not radiographs and (root.is_dir()):
        collector.add("radiograph-missing")
    return tuple(radiographs)


def _radiograph(
    root: Path,
    name: str,
    place: Places,
    studies: Mapping[str, Study],
    scores: Mapping[str, Mapping[str, int]],
    boxes: Mapping[str, Mapping[str, Box]],
    collector: Collector,
) -> Radiograph:
    study_name, _, side = name.rpartition("_")
    study = studies.get(study_name, Study())
    image = place.bone_image or place.joint_image
    if studies and not study.center:
        collector.add("center-missing", image or next(place.files()), radiograph=name)
    return Radiograph(
        name=name,
        patient=study_name.partition("_")[0],
        exam=study_name,
        side=cast(Literal["L", "R"], side),
        center=study.center,
        image=root / image if image is not None else None,
        masks=root / next(iter(place.masks.values())) if place.masks else None,
        crops={joint: root / path for joint, path in next(iter(place.crops.values()), {}).items()},
        scores=dict(scores.get(name, {})),
        boxes=dict(boxes.get(name, {})),
        spacing_mm=study.spacing_mm,
        mask_split=next(iter(place.masks), None),
        score_split=next(iter(place.crops), None) if name in scores else None,
    )


def _note_labels(radiograph: Radiograph, place: Places, description: Description, collector: Collector) -> None:
    name, note = radiograph.name, collector.add
    if len(place.masks) > 1:
        note("mask-in-two-splits", name, radiograph=name)
    if len(place.crops) > 1:
        note("crop-in-two-splits", name, radiograph=name)
    if radiograph.image is not None and radiograph.masks is None and not radiograph.scores:
        note("image-without-label", name)
    if radiograph.crops and not radiograph.scores:
        note("crop-without-score", name)
    if any(joint not in radiograph.crops and joint not in radiograph.boxes for joint in radiograph.scores):
        note("score-without-crop", name)
    if 0 < len(radiograph.scores) < len(description.joints):
        note("score-partial", name)
    if radiograph.masks is not None and radiograph.mask_split is None:
        note("label-without-split", name, detail="masks")
    if radiograph.scores and radiograph.score_split is None:
        note("label-without-split", name, detail="scores")


def _check_boxes(
    radiographs: Sequence[Radiograph],
    places: Mapping[str, Places],
    boxes: Mapping[str, Mapping[str, Box]],
    facts: Mapping[str, Facts],
    collector: Collector,
) -> None:
    for name in sorted(set(boxes) - set(places)):
        collector.add("box-malformed", name)
    for radiograph in radiographs:
        place = places[radiograph.name]
        image = place.bone_image or place.joint_image
        if image is None or len(facts[image].shape) != 2:
            continue
        height, width = facts[image].shape
        for x0, y0, x1, y1 in radiograph.boxes.values():
            # An annotator's box may reach a little over the edge; one that misses the image is wrong.
            if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
                collector.add("box-malformed", radiograph.name)
