"""Radiographs decoded once and laid out for fast reading: images as bytes, masks as bits, one file each.

The files lie in the cache under a name made of the cohort's hash, the radiographs, the size and the format. One
radiograph is read at a time: memory holds what is in use, not the cohort.
"""

import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.cache import cache_folder
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.data.resizing import fit_image, fit_masks, stretch
from ramw_fed.errors import CohortError

FORMAT = 1  # raise it when what is written below changes
_INDEX, _IMAGES, _MASKS = "index.json", "images.bin", "masks.bin"

Progress = Callable[[int, int], None]


class Packed:
    """Images and masks of some radiographs, in the order of the cohort; made by ``pack``.

    Attributes:
        folder: Where the files lie.
        names: Names of the radiographs.
        bones: Number of mask channels.
    """

    def __init__(self, folder: Path) -> None:
        """Open what ``pack`` wrote; cheap, nothing is read yet."""
        index = json.loads((folder / _INDEX).read_text())
        self.folder = folder
        self.names: tuple[str, ...] = tuple(index["names"])
        self.bones: int = index["bones"]
        self._shapes: list[tuple[int, int]] = [(height, width) for height, width in index["shapes"]]
        self._outlined: list[bool] = index["outlined"]
        areas = [height * width for height, width in self._shapes]
        mask_bytes = [_num_mask_bytes(self.bones, area) * has for area, has in zip(areas, self._outlined, strict=True)]
        self._image_starts = np.concatenate([[0], np.cumsum(areas, dtype=np.int64)])
        self._mask_starts = np.concatenate([[0], np.cumsum(mask_bytes, dtype=np.int64)])
        self._images = _Bytes(folder / _IMAGES, int(self._image_starts[-1]))
        self._masks = _Bytes(folder / _MASKS, int(self._mask_starts[-1]))

    def __len__(self) -> int:
        """Return the number of radiographs."""
        return len(self.names)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as the folder's name alone."""
        return Packed, (self.folder,)

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return an image of its own: ``(S, S)``, or ``(H, W)`` where packed at native size."""
        start, end = self._image_starts[row : row + 2]
        return self._images.read(start, end).reshape(self._shapes[row])

    def has_masks(self, row: int) -> bool:
        """Tell whether the radiograph has masks."""
        return self._outlined[row]

    def masks(self, row: int) -> NDArray[np.bool_]:
        """Return ``(bones, S, S)``, or ``(bones, H, W)`` where packed at native size.

        Raises:
            CohortError: The radiograph has none.
        """
        if not self._outlined[row]:
            raise CohortError("masks wanted, but this radiograph has none; ask `has_masks` first")
        height, width = self._shapes[row]
        start, end = self._mask_starts[row : row + 2]
        bits = np.unpackbits(self._masks.read(start, end), count=self.bones * height * width)
        return bits.view(np.bool_).reshape(self.bones, height, width)


class PackedCrops:
    """Joint crops of some radiographs, ``(S, S)`` each; made by ``pack_crops``.

    Attributes:
        folder: Where the files lie.
        names: Names of the radiographs.
        joints: Names of the joints.
        size: Side of a crop in pixels.
    """

    def __init__(self, folder: Path) -> None:
        """Open what ``pack_crops`` wrote; cheap, nothing is read yet."""
        index = json.loads((folder / _INDEX).read_text())
        self.folder = folder
        self.names: tuple[str, ...] = tuple(index["names"])
        self.joints: tuple[str, ...] = tuple(index["joints"])
        self.size: int = index["size"]
        self._present = np.array(index["present"], np.bool_).reshape(len(self.names), len(self.joints))
        self._crops = _Bytes(folder / _IMAGES, self._present.size * self.size**2)

    def __len__(self) -> int:
        """Return the number of radiographs."""
        return len(self.names)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as the folder's name alone."""
        return PackedCrops, (self.folder,)

    def has_crop(self, row: int, joint: int) -> bool:
        """Tell whether the joint, by its number in ``joints``, has a crop."""
        return bool(self._present[row, joint])

    def crop(self, row: int, joint: int) -> NDArray[np.uint8]:
        """Return one crop ``(S, S)`` of its own; the joint by its number in ``joints``.

        Raises:
            CohortError: There is no crop of that joint.
        """
        if not self._present[row, joint]:
            raise CohortError(f"a crop of {self.joints[joint]!r} wanted, but there is none; ask `has_crop` first")
        start = (row * len(self.joints) + joint) * self.size**2
        return self._crops.read(start, start + self.size**2).reshape(self.size, self.size)


def pack(cohort: Cohort, size: int | None, *, mirror: bool = True, progress: Progress | None = None) -> Packed:
    """Return the cohort's images and masks, decoding only what no earlier call has decoded.

    Args:
        cohort: Each radiograph must have an image; a center passes its own part.
        size: Side in pixels, other shapes are centred in black; None for the images' own sizes.
        mirror: Mirror the cohort's mirrored sides, so that all wrists look alike.
        progress: Called with the number of images done and of all, when there is work to do.
    """
    key = _key("pack", cohort, size, mirror)

    def write(folder: Path) -> None:
        shapes, outlined = [], []
        with (folder / _IMAGES).open("wb") as images, (folder / _MASKS).open("wb") as masks:
            for radiograph in _counted(cohort.radiographs, progress):
                shapes.append(_write_image(radiograph, cohort, size, mirror, images))
                outlined.append(radiograph.masks is not None)
                if radiograph.masks is not None:
                    _write_masks(radiograph, cohort, size, mirror, shapes[-1], masks)
        index = {"bones": len(cohort.description.bones), "shapes": shapes, "outlined": outlined}
        _write_index(folder, cohort, index)

    return Packed(_made_once(key, write))


