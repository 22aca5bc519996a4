"""The tree of RAM-W600: the published download, a phantom, or a center's own part of either."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from ramw_fed.data import layout
from ramw_fed.data.cohort import Description
from ramw_fed.data.description import read_description, shrinking
from ramw_fed.data.findings import Collector
from ramw_fed.data.inspection import Facts, inspect_all
from ramw_fed.data.labels import Box, read_boxes, read_scores
from ramw_fed.data.listing import Places, find_places, list_files
from ramw_fed.data.metadata import Study, read_metadata
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.data.scan import Scan, hash_of, note_boxes, note_center_names, note_files, note_labels
from ramw_fed.errors import CohortError


def scan_ramw600(root: Path) -> Scan:
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
    for path in tables:
        if facts[path].fault:
            collector.add(facts[path].fault, path)
    note_files(places, facts, description, collector)
    radiographs = _assemble(root, places, studies, scores, boxes, description, collector)
    note_boxes(radiographs, places, boxes, facts, collector)
    return Scan(
        description=description,
        radiographs=radiographs,
        places=places,
        facts=facts,
        collector=collector,
        sha256=hash_of(facts),
        studies=studies,
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
    note_center_names((study.center for study in studies.values()), description, collector)
    scale = shrinking(root / layout.DESCRIPTION) if description.kind == "phantom" else 1.0
    return {
        name: replace(
            study,
            center=description.center_names.get(study.center, study.center),
            spacing_mm=study.spacing_mm and (study.spacing_mm[0] * scale, study.spacing_mm[1] * scale),
        )
        for name, study in studies.items()
    }


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
        note_labels(radiograph, place, description, collector)
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
