"""Attenuation of one bone: chords through a shell of cortex filled with spongy bone."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.phantom.erosions import Lesion, erode
from ramw_fed.data.phantom.outlines import Points
from ramw_fed.data.phantom.raster import Crop, crop_around, coverage_of, depth_inside, draw_lines
from ramw_fed.data.phantom.texture import Field, Spongiosa

_SPONGY = 0.42  # attenuation of spongy bone beside cortex
_SUBCHONDRAL = 0.10  # extra attenuation towards the edge of short bones and joint ends
_SUBCHONDRAL_REACH = 0.3  # of the depth


@dataclass(frozen=True, kw_only=True)
class Build:
    """How a bone is built; lengths in output pixels.

    Attributes:
        depth: Half of its thickness towards the detector.
        cortex_end: Thickness of the cortex near the joint.
        cortex_shaft: Thickness of the cortex along the shaft.
        shaft: Where the shaft begins and is full, as distances from the joint; ``None`` for short bones.
        joint: ``(2,)``, where the distance along the shaft begins.
        density: Factor on all of it.
        rim: Factor on the cortex.
        trabeculae: Contrast of the spongy texture.
        crease_width: Width of the lines in which inner edges of the bone show.
    """

    depth: float
    cortex_end: float
    cortex_shaft: float
    shaft: tuple[float, float] | None
    joint: Points
    density: float
    rim: float
    trabeculae: float
    crease_width: float


@dataclass(frozen=True)
class BoneShadow:
    """Attenuation (about 1 in the middle of a dense bone) and mask, both ``(h, w)``, in a crop of the canvas."""

    crop: Crop
    attenuation: Field
    mask: NDArray[np.bool_]


def cast_shadow(
    outline: Points,
    build: Build,
    spongiosa: Spongiosa,
    *,
    creases: Sequence[Points] = (),
    lesions: Sequence[Lesion] = (),
    side: int,
    rng: np.random.Generator,
) -> BoneShadow | None:
    """Attenuation of a bone with its lesions; ``None`` where it lies off the canvas.

    Args:
        outline: ``(K, 2)`` in output pixels.
        build: Thickness and density.
        spongiosa: Texture tiles.
        creases: Open lines ``(M, 2)`` along which an edge of the bone is seen through it.
        lesions: Erosions to take off.
        side: Side of the canvas.
        rng: Turns and shifts the texture.
    """
    crop = crop_around(outline, side)
    if crop is None:
        return None
    coverage = coverage_of(outline, crop)
    mask = (coverage >= 0.5).astype(np.uint8)
    distance = depth_inside(coverage)
    shaft = _shaft_share(build, crop)
    texture, slow = _lay_textures(spongiosa, outline, crop, build.shaft is not None, rng)
    cortex = build.cortex_end * (1 + 0.5 * slow) + (build.cortex_shaft - build.cortex_end) * shaft
    cortex = np.clip(cortex, 0.3 * build.cortex_end, 0.9 * build.depth)
    outer = _chord(distance, build.depth)
    inner = _chord(np.maximum(distance - cortex, 0), build.depth - cortex)
    texture *= build.trabeculae * (1 - 0.5 * shaft)
    spongy = _SPONGY * inner * np.maximum(1 + texture + 0.08 * slow, 0.1)
    attenuation = (build.rim * (outer - inner) + spongy) / build.depth
    edge = np.exp(-distance / (_SUBCHONDRAL_REACH * build.depth))
    attenuation += _SUBCHONDRAL * edge * (1 - shaft) * np.clip(1 + slow, 0, 2)
    if creases:
        lines = draw_lines(creases, crop, width=build.crease_width, closed=False)
        attenuation += 0.22 * build.rim * lines * np.clip(1 + 0.6 * slow, 0, 2)
    attenuation *= build.density * coverage
    eroded, mask = erode(attenuation, mask, lesions, crop)
    return BoneShadow(crop, np.asarray(eroded, dtype=np.float32), mask > 0)


def _chord(distance: Field, depth: Field | float) -> Field:
    """Length of the ray through a body whose half-thickness rises as a blunt ellipse from its edge to ``depth``."""
    away = np.maximum(1 - distance / depth, 0)
    return np.asarray(2 * depth * np.sqrt(1 - away**3), dtype=np.float32)


def _shaft_share(build: Build, crop: Crop) -> Field | float:
    """0 near the joint, 1 along the shaft."""
    if build.shaft is None:
        return 0.0
    rows = np.arange(crop.height, dtype=np.float32)[:, None] + np.float32(crop.y - build.joint[1])
    columns = np.arange(crop.width, dtype=np.float32)[None, :] + np.float32(crop.x - build.joint[0])
    start, full = build.shaft
    share = np.clip((np.sqrt(rows**2 + columns**2) - start) / (full - start), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)


def _lay_textures(
    spongiosa: Spongiosa, outline: Points, crop: Crop, is_long: bool, rng: np.random.Generator
) -> tuple[Field, Field]:
    """The spongy texture along the bone's axis, and a slow field, both of zero mean."""
    angle = rng.uniform(0, 360)
    if is_long:
        spread = outline - outline.mean(axis=0)
        _, vectors = np.linalg.eigh(spread.T @ spread)
        angle = float(np.degrees(np.arctan2(vectors[0, 1], vectors[1, 1]))) + rng.normal(0, 4)
    tile = spongiosa.streaks if is_long else spongiosa.net
    matrix = cv2.getRotationMatrix2D((crop.width / 2, crop.height / 2), angle, 1.0)
    matrix[1] *= 1.0 if is_long else rng.uniform(0.6, 1.0)  # short bones' struts have a direction too
    matrix[:, 2] += rng.uniform(0, tile.shape[0], 2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shape = (crop.width, crop.height)
    texture = cv2.warpAffine(tile, matrix, shape, flags=flags, borderMode=cv2.BORDER_REFLECT)
    matrix[:, 2] += rng.uniform(0, tile.shape[0], 2)
    slow = cv2.warpAffine(spongiosa.slow, matrix, shape, flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(texture, dtype=np.float32), np.asarray(slow, dtype=np.float32)
