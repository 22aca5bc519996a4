"""Any folder of images with ``manifest.csv``, a row an image, and ``cohort.toml``, which says what they show."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ramw_fed.data import layout
from ramw_fed.data.cohort import Description
from ramw_fed.data.description import read_description
from ramw_fed.data.findings import Collector
from ramw_fed.data.inspection import Facts, inspect_all
from ramw_fed.data.listing import Places, list_files
from ramw_fed.data.manifest_table import Row, read_rows
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.data.scan import Scan, hash_of, note_boxes, note_center_names, note_files, note_labels
from ramw_fed.errors import CohortError


def scan_manifest(root: Path) -> Scan:
    """Look at the folder ``root``; never raises for what files hold."""
    collector = Collector()
    files = list_files(root, collector)
    description = _description(root, files, collector)
    rows = read_rows(root / layout.MANIFEST, description, collector)
    places = _places(rows, files, collector)
    tables = [name for name in (layout.MANIFEST, layout.DESCRIPTION) if name in files]
    wanted = sorted({*tables, *(path for place in places.values() for path in place.files())})
    facts = inspect_all(root, files, wanted)
    for path in sorted(set(files) - set(wanted)):
        collector.add("file-unknown", path)
    note_center_names((row.center for row in rows.values()), description, collector)
    note_files(places, facts, description, collector)
    radiographs = tuple(_radiograph(root, row, places[name], facts, description) for name, row in sorted(rows.items()))
    for radiograph in radiographs:
        note_labels(radiograph, places[radiograph.name], description, collector)
    note_boxes(radiographs, places, {}, facts, collector)
    if not radiographs:
        collector.add("radiograph-missing")
    return Scan(
        description=description,
        radiographs=radiographs,
        places=places,
        facts=facts,
        collector=collector,
        sha256=hash_of(facts),
    )


def _description(root: Path, files: Mapping[str, object], collector: Collector) -> Description:
    nothing = Description(kind="real", bones=(), joints=())
    if layout.DESCRIPTION not in files:
        collector.add("description-missing")
        return nothing
    try:
        # No wrist is taken for granted here, as it is in RAM-W600's own tree.
        return read_description(root / layout.DESCRIPTION, required=("bones", "joints"))
    except CohortError as error:
        collector.add("description-unreadable", layout.DESCRIPTION, detail=str(error))
        return nothing


def _places(rows: Mapping[str, Row], files: Mapping[str, object], collector: Collector) -> dict[str, Places]:
    places = {}
    for name, row in rows.items():
        place = places[name] = Places()
        for path in (row.image, row.mask):
            if path and path not in files:
                collector.add("file-missing", path, radiograph=name)
        if row.image in files:
            place.bone_image = row.image
        if row.mask in files:
            place.masks[row.split] = row.mask
        if PurePosixPath(row.image).suffix.lower() not in layout.IMAGE_FORMATS:
            collector.add("image-not-an-image", row.image, radiograph=name)
        if row.mask and PurePosixPath(row.mask).suffix.lower() != ".npy":
            collector.add("mask-unreadable", row.mask, radiograph=name)
    return places


def _radiograph(
    root: Path, row: Row, place: Places, facts: Mapping[str, Facts], description: Description
) -> Radiograph:
    own = facts[place.bone_image].spacing_mm if place.bone_image else None
    return Radiograph(
        name=row.name,
        patient=row.patient,
        exam=row.exam,
        side=row.side,
        center=description.center_names.get(row.center, row.center),
        image=root / place.bone_image if place.bone_image else None,
        masks=root / row.mask if place.masks else None,
        scores=row.scores,
        boxes=row.boxes,
        spacing_mm=row.spacing_mm or own,
        mask_split=row.split if place.masks else None,
        score_split=row.split if row.scores else None,
    )
