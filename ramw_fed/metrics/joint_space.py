"""Joint-space width: how far two bones stand apart where their outlines face each other, in mm.

The width is read between the two margins of a joint, as in the automatic measurements of Huo et al. (fingers, IEEE
TBME 2016, doi:10.1109/TBME.2015.2512941; wrist, IEEE TBME 2017, PMID 28141515); here the margins come from masks:

* The outline runs between pixels, where the mask, softened by a Gaussian of one pixel, falls to one half. Straight
  edges stay where they are; an edge of radius R moves inwards by about 1 / (2 R) px. Only the largest piece of a bone
  counts, its holes filled. Where the image cuts a bone off there is no outline.
* A point of one outline is as wide as the distance to the other's nearest point, along the other's normal there.
  Projected bones may overlap: the distance is then negative, the depth of the overlap.
* The point *faces* the other bone where both outlines run against each other (normals opposed to within 30 degrees)
  and where the way there and back, from nearest point to nearest point, ends near its start. What is left is the
  joint surface: backs, shafts, flanks and corners fall out by themselves. No length in mm or px is presupposed.
* The width is the mean over the facing part, weighted by length, of each of the two outlines, and of both.

docs/joint_space.md has the exactness on shapes of known distance, and what the number is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.estimate import NotEstimable
from ramw_fed.metrics.overlap import Masks, Values

Spacing = tuple[float, float]

_SOFTNESS_PX = 1.0
_MARGIN_PX = 4  # beyond it the softened mask is 0
_FACING = np.deg2rad(30.0)
_SLACK = 2.0  # points of an outline by which the way there and back may miss its start
_FEWEST_POINTS = 3


@dataclass(frozen=True, kw_only=True)
class JointSpace:
    """One joint space; negative where the bones overlap.

    Attributes:
        mean_mm: Mean over the facing parts.
        minimum_mm: The least of them.
    """

    mean_mm: float
    minimum_mm: float


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A bone's outline as points, in no order.

    Attributes:
        points: ``(n, 2)``, row and column in mm from the middle of the first pixel.
        normals: ``(n, 2)``, of length 1, outwards.
        lengths: ``(n,)``, mm of the outline for which each point stands.
        tree: Of the points.
    """

    points: Values
    normals: Values
    lengths: Values
    tree: cKDTree


@dataclass(frozen=True, kw_only=True)
class Facing:
    """The part of an outline that faces another bone.

    Attributes:
        points: ``(n, 2)`` in mm.
        widths: ``(n,)`` signed distance to the other bone, in mm.
        lengths: ``(n,)`` in mm.
    """

    points: Values
    widths: Values
    lengths: Values


def joint_space(one: Masks, other: Masks, spacing_mm: Spacing | None) -> JointSpace | NotEstimable:
    """Measure the space between two bones ``(H, W)`` bool; the order of the two does not matter.

    Args:
        one: First bone.
        other: Second bone.
        spacing_mm: Height and width of a pixel; None where not known.
    """
    return joint_spaces(np.stack([one, other]), [(0, 1)], spacing_mm)[0]


def joint_spaces(
    masks: Masks, pairs: Sequence[tuple[int, int]], spacing_mm: Spacing | None
) -> list[JointSpace | NotEstimable]:
    """Measure the spaces of one radiograph.

    Args:
        masks: ``(C, H, W)`` bool.
        pairs: Channel numbers of the bones of each joint, P of them.
        spacing_mm: Height and width of a pixel; None where not known.

    Returns:
        P spaces, or the reason why one cannot be measured.
    """
    if masks.dtype != np.bool_ or masks.ndim != 3:
        raise RamwFedError(
            f"masks must be bool of shape (bones, height, width), found {masks.dtype} {masks.shape}: "
            "binarise them first (a probability with >= 0.5)"
        )
    if spacing_mm is None:
        return [NotEstimable("the size of a pixel is not known")] * len(pairs)
    outlines = {bone: outline(masks[bone], spacing_mm) for bone in {bone for pair in pairs for bone in pair}}
    return [_between(outlines[first], outlines[second]) for first, second in pairs]


def mean_widths(masks: Masks, pairs: Sequence[tuple[int, int]], spacing_mm: Spacing | None) -> Values:
    """Return the mean width in mm of each pair, ``(P,)``; NaN where not estimable; arguments of `joint_spaces`."""
    spaces = joint_spaces(masks, pairs, spacing_mm)
    return np.array([space.mean_mm if isinstance(space, JointSpace) else np.nan for space in spaces], np.float64)


