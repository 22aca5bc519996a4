"""Images and masks into a square of another size, and back."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """Where an image of ``height`` x ``width`` lies in a square of ``size``: scaled, centred, black around it."""

    height: int
    width: int
    size: int

    @property
    def scaled(self) -> tuple[int, int]:
        """Height and width inside the square."""
        scale = self.size / max(self.height, self.width)
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the square that the image fills."""
        height, width = self.scaled
        top, left = (self.size - height) // 2, (self.size - width) // 2
        return slice(top, top + height), slice(left, left + width)


def fit_image(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return ``(H, W)`` as ``(size, size)``: the longer side fills it, black beside it, area means."""
    frame = Frame(image.shape[0], image.shape[1], size)
    square = np.zeros((size, size), np.uint8)
    square[frame.window] = _resize(image, frame.scaled)
    return square


def fit_masks(masks: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Return ``(bones, H, W)`` as ``(bones, size, size)``: a pixel belongs to a bone that covers over half of it."""
    frame = Frame(masks.shape[1], masks.shape[2], size)
    if frame.scaled == masks.shape[1:] == (size, size):
        return masks
    squares = np.zeros((len(masks), size, size), np.bool_)
    for square, mask in zip(squares, masks, strict=True):
        if mask.any():
            # float32: in bytes a coverage of exactly one half would round up.
            square[frame.window] = _resize(mask.astype(np.float32), frame.scaled) > 0.5
    return squares


def stretch(crop: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return ``(h, w)`` as ``(size, size)``, filled in both directions."""
    return np.asarray(_resize(crop, (size, size)), np.uint8)


def unfit(square: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Take the image out of a square ``(size, size)`` and bring it back to ``(height, width)``."""
    frame = Frame(height, width, square.shape[-1])
    return np.asarray(_resize(square[frame.window], (height, width)), np.float32)


def _resize(array: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    if array.shape == shape:
        return array
    # INTER_AREA averages when it shrinks, but repeats pixels when it enlarges.
    shrinks = shape[0] < array.shape[0] or shape[1] < array.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(array, (shape[1], shape[0]), interpolation=method))
