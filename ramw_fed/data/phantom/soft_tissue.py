"""The soft tissue around the bones: skin outline and thickness."""

import cv2
import numpy as np

from ramw_fed.data.phantom.outlines import Points, smooth_outline
from ramw_fed.data.phantom.pose import PosedWrist
from ramw_fed.data.phantom.raster import Crop, coverage_of, crop_around, draw_lines
from ramw_fed.data.phantom.texture import Field

_REACH = 130.0  # depth below the skin at which the hand has its full thickness, px of 600
_FAT = 0.10  # share of attenuation that is missing in the fat under the skin
_FOREARM_GAIN = 0.36  # how much thicker the forearm is than the palm


def soft_tissue_thickness(wrist: PosedWrist, *, side: int, margin: float) -> Field:
    """Thickness of soft tissue ``(side, side)``: 0 in air, about 1 in the middle of the hand.

    Args:
        wrist: Posed outlines in output pixels.
        side: Side of the canvas.
        margin: Factor on the width of tissue beside the bones.
    """
    reach = _REACH * wrist.scale
    pad = int(reach) + 2  # so that the frame's edge is no skin
    hull = np.zeros((side + 2 * pad, side + 2 * pad), np.uint8)
    crop = Crop(-pad, -pad, side + 2 * pad, side + 2 * pad)
    for part in _parts(wrist, margin):
        hull |= (coverage_of(part, crop, finer=1) > 0).astype(np.uint8)
    depth = cv2.distanceTransform(hull, cv2.DIST_L2, 5)[pad:-pad, pad:-pad]
    near = np.maximum(1 - depth / reach, 0)
    thickness = np.sqrt(1 - near**2.4)
    soft = cv2.GaussianBlur(thickness, (0, 0), max(5.0 * wrist.scale, 0.5))
    # Fat under the skin is thinner to X-rays than the muscle below it.
    thickness -= _FAT * np.exp(-(((depth / wrist.scale - 14) / 8) ** 2)) * thickness
    # The skin keeps its edge; the medial axis, where depth has a kink, is smoothed away.
    blend = np.clip(depth / (14 * wrist.scale), 0, 1)
    thickness += blend * (soft - thickness)
    return np.asarray(thickness * _towards_forearm(wrist, side), dtype=np.float32)


def draw_skin_folds(soft: Field, wrist: PosedWrist, *, rng: np.random.Generator) -> None:
    """Add the thin shadows of a few creases of the skin across the wrist's ulnar side, in place."""
    radial, ulnar = wrist.forearm_skin
    axis = (radial[-1] - ulnar[0]) / np.linalg.norm(radial[-1] - ulnar[0])  # across, to the radial side
    down = np.array([axis[1], -axis[0]])
    for _ in range(int(rng.integers(0, 4))):
        start = ulnar[0] + down * rng.uniform(-90, 60) * wrist.scale
        t = np.linspace(0, rng.uniform(40, 130), 16)[:, None] * wrist.scale
        bend = rng.normal(0, 0.004) / wrist.scale
        line = start + t * axis + bend * t * t * down
        _add_lines(soft, [line], width=rng.uniform(2, 5) * wrist.scale, height=rng.uniform(0.02, 0.07))


def draw_artery(soft: Field, wrist: PosedWrist, *, opacity: float, rng: np.random.Generator) -> None:
    """Add the two broken walls of a calcified radial artery, in place; nothing where ``opacity`` is 0."""
    if opacity == 0:
        return
    for wall in (30.0, 36.0):
        course = _along_forearm(*wrist.forearm_skin, (wall + 5 * np.sin(np.linspace(0, 22, 120))) * wrist.scale)
        pieces = [course[start : start + 3] for start in np.flatnonzero(rng.random(116) < 0.3)]
        _add_lines(soft, pieces, width=1.6 * wrist.scale, height=3 * opacity)


def draw_fat_planes(soft: Field, wrist: PosedWrist, *, rng: np.random.Generator) -> None:
    """Take off the dark stripes of fat between skin, muscles and tendons, which run along the forearm, in place."""
    for skin, other in (wrist.forearm_skin, wrist.forearm_skin[::-1]):
        for _ in range(int(rng.integers(1, 4))):
            waves = rng.uniform(2, 8) * np.sin(np.linspace(0, rng.uniform(2, 12), 120) + rng.uniform(0, 6))
            course = _along_forearm(skin, other, (rng.uniform(14, 60) + waves) * wrist.scale)
            start, end = np.sort(rng.integers(0, 120, 2))
            height = -rng.uniform(0.02, 0.07)
            _add_lines(soft, [course[start : end + 2]], width=rng.uniform(2, 7) * wrist.scale, height=height)


