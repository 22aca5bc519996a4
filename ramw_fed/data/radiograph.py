"""One wrist radiograph and what is known of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.dicom import SUFFIXES, read_dicom
from ramw_fed.data.levels import stretch
from ramw_fed.errors import CohortError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Radiograph:
    """One image of one wrist; files are opened only when asked for.

    Attributes:
        name: Unique in the cohort, ``PPPP_SSSS_L`` in RAM-W600's own tree.
        patient: Key of the patient; unique across centers.
        exam: Key of the imaging study, in which both hands may be.
        side: ``"L"`` or ``"R"``.
        center: Name of the center that owns the image.
        image: Image file; None where only joint crops are known.
        masks: ``.npy`` of shape ``(bones, H, W)``, non-zero inside the bone; None without outlines.
        crops: Joint name to image file of the joint; empty where joints were not cut out.
        scores: Joint name to Sharp/van der Heijde erosion grade; empty where not scored.
        boxes: Joint name to ``(x0, y0, x1, y1)`` in pixels of the image; empty where not located.
        spacing_mm: Height and width of a pixel of the image, measured at the detector; None where not known.
        mask_split: Split of the segmentation task; None without masks or without a split.
        score_split: Split of the erosion task; None without scores or without a split.
    """

    name: str
    patient: str
    exam: str
    side: Literal["L", "R"]
    center: str
    image: Path | None
    masks: Path | None = None
    crops: Mapping[str, Path] = field(default_factory=dict)
    scores: Mapping[str, int] = field(default_factory=dict)
    boxes: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)
    spacing_mm: tuple[float, float] | None = None
    mask_split: Split | None = None
    score_split: Split | None = None

    def read_image(self) -> NDArray[np.uint8]:
        """Return the image as ``(H, W)`` uint8; colour images must have equal channels."""
        if self.image is None:
            raise CohortError("an image wanted, but of this radiograph only joint crops are known")
        return read_grey(self.image)

    def read_crop(self, joint: str) -> NDArray[np.uint8]:
        """Return the region of ``joint`` as ``(h, w)`` uint8: its own file, or cut from the image by its box.

        Raises:
            CohortError: There is neither.
        """
        if joint in self.crops:
            return read_grey(self.crops[joint])
        if joint not in self.boxes or self.image is None:
            raise CohortError(f"a crop of {joint!r} wanted, but there is neither a file nor a box in an image")
        image = self.read_image()
        x0, y0, x1, y1 = self.boxes[joint]
        rows = slice(max(math.floor(y0), 0), math.ceil(y1))
        return np.ascontiguousarray(image[rows, max(math.floor(x0), 0) : math.ceil(x1)])

    def read_masks(self) -> NDArray[np.bool_]:
        """Return the masks as ``(bones, H, W)`` bool.

        Raises:
            CohortError: There are none, or the file is not an array of 0 and one other value.
        """
        if self.masks is None:
            raise CohortError("masks wanted, but this radiograph has none; ask `masks is not None` first")
        return read_masks(self.masks)


def read_masks(path: Path) -> NDArray[np.bool_]:
    """Read a mask file as ``(bones, H, W)`` bool.

    Raises:
        CohortError: The file is no array of 0 and 1, or of 0 and 255.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CohortError(f"{path.name} cannot be read as an array: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.itemsize != 1 or not is_binary(array):
        raise CohortError(f"{path.name} must be (bones, H, W), one byte a pixel, of 0 and 1 or of 0 and 255")
    return np.asarray(array > 0)


def is_binary(array: NDArray[np.generic]) -> bool:
    """Tell whether an array of bytes holds 0 and 1 only, or 0 and 255 only."""
    flat = np.ascontiguousarray(array).view(np.uint8)
    largest = int(flat.max(initial=0))
    # Without a sort: all non-zero values equal the largest when they add up to it. 16 times faster than unique.
    return largest in (0, 1, 255) and int(np.count_nonzero(flat)) * largest == int(flat.sum(dtype=np.int64))


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Read an image file as ``(H, W)`` uint8, grey or with three equal channels; 16 bits are stretched to 8.

    Raises:
        CohortError: The file is missing, no image, truly coloured, or of another depth.
    """
    if path.suffix.lower() in SUFFIXES:
        return read_dicom(path)
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise CohortError(f"{path.name} cannot be decoded as an image; `ramw-fed cohort check` lists all such files")
    if array.ndim == 3:
        if not (array[..., 0] == array[..., 1]).all() or not (array[..., 0] == array[..., 2]).all():
            raise CohortError(f"{path.name} has colours; a radiograph is grey, or has three equal channels")
        array = array[..., 0]
    if array.dtype not in (np.uint8, np.uint16):
        raise CohortError(f"{path.name} has {array.dtype} pixels; whole numbers of 8 or 16 bits are wanted")
    return np.ascontiguousarray(array if array.dtype == np.uint8 else stretch(array))
