"""The soft tissue around the bones: skin outline and thickness."""

import cv2
import numpy as np

from ramw_fed.data.phantom.outlines import Points
from ramw_fed.data.phantom.pose import PosedWrist
from ramw_fed.data.phantom.texture import Field

_COARSE = 3  # thickness is slow: computed on a grid this many times coarser


def soft_tissue_thickness(wrist: PosedWrist, *, height: int, width: int, margin: float) -> Field:
    """Thickness of soft tissue ``(height, width)``: 0 in air, about 1 in the middle of the hand.

    Args:
        wrist: Posed outlines in output pixels.
        height: Rows of the output.
        width: Columns of the output.
        margin: Factor on the width of tissue beside the bones.
    """
    reduce = _COARSE if wrist.scale > 0.4 else 1
    pad = int(150 * wrist.scale) // reduce + 2
    shape = (height // reduce + 1 + 2 * pad, width // reduce + 1 + 2 * pad)
    hull = np.zeros(shape, np.uint8)
    for part in _parts(wrist, margin):
        cv2.fillPoly(hull, [np.round((part / reduce + pad) * 16).astype(np.int32)], 1, shift=4)
    depth = cv2.distanceTransform(hull, cv2.DIST_L2, 5) * reduce
    reach = 120 * wrist.scale
    near = np.clip(1 - depth / reach, 0, 1)
    thickness = np.sqrt(1 - near**2.2) * (hull > 0)
    thickness = cv2.GaussianBlur(thickness.astype(np.float32), (0, 0), max(3.0 * wrist.scale / reduce, 0.5))
    inner = thickness[pad:, pad:]
    rows, columns = np.float32(reduce), np.float32(reduce)
    to_coarse = np.array([[1 / columns, 0, 0], [0, 1 / rows, 0]], np.float32)
    return np.asarray(
        cv2.warpAffine(inner, to_coarse, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP),
        dtype=np.float32,
    )


def _parts(wrist: PosedWrist, margin: float) -> list[Points]:
    s = wrist.scale * margin
    thumb, index, ring, little = (wrist.bones[f"Metacarpal{n}"] for n in ("1st", "2nd", "4th", "5th"))
    radial, ulnar = wrist.forearm_skin
    middle = (radial.mean(axis=0) + ulnar.mean(axis=0)) / 2
    radial = middle + (radial - middle) * (0.75 + 0.25 * margin)
    ulnar = middle + (ulnar - middle) * (0.75 + 0.25 * margin)
    thumb_axis, little_axis = _axis(thumb), _axis(little)
    thenar = [_beside(thumb, thumb_axis, t, -w * s) for t, w in ((-0.05, 62), (0.3, 62), (0.6, 60), (1.0, 64))]
    hypothenar = [_beside(little, little_axis, t, w * s) for t, w in ((1.0, 60), (0.6, 92), (0.25, 110), (-0.12, 96))]
    web = [_beside(thumb, thumb_axis, 1.0, 55 * s), _beside(index, _axis(index), 0.8, -50 * s)]
    knuckles = [_beside(index, _axis(index), 1.1, -45 * s), _beside(ring, _axis(ring), 1.15, 0)]
    palm = np.array([*radial, *thenar, *web, *knuckles, *hypothenar, *ulnar])
    fingers = [_capsule(outline, 32 * s) for outline in wrist.phalanges.values()]
    return [_rounded(palm), _capsule(thumb, 48 * s), *fingers]


def _axis(bone: Points) -> tuple[Points, Points]:
    """Base and tip of a metacarpal: ends of its longest extent, the lower one first."""
    center = bone.mean(axis=0)
    spread = bone - center
    _, vectors = np.linalg.eigh(spread.T @ spread)
    along = spread @ vectors[:, 1]
    low, high = bone[np.argmin(along)], bone[np.argmax(along)]
    return (low, high) if low[1] > high[1] else (high, low)


def _beside(bone: Points, axis: tuple[Points, Points], share: float, offset: float) -> Points:
    base, tip = axis
    direction = (tip - base) / np.linalg.norm(tip - base)
    return np.asarray(base + share * (tip - base) + offset * np.array([-direction[1], direction[0]]))


def _capsule(bone: Points, radius: float) -> Points:
    hull = cv2.convexHull(bone.astype(np.float32))[:, 0].astype(np.float64)
    center = hull.mean(axis=0)
    away = hull - center
    return np.asarray(hull + away / np.linalg.norm(away, axis=1, keepdims=True) * radius)


def _rounded(corners: Points) -> Points:
    from ramw_fed.data.phantom.outlines import smooth_outline

    return smooth_outline(corners, 8)
