"""Which files lie in a RAM-W600 tree, and which radiograph each belongs to."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ramw_fed.data import layout
from ramw_fed.data.cohort import Description
from ramw_fed.data.findings import Collector
from ramw_fed.data.radiograph import SPLITS, Split


@dataclass
class Places:
    """Where the files of one radiograph lie, relative to the cohort's folder."""

    bone_image: str | None = None
    joint_image: str | None = None
    masks: dict[Split | None, str] = field(default_factory=dict)
    crops: dict[Split | None, dict[str, str]] = field(default_factory=dict)

    def files(self) -> Iterator[str]:
        """Yield all of them."""
        yield from (path for path in (self.bone_image, self.joint_image) if path is not None)
        yield from self.masks.values()
        for crops in self.crops.values():
            yield from crops.values()


def list_files(root: Path, collector: Collector) -> dict[str, os.stat_result]:
    """Return path relative to ``root`` (with ``/``) to status, links followed only where they stay inside."""
    found: dict[str, os.stat_result] = {}
    if not root.is_dir():
        collector.add("folder-missing", detail=root.name)
        return found
    real_root = root.resolve()
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            collector.add("folder-unreadable", folder.relative_to(root).as_posix())
            continue
        for entry in entries:
            path = Path(entry.path).relative_to(root).as_posix()
            if path == layout.LEDGERS and _holds_ledgers(Path(entry.path)):
                continue
            if entry.name.startswith("."):  # a tool's own: .git, .cache/huggingface, ._name of a Macintosh
                collector.add("file-unknown", path)
                continue
            # A link to a folder is not followed even inside: the same files would count twice.
            if entry.is_symlink() and not _stays_inside(Path(entry.path), real_root):
                collector.add("link-leaves-folder", path)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif entry.is_file():
                found[path] = entry.stat()
            else:
                collector.add("file-unknown", path)
    return found


def _holds_ledgers(folder: Path) -> bool:
    """Whether nothing but ledgers lies in the folder, or it is closed to all but their owner."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        centers = list(folder.iterdir())
        files = [path for center in centers for path in center.iterdir()]
    except NotADirectoryError:
        return False
    except PermissionError:
        return True
    return all(layout.LEDGER_FILE.fullmatch(path.name) and path.is_file() for path in files)


def _stays_inside(link: Path, real_root: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(real_root)
    except (OSError, RuntimeError):  # a loop, or a link to nothing
        return False


def find_places(files: Mapping[str, object], description: Description, collector: Collector) -> dict[str, Places]:
    """Sort the files by the radiograph that they belong to."""
    places: dict[str, Places] = {}
    for path in sorted(files):
        kind = _kind(path)
        if kind is None:
            continue
        what, split, name, joint_name = kind
        if layout.STEM.fullmatch(name) is None:
            collector.add("name-malformed", path)
            continue
        place = places.setdefault(name, Places())
        if what == "masks":
            place.masks[split] = path
            continue
        if what == "crop":
            joint = layout.known_joint(joint_name, description.joints)
            if joint is None:
                collector.add("joint-unknown", detail=joint_name)
            elif place.crops.setdefault(split, {}).setdefault(joint, path) != path:
                collector.add("image-twice", path, radiograph=name)
            continue
        if getattr(place, what) is not None:
            collector.add("image-twice", path, radiograph=name)
        setattr(place, what, path)
    return places


def _kind(path: str) -> tuple[str, Split | None, str, str] | None:
    """What a file is by its place: (what, split, name of the radiograph, joint), or None."""
    pure = PurePosixPath(path)
    folder, is_image = str(pure.parent), pure.suffix.lower() in layout.IMAGE_FORMATS
    for what, images in (("bone_image", layout.BONE_IMAGES), ("joint_image", layout.JOINT_IMAGES)):
        if folder == images and is_image:
            return what, None, pure.stem, ""
    if pure.suffix.lower() == ".npy" and folder == layout.BONE_MASKS:
        return "masks", None, pure.stem, ""
    parts = pure.parts
    for split in SPLITS:
        if pure.suffix.lower() == ".npy" and folder == f"{layout.BONE_MASKS}/{split}":
            return "masks", split, pure.stem, ""
        if is_image and len(parts) == 4 and str(pure.parent.parent) == f"{layout.JOINT_CROPS}/{split}":
            return "crop", split, parts[2], pure.stem
    return None
