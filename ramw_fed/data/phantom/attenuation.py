"""Attenuation of one bone: chords through a shell of cortex filled with spongy bone."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.phantom.erosions import Lesion, erode
from ramw_fed.data.phantom.outlines import Points
from ramw_fed.data.phantom.raster import Crop, coverage_of, crop_around, depth_inside, draw_lines
from ramw_fed.data.phantom.texture import Field, Spongiosa

_SPONGY = 0.42  # attenuation of spongy bone beside cortex
_SUBCHONDRAL = 0.12  # extra attenuation of the thin plate at the edge of short bones and joint ends
_SUBCHONDRAL_REACH = 0.1  # of the depth
_FAN = 0.45  # how much wider the trabeculae stand at the joint, and closer at the far end
_CREASE = 0.28  # attenuation of an inner edge


@dataclass(frozen=True, kw_only=True)
class Build:
    """How a bone is built; lengths in output pixels.

    Attributes:
        depth: Half of its thickness towards the detector.
        cortex_end: Thickness of the cortex near the joint.
        cortex_shaft: Thickness of the cortex along the shaft.
        shaft: Where the shaft begins and is full, as distances from either end; ``None`` for short bones.
        ends: ``(2, 2)``, the joint's end first, then the far one.
        density: Factor on all of it.
        rim: Factor on the cortex.
        trabeculae: Contrast of the spongy texture.
        fading: ``(origin, edge)``, both ``(2,)``: attenuation falls from the one to the other, for a bone that is
            thinner on one side near its joint; ``None`` for even bones.
        fading_loss: Share of attenuation lost at the edge.
        crease_width: Width of the lines in which inner edges of the bone show.
    """

    depth: float
    cortex_end: float
    cortex_shaft: float
    shaft: tuple[float, float] | None
    ends: Points
    density: float
    rim: float
    trabeculae: float
    crease_width: float
    fading: tuple[Points, Points] | None = None
    fading_loss: float = 0.0


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
    texture, slow = _lay_textures(spongiosa, build, crop, rng)
    shaft = _shaft_share(build, crop)
    attenuation = _shell(depth_inside(coverage), shaft, texture, slow, build)
    if build.fading is not None:
        attenuation *= 1 - build.fading_loss * _towards(*build.fading, crop) * (1 - shaft)
    if creases:
        lines = draw_lines(creases, crop, width=build.crease_width, closed=False)
        attenuation += _CREASE * build.rim * lines * np.clip(1 + 0.6 * slow, 0, 2)
    attenuation *= np.float32(build.density) * coverage
    attenuation, mask = erode(attenuation, mask, lesions, crop)
    return BoneShadow(crop, attenuation, mask > 0)


def _shell(distance: Field, shaft: Field, texture: Field, slow: Field, build: Build) -> Field:
    """Attenuation of cortex and spongy bone, at ``distance`` from the outline."""
    cortex = build.cortex_end * (1 + 0.8 * slow * (1 - 0.8 * shaft)) + (build.cortex_shaft - build.cortex_end) * shaft
    cortex = np.clip(cortex, 0.3 * build.cortex_end, 0.9 * build.depth)
    outer = _chord(distance, build.depth)
    inner = _chord(np.maximum(distance - cortex, 0), build.depth - cortex)
    relief = 1 + build.trabeculae * texture * (1 - 0.5 * shaft) + 0.11 * slow * (1 - 0.7 * shaft)
    attenuation = (build.rim * (outer - inner) + _SPONGY * inner * np.maximum(relief, 0.1)) / build.depth
    edge = np.exp(-distance / (_SUBCHONDRAL_REACH * build.depth))
    attenuation += _SUBCHONDRAL * edge * (1 - shaft) * np.clip(1 + slow, 0, 2)
    return np.asarray(attenuation, dtype=np.float32)


def _chord(distance: NDArray[np.floating], depth: NDArray[np.floating] | float) -> Field:
    """Length of the ray through a body whose half-thickness rises as a blunt ellipse from its edge to ``depth``."""
    away = np.maximum(1 - distance / depth, 0)
    return np.asarray(2 * depth * np.sqrt(1 - away**3), dtype=np.float32)


def _shaft_share(build: Build, crop: Crop) -> Field:
    """0 near either end, 1 along the shaft."""
    if build.shaft is None:
        return np.zeros((1, 1), np.float32)
    rows, columns = np.ogrid[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
    near, far = (np.hypot((rows - y).astype(np.float32), (columns - x).astype(np.float32)) for x, y in build.ends)
    start, full = build.shaft
    share = np.clip((np.minimum(near, far) - start) / (full - start), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)


def _towards(origin: Points, edge: Points, crop: Crop) -> Field:
    """0 on this side of ``origin``, rising to 1 at ``edge``."""
    step = (edge - origin) / np.sum((edge - origin) ** 2)
    rows = (np.arange(crop.height, dtype=np.float32)[:, None] + np.float32(crop.y - origin[1])) * np.float32(step[1])
    columns = (np.arange(crop.width, dtype=np.float32)[None, :] + np.float32(crop.x - origin[0])) * np.float32(step[0])
    return np.asarray(np.clip(rows + columns, 0, 1), dtype=np.float32)


def _lay_textures(spongiosa: Spongiosa, build: Build, crop: Crop, rng: np.random.Generator) -> tuple[Field, Field]:
    """The spongy texture along the bone's axis, fanning out to the joint, and a slow field, both of zero mean."""
    angle, squeeze = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.0)  # short bones' struts have a direction too
    tile = spongiosa.net
    if build.shaft is not None:
        across, along = build.ends[1] - build.ends[0]
        angle, squeeze = float(np.arctan2(across, along)) + rng.normal(0, 0.07), 1.0
        tile = spongiosa.streaks
    return _cut(tile, crop, angle, squeeze, rng, fan=_FAN), _cut(spongiosa.slow, crop, angle, squeeze, rng)


def _cut(tile: Field, crop: Crop, angle: float, squeeze: float, rng: np.random.Generator, *, fan: float = 0.0) -> Field:
    """A piece of a tile the size of the crop, its y turned to ``angle``; from within a tile that is large enough.

    Seen in perspective: ``fan`` is the share by which its lines stand closer at the far end of that axis.
    """
    side = tile.shape[0]
    middle = np.array([crop.width, crop.height]) / 2
    reach = min(float(np.hypot(*middle)), 0.5 * side)
    place = rng.uniform(reach, side - reach, 2)
    axis = np.array([np.sin(angle), np.cos(angle)])
    turn = np.array([[axis[1], -axis[0]], squeeze * axis])
    lean = np.append(-axis, axis @ middle) * fan / np.hypot(*middle) + [0, 0, 1]
    matrix = np.vstack([np.outer(place, lean) + np.column_stack([turn, -turn @ middle]), lean])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shape = (crop.width, crop.height)
    return np.asarray(
        cv2.warpPerspective(tile, matrix, shape, flags=flags, borderMode=cv2.BORDER_REFLECT), dtype=np.float32
    )