def outline(mask: Masks, spacing_mm: Spacing) -> Outline:
    """Return where the largest piece of a ``(H, W)`` bool mask ends, to a fraction of a pixel."""
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    if not width:
        nothing = np.empty((0, 2))
        return Outline(points=nothing, normals=nothing, lengths=nothing[:, 0], tree=cKDTree(nothing))
    above, before = max(top - _MARGIN_PX, 0), max(left - _MARGIN_PX, 0)
    solid = _largest_piece(mask[above : top + height + _MARGIN_PX, before : left + width + _MARGIN_PX])
    soft = cv2.GaussianBlur(solid, (0, 0), _SOFTNESS_PX, borderType=cv2.BORDER_REPLICATE)
    points, outwards = _crossings(soft)
    scale = np.array(spacing_mm)
    # On average a line meets |x| + |y| edges between pixels on its way of (x, y).
    steps = np.hypot(outwards[:, 1] * scale[0], outwards[:, 0] * scale[1]) / np.abs(outwards).sum(axis=1)
    normals = outwards / scale
    placed = (points + np.array([above, before])) * scale
    return Outline(
        points=placed,
        normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
        lengths=steps,
        tree=cKDTree(placed, leafsize=24, balanced_tree=False, compact_nodes=False),
    )


def facing(one: Outline, other: Outline) -> Facing:
    """Return the part of ``one`` that faces ``other``; both have points."""
    there = _nearest(one.points, other)
    normals = other.normals[there]
    gaps = one.points - other.points[there]
    along = (gaps * normals).sum(axis=1)
    squared = (gaps**2).sum(axis=1)
    # The foot of the perpendicular lies within half a step of the nearest point; a normal's tremor leads farther.
    aside = np.minimum(squared - along**2, (other.lengths[there] / 2) ** 2)
    widths = np.copysign(np.sqrt(np.maximum(squared - aside, 0.0)), along)
    opposed = np.flatnonzero((one.normals * normals).sum(axis=1) <= -np.cos(_FACING))
    back = _nearest(other.points[there[opposed]], one)
    astray = np.linalg.norm(one.points[back] - one.points[opposed], axis=1)
    near = astray <= np.abs(widths[opposed]) * np.tan(_FACING) + _SLACK * one.lengths[opposed]
    part = opposed[near]
    return Facing(points=one.points[part], widths=widths[part], lengths=one.lengths[part])


def _nearest(points: Values, of: Outline) -> NDArray[np.int64]:
    return np.asarray(of.tree.query(points)[1], np.int64)


def _between(one: Outline, other: Outline) -> JointSpace | NotEstimable:
    if not len(one.points) or not len(other.points):
        return NotEstimable("a bone is missing")
    sides = facing(one, other), facing(other, one)
    if min(len(side.points) for side in sides) < _FEWEST_POINTS:
        return NotEstimable("the bones do not face each other")
    means = [float(np.average(side.widths, weights=side.lengths)) for side in sides]
    return JointSpace(mean_mm=sum(means) / 2, minimum_mm=min(float(side.widths.min()) for side in sides))


def _crossings(soft: NDArray[np.float32]) -> tuple[Values, Values]:
    """Points ``(n, 2)`` in px between neighbouring pixels where the mask ends, and its slope there, downwards."""
    framed = cv2.copyMakeBorder(soft, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    width, values, inside = framed.shape[1], framed.ravel(), soft >= 0.5
    changes = inside[:-1] != inside[1:], inside[:, :-1] != inside[:, 1:]
    rows, columns = np.concatenate([np.divmod(np.flatnonzero(one), one.shape[1]) for one in changes], axis=1)
    downwards = np.arange(len(rows)) < np.count_nonzero(changes[0])
    here = (rows + 1) * width + columns + 1
    there = here + np.where(downwards, width, 1)
    share = (values[here] - 0.5) / (values[here] - values[there])
    points = np.stack([rows + share * downwards, columns + share * ~downwards], axis=1)
    up, left, rest = np.array([-width, width]), np.array([-1, 1]), 1 - share
    slopes = [
        (values[here + step[0]] - values[here + step[1]]) * rest
        + (values[there + step[0]] - values[there + step[1]]) * share
        for step in (up, left)
    ]
    return points.astype(np.float64), np.stack(slopes, axis=1).astype(np.float64)


def _largest_piece(mask: Masks) -> NDArray[np.float32]:
    edges, _ = cv2.findContours(np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(edges, key=lambda edge: (float(cv2.contourArea(edge)), len(edge)))
    return np.asarray(cv2.drawContours(np.zeros(mask.shape, np.float32), [largest], -1, 1.0, cv2.FILLED))
