"""Drawing outlines into crops of the canvas."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.phantom.outlines import Points

_SUBPIXEL_BITS = 4


class Crop(NamedTuple):
    """A rectangle of the canvas: upper left pixel and size."""

    x: int
    y: int
    width: int
    height: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


def crop_around(outline: Points, side: int, pad: int = 3) -> Crop | None:
    """Smallest crop of a ``side`` by ``side`` canvas around an outline ``(K, 2)``; ``None`` where off the canvas."""
    low = np.clip(np.floor(outline.min(axis=0)) - pad, 0, side).astype(int)
    high = np.clip(np.ceil(outline.max(axis=0)) + pad + 1, 0, side).astype(int)
    width, height = (int(v) for v in high - low)
    return Crop(int(low[0]), int(low[1]), width, height) if min(width, height) >= 2 else None


def coverage_of(outline: Points, crop: Crop, finer: int = 4) -> NDArray[np.float32]:
    """``(h, w)`` float32, the share of each pixel inside the closed outline, which is given in canvas pixels.

    OpenCV paints every pixel that the outline touches, half a pixel too much: so it paints ``finer`` pixels.
    """
    fine = np.zeros((crop.height * finer, crop.width * finer), np.uint8)
    points = (outline - [crop.x, crop.y]) * finer - 0.5
    cv2.fillPoly(fine, [np.round(points * 2**_SUBPIXEL_BITS).astype(np.int32)], 255, shift=_SUBPIXEL_BITS)
    coarse = cv2.resize(fine, (crop.width, crop.height), interpolation=cv2.INTER_AREA)
    return np.asarray(coarse * np.float32(1 / 255))


def fill(outline: Points, crop: Crop) -> NDArray[np.uint8]:
    """``(h, w)`` uint8, 1 where at least half a pixel is inside the closed outline."""
    return (coverage_of(outline, crop) >= 0.5).astype(np.uint8)


def depth_inside(coverage: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance to the outline ``(h, w)`` in pixels, to a fraction of one; 0 outside and no edge at the crop's border.

    The nearest outer pixel's coverage says where in it the outline runs: without it slanted shafts show stairs.
    """
    # Replicating the border keeps the cut end of a shaft from counting as an edge.
    framed = cv2.copyMakeBorder(coverage, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    inside = (framed >= 0.5).astype(np.uint8)
    distance, labels = cv2.distanceTransformWithLabels(inside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    outer = inside == 0
    extra = np.zeros(int(labels.max()) + 1, np.float32)
    extra[labels[outer]] = framed[outer]
    distance += np.take(extra, labels) - 0.5
    return np.asarray(np.where(outer, 0, np.maximum(distance, 0))[2:-2, 2:-2], dtype=np.float32)


def draw_lines(
    lines: Sequence[Points], crop: Crop, *, width: float, closed: bool, softness: float = 0.45
) -> NDArray[np.float32]:
    """``(h, w)`` float32, about 1 along soft lines ``width`` pixels wide, which may be narrower than a pixel."""
    canvas = np.zeros((crop.height, crop.width), np.uint8)
    thickness = max(1, round(width))
    points = [_fixed_point(line, crop) for line in lines]
    cv2.polylines(canvas, points, closed, 255, thickness, cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    soft = cv2.GaussianBlur(canvas, (0, 0), max(softness * width, 0.4)).astype(np.float32)
    return np.asarray(soft * (min(width / thickness, 1.0) / 255))


def _fixed_point(points: Points, crop: Crop) -> NDArray[np.int32]:
    return np.asarray(np.round((points - [crop.x + 0.5, crop.y + 0.5]) * 2**_SUBPIXEL_BITS), dtype=np.int32)
