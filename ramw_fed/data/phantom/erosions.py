"""Erosions of Sharp/van der Heijde grades: marginal bites and cysts."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.phantom.outlines import Points

_NUM_BITES = (0, 1, 1, 2, 2, 3)
_JOINT_REACH = {"Metacarpal1st": 85.0, "DistalRadius": 110.0, "DistalUlna": 80.0}  # how far from the joint, px of 600


@dataclass(frozen=True)
class Lesion:
    """One eroded spot: its closed outline in output pixels, what share of the bone is gone, and whether it
    opens to the joint (a bite, taken off the mask) or lies inside (a cyst)."""

    outline: Points
    loss: float
    is_bite: bool


def draw_lesions(bone: str, outline: Points, grade: int, *, scale: float, rng: np.random.Generator) -> list[Lesion]:
    """Draw the lesions of one bone.

    Args:
        bone: Name; it decides where the joint's margin lies.
        outline: ``(K, 2)`` in output pixels.
        grade: 0 to 5; bites grow by a fixed step with the grade and become more, and cysts join them.
        scale: Output pixels per frame pixel.
        rng: Source of all randomness.
    """
    lesions = []
    margin = _margin(bone, outline, scale)
    middle = margin.mean(axis=0)
    for _ in range(_NUM_BITES[grade]):
        spot = margin[rng.integers(len(margin))]
        inward = (middle - spot) / (np.linalg.norm(middle - spot) + 1e-6)
        radius = (11 + 6 * grade) * rng.uniform(0.8, 1.2) * scale
        lesions.append(Lesion(_blob(spot + inward * radius * rng.uniform(0.0, 0.35), radius, rng), 0.5 + 0.09 * grade, True))
    for _ in range(int(rng.random() < 0.12 * grade) + int(grade == 5)):
        inside = middle + (margin[rng.integers(len(margin))] - middle) * rng.uniform(0.1, 0.6)
        lesions.append(Lesion(_blob(inside, (6 + 2 * grade) * scale, rng), 0.35 + 0.08 * grade, False))
    return lesions


def _margin(bone: str, outline: Points, scale: float) -> Points:
    if bone not in _JOINT_REACH:
        return outline
    tip = outline[np.argmax(outline[:, 1]) if bone.startswith("Metacarpal") else np.argmin(outline[:, 1])]
    return np.asarray(outline[np.linalg.norm(outline - tip, axis=1) < _JOINT_REACH[bone] * scale])


def _blob(center: Points, radius: float, rng: np.random.Generator) -> Points:
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    orders = np.arange(2, 6)
    waves = rng.normal(0, 0.11, (2, 4))
    r = radius * (1 + np.cos(t[:, None] * orders) @ waves[0] + np.sin(t[:, None] * orders) @ waves[1])
    return np.asarray(center + np.stack([r * np.cos(t), r * np.sin(t)], axis=1))


def fill(outline: Points, corner: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Fill a closed outline into a crop of ``shape`` whose upper left pixel is ``corner`` (x, y)."""
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.round((outline - corner) * 16).astype(np.int32)], 1, shift=4)
    return canvas
