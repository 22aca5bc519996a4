"""Attenuation of one bone: chords through a shell of cortex filled with spongy bone."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.phantom.erosions import Lesion, fill
from ramw_fed.data.phantom.outlines import Points
from ramw_fed.data.phantom.texture import Field, Spongiosa

_SPONGY = 0.30  # attenuation of spongy bone beside cortex


@dataclass(frozen=True, kw_only=True)
class Build:
    """How a bone is built; lengths in output pixels.

    Attributes:
        depth: Half of its thickness towards the detector.
        cortex_end: Thickness of the cortex near the joint.
        cortex_shaft: Thickness of the cortex along the shaft.
        shaft: Where the shaft begins and is full, as distances from the joint; ``None`` for short bones.
        density: Factor on all of it.
        rim: Factor on the cortex.
        trabeculae: Contrast of the spongy texture.
    """

    depth: float
    cortex_end: float
    cortex_shaft: float
    shaft: tuple[float, float] | None
    density: float
    rim: float
    trabeculae: float


@dataclass(frozen=True)
class BoneShadow:
    """Attenuation and mask ``(h, w)`` of one bone in the crop that begins at ``corner`` (x, y)."""

    corner: tuple[int, int]
    attenuation: Field
    mask: NDArray[np.bool_]

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the crop on the canvas."""
        (x, y), (h, w) = self.corner, self.mask.shape
        return slice(y, y + h), slice(x, x + w)


def cast_shadow(
    outline: Points,
    joint: Points,
    build: Build,
    spongiosa: Spongiosa,
    lesions: list[Lesion],
    *,
    side: int,
    rng: np.random.Generator,
) -> BoneShadow | None:
    """Attenuation of a bone with its lesions; ``None`` where it lies off the canvas.

    Args:
        outline: ``(K, 2)`` in output pixels.
        joint: ``(2,)``, from which the distance along the shaft is counted.
        build: Thickness and density.
        spongiosa: Texture tiles.
        lesions: Erosions to take off.
        side: Side of the canvas.
        rng: Turns and shifts the texture.
    """
    low = np.clip(np.floor(outline.min(axis=0)).astype(int) - 3, 0, side)
    high = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 4, 0, side)
    if (high - low).min() < 2:
        return None
    corner, shape = (int(low[0]), int(low[1])), (int(high[1] - low[1]), int(high[0] - low[0]))
    mask = fill(outline, corner, shape)
    # A frame of bone outside the canvas, so that the cut end of a shaft gets no cortex.
    inside = _pad_where_cut(mask, low, high, side)
    pad = 1
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[pad:-pad, pad:-pad] - 0.4
    distance = np.maximum(distance, 0)
    texture = _lay_texture(spongiosa, outline, corner, shape, build.shaft is not None, rng)
    cortex = _cortex(build, joint - corner, outline, shape)
    outer = _chord(distance, build.depth)
    inner = _chord(np.maximum(distance - cortex, 0), np.maximum(build.depth - cortex, 1.0))
    spongy = _SPONGY * inner * np.maximum(1 + 0.22 * build.trabeculae * texture, 0)
    attenuation = (build.rim * (outer - inner) + spongy) * (build.density / build.depth)
    attenuation, mask = _erode(attenuation, mask, lesions, corner)
    return BoneShadow(corner, attenuation.astype(np.float32), mask > 0)


def _pad_where_cut(mask: NDArray[np.uint8], low: NDArray[np.int_], high: NDArray[np.int_], side: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE))


def _chord(distance: Field, depth: Field | float) -> Field:
    """Length of the ray through a body whose half-thickness rises as an ellipse from its edge to ``depth``."""
    away = np.clip(1 - distance / depth, 0, 1)
    return np.asarray(2 * depth * np.sqrt(1 - away * away), dtype=np.float32)


def _cortex(build: Build, joint: Points, outline: Points, shape: tuple[int, int]) -> Field | float:
    if build.shaft is None:
        return build.cortex_end
    far = outline[np.argmax(np.linalg.norm(outline - outline.mean(axis=0), axis=1))]
    axis = outline.mean(axis=0) - (joint + (outline.mean(axis=0) - outline.mean(axis=0)))
    del far
    rows = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(joint[1])
    columns = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(joint[0])
    along = np.sqrt(rows**2 + columns**2)
    del axis
    start, full = build.shaft
    share = np.clip((along - start) / (full - start), 0, 1)
    share = share * share * (3 - 2 * share)
    return np.asarray(build.cortex_end + (build.cortex_shaft - build.cortex_end) * share, dtype=np.float32)


def _lay_texture(
    spongiosa: Spongiosa, outline: Points, corner: tuple[int, int], shape: tuple[int, int], is_long: bool, rng: np.random.Generator
) -> Field:
    tile = spongiosa.streaks if is_long else spongiosa.net
    angle = rng.uniform(0, 360)
    if is_long:
        spread = outline - outline.mean(axis=0)
        _, vectors = np.linalg.eigh(spread.T @ spread)
        angle = float(np.degrees(np.arctan2(vectors[0, 1], vectors[1, 1]))) + rng.normal(0, 4)
    matrix = cv2.getRotationMatrix2D((shape[1] / 2, shape[0] / 2), angle, 1.0)
    matrix[:, 2] += rng.uniform(0, tile.shape[0], 2)
    return np.asarray(
        cv2.warpAffine(tile, matrix, shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT)
    )


def _erode(attenuation: Field, mask: NDArray[np.uint8], lesions: list[Lesion], corner: tuple[int, int]) -> tuple[Field, NDArray[np.uint8]]:
    for lesion in lesions:
        hole = fill(lesion.outline, corner, (mask.shape[0], mask.shape[1]))
        soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), max(0.02 * np.ptp(lesion.outline[:, 0]), 0.5))
        attenuation = attenuation * (1 - lesion.loss * soft)
        if lesion.is_bite:
            mask = mask & (1 - hole)
    return attenuation, mask