def _along_forearm(skin: Points, other: Points, inward: Points) -> Points:
    """A line ``(120, 2)`` that keeps ``inward`` pixels off one side's skin, towards the other side's."""
    across = other.mean(axis=0) - skin.mean(axis=0)
    places = np.linspace(0, len(skin) - 1, 120)
    course = np.stack([np.interp(places, np.arange(len(skin)), skin[:, axis]) for axis in (0, 1)], axis=1)
    return np.asarray(course + inward[:, None] * across / np.linalg.norm(across))


def _add_lines(soft: Field, lines: list[Points], *, width: float, height: float) -> None:
    for line in lines:
        crop = crop_around(line, soft.shape[0], pad=4)
        if crop is not None:
            window = soft[crop.window]
            window += height * draw_lines([line], crop, width=width, closed=False) * (window > 0)


def _towards_forearm(wrist: PosedWrist, side: int) -> Field:
    radial, ulnar = wrist.forearm_skin
    start = (radial[-1] + ulnar[0]) / 2
    axis = (radial[0] + ulnar[-1]) / 2 - start
    axis /= np.linalg.norm(axis)
    rows = np.arange(side, dtype=np.float32)[:, None] - np.float32(start[1])
    columns = np.arange(side, dtype=np.float32)[None, :] - np.float32(start[0])
    along = np.clip((rows * np.float32(axis[1]) + columns * np.float32(axis[0])) / (260 * wrist.scale), -0.8, 1)
    return np.asarray(1 + _FOREARM_GAIN * along, dtype=np.float32)


def _parts(wrist: PosedWrist, margin: float) -> list[Points]:
    s = wrist.scale * margin
    thumb, index, ring, little = (wrist.bones[f"Metacarpal{n}"] for n in ("1st", "2nd", "4th", "5th"))
    radial, ulnar = wrist.forearm_skin
    middle = (radial.mean(axis=0) + ulnar.mean(axis=0)) / 2
    radial = middle + (radial - middle) * (0.75 + 0.25 * margin)
    ulnar = middle + (ulnar - middle) * (0.75 + 0.25 * margin)
    thenar = [_beside(thumb, t, -w * s) for t, w in ((0.1, 66), (0.35, 62), (0.7, 62), (1.0, 66), (1.3, 60))]
    hypothenar = [_beside(little, t, w * s) for t, w in ((1.1, 62), (0.7, 88), (0.35, 104), (0.08, 100))]
    web = [_beside(thumb, 1.3, 40 * s), _beside(thumb, 0.95, 62 * s), _beside(index, 0.8, -56 * s)]
    knuckles = [_beside(index, 1.08, -48 * s), _beside(index, 1.15, 0), _beside(ring, 1.2, 0)]
    palm = np.array([*radial, *thenar, *web, *knuckles, *hypothenar, *ulnar])
    return [smooth_outline(palm, 8), *(_capsule(outline, 30 * s) for outline in wrist.phalanges.values())]


def _ends(bone: Points) -> tuple[Points, Points]:
    """Base and tip of a metacarpal."""
    spread = bone - bone.mean(axis=0)
    _, vectors = np.linalg.eigh(spread.T @ spread)
    axis = vectors[:, 1] * np.sign(vectors[1, 1])  # down, towards the wrist
    along = spread @ axis
    center = bone.mean(axis=0)
    return np.asarray(center + axis * along.max()), np.asarray(center + axis * along.min())


def _beside(bone: Points, share: float, offset: float) -> Points:
    """A point at ``share`` of the way from base to tip, ``offset`` to the ulnar side of the axis."""
    base, tip = _ends(bone)
    direction = (tip - base) / np.linalg.norm(tip - base)
    return np.asarray(base + share * (tip - base) + offset * np.array([-direction[1], direction[0]]))


def _capsule(bone: Points, radius: float) -> Points:
    hull = cv2.convexHull(bone.astype(np.float32))[:, 0].astype(np.float64)
    away = hull - hull.mean(axis=0)
    return np.asarray(hull + away / np.linalg.norm(away, axis=1, keepdims=True) * radius)
