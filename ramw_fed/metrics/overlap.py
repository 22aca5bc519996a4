"""How much of two masks is common: Dice (DSC), volumetric overlap error (VOE), area difference (RAVD).

Conventions where an outline is missing (tested as a table beside MONAI's in ``tests/metrics``):

| truth | prediction | dsc | voe | ravd |
|---|---|---|---|---|
| empty | empty | not defined | not defined | not defined |
| empty | not empty | 0 (a false bone) | 1 | not defined |
| not empty | empty | 0 (a missing bone) | 1 | 1 |

Not defined is NaN here; a mean leaves it out, and ``both_empty`` counts it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ramw_fed.errors import RamwFedError

Masks = NDArray[np.bool_]
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Areas:
    """Pixels per bone in the prediction, in the truth and in both, each ``(C,)`` float64."""

    predicted: Values
    truth: Values
    common: Values

    def dice(self) -> Values:
        """2 |P and T| / (|P| + |T|), in [0, 1]. Dice 1945, doi:10.2307/1932409."""
        return _ratio(2 * self.common, self.predicted + self.truth)

    def voe(self) -> Values:
        """1 - |P and T| / |P or T|, in [0, 1]. Heimann et al. 2009, doi:10.1109/TMI.2009.2013851."""
        return 1 - _ratio(self.common, self.predicted + self.truth - self.common)

    def ravd(self) -> Values:
        """Relative absolute difference of areas, ||P| - |T|| / |T|, at least 0.

        Unsigned, as in the RAM-W600 benchmark (``evaluations/metrics.py``), which however gives 0 for a bone
        that the truth does not have; Heimann et al. 2009 define it with its sign.
        """
        return _ratio(np.abs(self.predicted - self.truth), self.truth)

    def missing(self) -> Values:
        """1 for each bone that the truth has and the prediction lacks, else 0."""
        values: Values = ((self.truth > 0) & (self.predicted == 0)).astype(np.float64)
        return values

    def false(self) -> Values:
        """1 for each bone that the prediction has and the truth lacks, else 0."""
        values: Values = ((self.truth == 0) & (self.predicted > 0)).astype(np.float64)
        return values

    def both_empty(self) -> Values:
        """1 for each bone that neither has, else 0."""
        values: Values = ((self.truth == 0) & (self.predicted == 0)).astype(np.float64)
        return values


def areas(predicted: Masks, truth: Masks) -> Areas:
    """Count the pixels of ``(C, H, W)`` bool masks."""
    check_masks(predicted, truth)
    return Areas(
        predicted=_count(predicted),
        truth=_count(truth),
        common=_count(predicted & truth),
    )


def dice(predicted: Masks, truth: Masks) -> Values:
    """Dice per bone, ``(C,)``: NaN where both are empty, 0 where one is."""
    return areas(predicted, truth).dice()


def voe(predicted: Masks, truth: Masks) -> Values:
    """Volumetric overlap error per bone, ``(C,)``: NaN where both are empty, 1 where one is."""
    return areas(predicted, truth).voe()


def ravd(predicted: Masks, truth: Masks) -> Values:
    """Relative absolute difference of areas per bone, ``(C,)``: NaN where the truth is empty."""
    return areas(predicted, truth).ravd()


def overlap_pair_masks(masks: Masks, pairs: Sequence[tuple[int, int]]) -> Masks:
    """The region that the two bones of each pair share in projection, scored as a bone is.

    Args:
        masks: ``(C, H, W)`` bool.
        pairs: Channel numbers, P of them.

    Returns:
        ``(P, H, W)`` bool.
    """
    first, second = (list(side) for side in zip(*pairs, strict=True)) if pairs else ([], [])
    return masks[first] & masks[second]


def check_masks(predicted: Masks, truth: Masks) -> None:
    """Refuse masks of another shape or type than ``(C, H, W)`` bool."""
    for name, masks in (("predicted", predicted), ("truth", truth)):
        if masks.dtype != np.bool_ or masks.ndim != 3:
            raise RamwFedError(
                f"{name} masks must be bool of shape (bones, height, width), found {masks.dtype} "
                f"{masks.shape}: binarise them first (a probability with >= 0.5)"
            )
    if predicted.shape != truth.shape:
        raise RamwFedError(
            f"predicted masks {predicted.shape} and truth {truth.shape} must have one shape: "
            "bring the prediction to the size of the truth"
        )


def _count(masks: Masks) -> Values:
    return np.array([np.count_nonzero(mask) for mask in masks], dtype=np.float64)


def _ratio(numerator: Values, denominator: Values) -> Values:
    undefined = np.full_like(numerator, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
