"""Joint boxes as an annotator would draw them: tight around the joint, about 140 to 270 pixels of 600."""

from collections.abc import Mapping

import numpy as np

from ramw_fed.data.phantom.anatomy import JOINTS
from ramw_fed.data.phantom.pose import PosedWrist

Box = tuple[int, int, int, int]

_REACH = {"Metacarpal1st": 88.0, "DistalRadius": 110.0, "DistalUlna": 105.0}  # px of 600 along the bone
_MARGIN = 14.0
_LEAST = 140.0


def joint_boxes(wrist: PosedWrist, *, side: int, rng: np.random.Generator) -> Mapping[str, Box]:
    """Per joint ``(x0, y0, x1, y1)`` in output pixels, inside the canvas, with an annotator's jitter."""
    return {joint: _box(joint, wrist, side, rng) for joint in JOINTS}


def _box(joint: str, wrist: PosedWrist, side: int, rng: np.random.Generator) -> Box:
    points = wrist.bones[joint]
    if joint in _REACH:
        edge = points[:, 1].max() if joint.startswith("Metacarpal") else points[:, 1].min()
        points = points[np.abs(points[:, 1] - edge) < _REACH[joint] * wrist.scale]
    low, high = points.min(axis=0), points.max(axis=0)
    center = (low + high) / 2 + rng.normal(0, 3, 2) * wrist.scale
    half = np.maximum(high - low + 2 * _MARGIN * wrist.scale, _LEAST * wrist.scale) / 2
    half *= np.exp(rng.normal(0, 0.03, 2))
    least = min(max(8, round(40 * wrist.scale)), side)
    x0, y0 = (int(np.clip(round(v), 0, side - least)) for v in center - half)
    x1, y1 = (int(np.clip(round(v), 0, side)) for v in center + half)
    return x0, y0, max(x1, x0 + least), max(y1, y0 + least)
