"""What lies in a cohort's folder and what is wrong with it; nothing is refused here, everything is noted."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ramw_fed.data import layout
from ramw_fed.data.cohort import Description
from ramw_fed.data.findings import Collector
from ramw_fed.data.inspection import Facts
from ramw_fed.data.labels import Box
from ramw_fed.data.listing import Places
from ramw_fed.data.metadata import Study
from ramw_fed.data.radiograph import Radiograph


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Everything known of a folder.

    Attributes:
        description: From ``cohort.toml``, or RAM-W600's.
        radiographs: Sorted by name, faulty ones included, split as the folder says.
        places: Name of each radiograph to its files.
        facts: File to facts, for every file that was read.
        collector: What is wrong so far.
        sha256: Hash of all that was read.
        studies: Rows of ``Metadata.xlsx``; empty for a folder without one.
    """

    description: Description
    radiographs: tuple[Radiograph, ...]
    places: Mapping[str, Places]
    facts: Mapping[str, Facts]
    collector: Collector
    sha256: str
    studies: Mapping[str, Study] = field(default_factory=dict)


def hash_of(facts: Mapping[str, Facts]) -> str:
    """Return the hash of all files by path and content."""
    return hashlib.sha256("".join(f"{path}\0{facts[path].sha256}\n" for path in sorted(facts)).encode()).hexdigest()


def note_center_names(found: Iterable[str], description: Description, collector: Collector) -> None:
    """Note names that ``cohort.toml`` renames in vain, and names of centers that look alike.

    Args:
        found: Names as the folder's table has them.
        description: With the names of centers to put in their place.
        collector: Told what is odd.
    """
    raw = set(found)
    for name in sorted(set(description.center_names) - raw):
        collector.add("center-name-unused", name)
    by_plain: dict[str, set[str]] = {}
    for name in (description.center_names.get(name, name) for name in raw):
        by_plain.setdefault(layout.plain(name), set()).add(name)
    for plain, names in sorted(by_plain.items()):
        if len(names) > 1 and plain:
            collector.add("center-names-alike", detail=" / ".join(sorted(names)))


def note_files(
    places: Mapping[str, Places], facts: Mapping[str, Facts], description: Description, collector: Collector
) -> None:
    """Note what is wrong with each file of a radiograph by itself, and with masks beside their image."""
    for name, place in places.items():
        for path in place.files():
            if facts[path].fault:
                collector.add(facts[path].fault, path, radiograph=name)
            elif facts[path].is_blank:
                collector.add("image-blank", path)
            for code, detail in facts[path].also:
                collector.add(code, path, detail=detail, radiograph=name)
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


def note_labels(radiograph: Radiograph, place: Places, description: Description, collector: Collector) -> None:
    """Note which labels a radiograph lacks, or has in two splits."""
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


def note_boxes(
    radiographs: Sequence[Radiograph],
    places: Mapping[str, Places],
    boxes: Mapping[str, Mapping[str, Box]],
    facts: Mapping[str, Facts],
    collector: Collector,
) -> None:
    """Note boxes of joints that belong to no image, or miss theirs."""
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
