"""How far two outlines lie apart: surface Dice (NSD), mean distance (MSD) and 95th percentile (HD95).

All three come from the same distances: the pixels of each outline, each a k-d tree that the other asks for its
nearest pixel. That is exact, costs little where the outlines are near, and no more where a stray pixel lies far
away (a distance transform fills the whole box around both). An outline is the mask without its erosion by a 3 x 3
cross, as in ``monai.metrics``; what lies outside the image counts as empty. Where an outline is missing:

| truth | prediction | nsd | msd | hd95 |
|---|---|---|---|---|
| empty | empty | not defined | not defined | not defined |
| empty | not empty | 0 (a false bone) | not defined | not defined |
| not empty | empty | 0 (a missing bone) | not defined | not defined |

Not defined is NaN here; a mean leaves it out, and ``both_empty`` counts it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from ramw_fed.metrics.overlap import Masks, Values, areas, check_masks

SURFACE_METRICS = ("nsd", "msd", "hd95")
SEGMENTATION_METRICS = ("dsc", "nsd", "voe", "msd", "hd95", "ravd")
SEGMENTATION_COUNTS = ("missing", "false", "both_empty")

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True, kw_only=True)
class SurfaceDistances:
    """From each pixel of one outline to the nearest of the other, in px, both ways.

    Attributes:
        to_truth: ``(n,)`` float64, from the predicted outline.
        to_predicted: ``(m,)`` float64, from the true outline.
    """

    to_truth: Values
    to_predicted: Values

    def nsd(self, tolerance_px: float) -> float:
        """Share of both outlines near the other one. Nikolov et al. 2021, doi:10.2196/26151."""
        near = sum(int(np.count_nonzero(side <= tolerance_px)) for side in (self.to_truth, self.to_predicted))
        return near / (self.to_truth.size + self.to_predicted.size)

    def msd(self) -> float:
        """Mean over the pixels of both outlines (average symmetric surface distance), in px."""
        total = self.to_truth.sum() + self.to_predicted.sum()
        return float(total) / (self.to_truth.size + self.to_predicted.size)

    def hd95(self) -> float:
        """The larger of the two 95th percentiles, in px.

        Huttenlocher et al. 1993, doi:10.1109/34.232073; percentile as in monai.metrics (linear).
        """
        return max(_percentile(self.to_truth, 95), _percentile(self.to_predicted, 95))


def surface_distances(predicted: Masks, truth: Masks) -> SurfaceDistances | None:
    """Distances between the outlines of two ``(H, W)`` masks; None where one of them is empty."""
    outlines = _outline(predicted), _outline(truth)
    if not all(len(outline) for outline in outlines):
        return None
    return SurfaceDistances(
        to_truth=_distances(outlines[0], to=outlines[1]),
        to_predicted=_distances(outlines[1], to=outlines[0]),
    )


def surface_metrics(
    predicted: Masks, truth: Masks, *, tolerance_px: float = 2.0, spacing_mm: float | None = None
) -> dict[str, Values]:
    """Surface Dice, mean distance and HD95 per bone.

    Args:
        predicted: ``(C, H, W)`` bool.
        truth: Same shape.
        tolerance_px: Distance up to which surface Dice calls a pixel right. A tolerance in mm is divided
            by the spacing first.
        spacing_mm: Side of a square pixel. With it ``msd`` and ``hd95`` are in mm, else in px.

    Returns:
        ``nsd``, ``msd`` and ``hd95``, each ``(C,)``.
    """
    check_masks(predicted, truth)
    unit = 1.0 if spacing_mm is None else spacing_mm
    values = {name: np.full(len(truth), np.nan) for name in SURFACE_METRICS}
    for bone, (one, other) in enumerate(zip(predicted, truth, strict=True)):
        distances = surface_distances(one, other)
        if distances is not None:
            values["nsd"][bone] = distances.nsd(tolerance_px)
            values["msd"][bone] = distances.msd() * unit
            values["hd95"][bone] = distances.hd95() * unit
        elif one.any() or other.any():
            values["nsd"][bone] = 0.0
    return values


def segmentation_metrics(
    predicted: Masks,
    truth: Masks,
    *,
    tolerance_px: float = 2.0,
    spacing_mm: float | None = None,
    both_empty: float = np.nan,
) -> dict[str, Values]:
    """Every measure of a radiograph's bones in one go.

    Args:
        predicted: ``(C, H, W)`` bool.
        truth: Same shape.
        tolerance_px: As in :func:`surface_metrics`.
        spacing_mm: As in :func:`surface_metrics`.
        both_empty: ``dsc`` and ``nsd`` of a bone that neither has: NaN (not defined) or 1.0.

    Returns:
        ``dsc nsd voe msd hd95 ravd`` and the counts ``missing``, ``false`` and ``both_empty`` (0 or 1), each ``(C,)``.
    """
    area = areas(predicted, truth)
    surface = surface_metrics(predicted, truth, tolerance_px=tolerance_px, spacing_mm=spacing_mm)
    neither = area.both_empty()
    values: Mapping[str, Values] = {
        "dsc": np.where(neither > 0, both_empty, area.dice()),
        "nsd": np.where(neither > 0, both_empty, surface["nsd"]),
        "voe": area.voe(),
        "msd": surface["msd"],
        "hd95": surface["hd95"],
        "ravd": area.ravd(),
        "missing": area.missing(),
        "false": area.false(),
        "both_empty": neither,
    }
    return {name: values[name] for name in (*SEGMENTATION_METRICS, *SEGMENTATION_COUNTS)}


def _outline(mask: Masks) -> Values:
    """Pixels of the mask that touch what is not of it, ``(n, 2)``."""
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    left, top, width, height = cv2.boundingRect(pixels)
    if not width:
        return np.empty((0, 2))
    box = pixels[top : top + height, left : left + width]
    inside = cv2.erode(box, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    points = cv2.findNonZero(box - inside).reshape(-1, 2)  # OpenCV 4 gives (n, 1, 2), OpenCV 5 (n, 2)
    placed: Values = np.add(points, (left, top), dtype=np.float64)
    return placed


def _distances(points: Values, *, to: Values) -> Values:
    distances, _ = cKDTree(to, leafsize=24).query(points)
    return np.asarray(distances, dtype=np.float64)


def _percentile(values: Values, percent: float) -> float:
    """Linear between ranks; the share is a float32, as in ``torch.quantile``, which shows where ranks lie far apart."""
    rank = float(np.float32(percent / 100)) * (values.size - 1)
    below = int(rank)
    above = min(below + 1, values.size - 1)
    ordered = np.partition(values, (below, above))
    return float(ordered[below] + (rank - below) * (ordered[above] - ordered[below]))