def pack_crops(cohort: Cohort, size: int, *, mirror: bool = True, progress: Progress | None = None) -> PackedCrops:
    """Return the cohort's joint crops, from their own files or cut out by their boxes.

    Args:
        cohort: Joints without a crop stay black and are known to be absent.
        size: Side in pixels; as the benchmark does, a crop fills it in both directions.
        mirror: Mirror the cohort's mirrored sides; the published benchmark means to and never does.
        progress: Called with the number of radiographs done and of all, when there is work to do.
    """
    key = _key("crops", cohort, size, mirror)
    joints = cohort.description.joints

    def write(folder: Path) -> None:
        present = []
        with (folder / _IMAGES).open("wb") as file:
            for radiograph in _counted(cohort.radiographs, progress):
                for joint in joints:
                    has = joint in radiograph.crops or (joint in radiograph.boxes and radiograph.image is not None)
                    crop = np.zeros((size, size), np.uint8)
                    if has:
                        crop = stretch(radiograph.read_crop(joint), size)
                    if mirror and radiograph.side in cohort.description.mirrored_sides:
                        crop = crop[:, ::-1]
                    file.write(crop.tobytes())
                    present.append(has)
        _write_index(folder, cohort, {"joints": list(joints), "size": size, "present": present})

    return PackedCrops(_made_once(key, write))


def _key(kind: str, cohort: Cohort, size: int | None, mirror: bool) -> str:
    description = cohort.description
    names = [radiograph.name for radiograph in cohort.radiographs]
    parts = [FORMAT, kind, cohort.sha256, size, mirror, description.mirrored_sides, description.joints, names]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _made_once(key: str, write: Callable[[Path], None]) -> Path:
    """Folder ``key`` of the cache; written beside it and moved, so that it is whole or absent.

    Two processes may do so at the same time: the second finds the first one's folder and drops its own.
    """
    folder = cache_folder() / "packed" / key
    if (folder / _INDEX).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=folder.parent))
    try:
        write(making)
        try:
            making.rename(folder)
        except OSError:
            if not (folder / _INDEX).exists():
                raise
    except OSError as error:
        raise CohortError(f"the cache at {folder.parent} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _write_index(folder: Path, cohort: Cohort, index: dict[str, Any]) -> None:
    names = [radiograph.name for radiograph in cohort.radiographs]
    (folder / _INDEX).write_text(json.dumps({"names": names, **index}))


def _counted(radiographs: Sequence[Radiograph], progress: Progress | None) -> Iterator[Radiograph]:
    for done, radiograph in enumerate(radiographs, start=1):
        yield radiograph
        if progress is not None:
            progress(done, len(radiographs))


def _write_image(
    radiograph: Radiograph, cohort: Cohort, size: int | None, mirror: bool, file: BinaryIO
) -> tuple[int, int]:
    image = radiograph.read_image()
    # Mirror first: an odd margin then lies on the same side of the wrist in left and right hands.
    if mirror and radiograph.side in cohort.description.mirrored_sides:
        image = np.ascontiguousarray(image[:, ::-1])
    if size is not None:
        image = fit_image(image, size)
    file.write(image.tobytes())
    return image.shape[0], image.shape[1]


def _write_masks(
    radiograph: Radiograph, cohort: Cohort, size: int | None, mirror: bool, shape: tuple[int, int], file: BinaryIO
) -> None:
    masks = radiograph.read_masks()
    if mirror and radiograph.side in cohort.description.mirrored_sides:
        masks = masks[:, :, ::-1]
    if size is not None:
        masks = fit_masks(masks, size)
    if masks.shape != (len(cohort.description.bones), *shape):
        raise CohortError(
            f"masks of shape {masks.shape} do not fit {len(cohort.description.bones)} bones, image {shape}"
        )
    file.write(np.packbits(masks).tobytes())


def _num_mask_bytes(bones: int, area: int) -> int:
    return (bones * area + 7) // 8


class _Bytes:
    """A file to read stretches of; not mapped into memory, where its pages would count for every process."""

    def __init__(self, path: Path, num_bytes: int) -> None:
        if path.stat().st_size != num_bytes:
            raise CohortError(f"{path} is not as long as its index says; delete {path.parent} and start again")
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def read(self, start: int, end: int) -> NDArray[np.uint8]:
        """Return the bytes from ``start`` to ``end``, safe between processes that share the open file."""
        array = np.empty(int(end - start), np.uint8)
        if os.preadv(self._file, [array.data], int(start)) != array.size:
            raise CohortError("a packed file became shorter while it was open; start again")
        return array
