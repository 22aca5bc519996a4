"""Erosions of Sharp/van der Heijde grades: marginal bites and cysts."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.phantom.outlines import Points
from ramw_fed.data.phantom.raster import Crop, fill
from ramw_fed.data.phantom.texture import Field

_NUM_BITES = (0, 1, 1, 2, 2, 3)
_JOINT_REACH = {"Metacarpal1st": 45.0, "DistalRadius": 85.0, "DistalUlna": 65.0}  # from the bone's end
# Bites grow with the width of the joint.
_WIDTH = {"Lunate": 0.85, "DistalRadius": 1.3, "DistalUlna": 1.1, "Metacarpal1st": 1.15}


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One eroded spot.

    Attributes:
        outline: Closed, ``(M, 2)``, in output pixels.
        loss: Share of the bone's attenuation that is gone.
        sclerosis: Relative rise of attenuation in the reactive rim around it.
        is_bite: Whether it opens to the joint and so is taken off the mask; a cyst lies inside.
    """

    outline: Points
    loss: float
    sclerosis: float
    is_bite: bool


def draw_lesions(bone: str, outline: Points, grade: int, *, scale: float, rng: np.random.Generator) -> list[Lesion]:
    """Draw the lesions of one bone: bites that grow and multiply with the grade, and cysts.

    Any bone may also have a vascular channel, a tiny lucency that means nothing.

    Args:
        bone: Name; it decides where the joint's margin lies.
        outline: ``(K, 2)`` in output pixels.
        grade: 0 to 5.
        scale: Output pixels per frame pixel.
        rng: Source of all randomness.
    """
    margin = _margin(bone, outline, scale)
    middle = margin.mean(axis=0)
    unit = _WIDTH.get(bone, 1.0) * scale
    # Something of a small bone is left at any grade.
    largest = 0.5 * float(np.sqrt(cv2.contourArea(outline.astype(np.float32))))
    lesions = []
    for _ in range(_NUM_BITES[grade]):
        radius = min((18.0 + 10.0 * np.sqrt(grade)) * float(rng.uniform(0.85, 1.15)) * unit, largest)
        spot = margin[rng.integers(len(margin))]
        inward = (middle - spot) / (np.linalg.norm(middle - spot) + 1e-6)
        center = spot + inward * radius * rng.uniform(0.0, 0.3)
        lesions.append(_lesion(center, radius, rng, loss=0.57 + 0.07 * grade, is_bite=True))
    for _ in range(int(rng.random() < 0.12 * grade) + int(grade == 5)):
        center = middle + (margin[rng.integers(len(margin))] - middle) * rng.uniform(0.1, 0.6)
        lesions.append(_lesion(center, (5 + 2 * grade) * unit, rng, loss=0.3 + 0.08 * grade, is_bite=False))
    if rng.random() < 0.15:
        center = middle + (margin[rng.integers(len(margin))] - middle) * rng.uniform(0.1, 0.8)
        lesions.append(_lesion(center, rng.uniform(3, 6) * scale, rng, loss=0.3, is_bite=False))
    return lesions


def erode(
    attenuation: Field, mask: NDArray[np.uint8], lesions: Sequence[Lesion], crop: Crop
) -> tuple[Field, NDArray[np.uint8]]:
    """Take the lesions off a bone's attenuation and, where they are bites, off its mask."""
    for lesion in lesions:
        hole = fill(lesion.outline, crop)
        extent = float(np.ptp(lesion.outline[:, 0]))
        soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), max(0.045 * extent, 0.5))
        halo = cv2.GaussianBlur(soft, (0, 0), max(0.10 * extent, 0.8)) * (1 - soft)
        attenuation = attenuation * (1 - lesion.loss * soft + lesion.sclerosis * halo)
        if lesion.is_bite:
            mask = mask & (1 - hole)
    return attenuation, mask


def _lesion(center: Points, radius: float, rng: np.random.Generator, *, loss: float, is_bite: bool) -> Lesion:
    loss *= float(rng.uniform(0.85, 1.05))
    sclerosis = float(rng.uniform(0.2, 0.9))
    return Lesion(outline=_blob(center, radius, rng), loss=loss, sclerosis=sclerosis, is_bite=is_bite)


def _margin(bone: str, outline: Points, scale: float) -> Points:
    """The part of an outline where erosions sit: all around short bones, the joint's end of long ones."""
    if bone not in _JOINT_REACH:
        return outline
    spread = outline - outline.mean(axis=0)
    _, vectors = np.linalg.eigh(spread.T @ spread)
    is_end_below = bone.startswith("Metacarpal")
    axis = vectors[:, 1] * np.sign(vectors[1, 1]) * (1 if is_end_below else -1)  # towards the joint
    along = spread @ axis
    return np.asarray(outline[along > along.max() - _JOINT_REACH[bone] * scale])


def _blob(center: Points, radius: float, rng: np.random.Generator) -> Points:
    t = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    orders = np.arange(2, 7)
    waves = rng.normal(0, 0.15, (2, 5)) / (orders - 1) ** 0.8
    r = radius * (1 + np.cos(t[:, None] * orders) @ waves[0] + np.sin(t[:, None] * orders) @ waves[1])
    return np.asarray(center + np.stack([r * np.cos(t), r * np.sin(t)], axis=1))
