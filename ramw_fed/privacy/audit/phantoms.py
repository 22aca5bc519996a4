"""Phantom patients for an audit, in memory: as many as an attack needs others, small, one wrist each."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramw_fed.config import PhantomConfig, SegmentationConfig
from ramw_fed.data.batches import Rows
from ramw_fed.data.phantom.plan import plan
from ramw_fed.data.phantom.writer import draw_wrist
from ramw_fed.data.transforms import VARIATIONS, standardize, vary


class Wrists:
    """Images and masks of phantom patients, as segmentation trains on them."""

    def __init__(self, images: Tensor, masks: Tensor, patients: NDArray[np.str_], config: SegmentationConfig) -> None:
        """Hold ``(patients, 1, S, S)`` images in [0, 1] and ``(patients, bones, S, S)`` masks."""
        self.images, self.masks, self.config = images, masks, config
        self.patients = self.names = patients

    def __len__(self) -> int:
        """Return the number of patients."""
        return len(self.images)

    def batch(self, rows: Rows, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Return normalised images and masks."""
        pairs = [self._read(int(row), augment_key) for row in rows]
        return torch.stack([image for image, _ in pairs]), torch.stack([masks for _, masks in pairs])

    def part(self, first: int, last: int) -> "Wrists":
        """Return the patients from ``first`` to before ``last``."""
        chosen = slice(first, last)
        return Wrists(self.images[chosen], self.masks[chosen], self.patients[chosen], self.config)

    def _read(self, row: int, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        variation = None if augment_key is None else VARIATIONS[self.config.augmentation]
        image, masks = vary(
            self.images[row],
            self.masks[row],
            variation,
            self.config.image_size,
            key=(*(augment_key or ()), str(self.names[row])),
        )
        assert masks is not None
        return standardize(image), masks


def draw_patients(count: int, config: SegmentationConfig, *, seed: int) -> Iterator[tuple[Tensor, Tensor, str]]:
    """Give image, masks and name of ``count`` patients of all six centers, mixed: one wrist each."""
    cohort = PhantomConfig(patients=count, seed=seed, size=config.image_size)
    first_wrists = {exposure.patient: exposure for exposure in reversed(plan(cohort))}
    for number in sorted(first_wrists):  # numbers are dealt to the centers at random
        wrist = draw_wrist(cohort, first_wrists[number])
        image = torch.from_numpy(np.ascontiguousarray(wrist.image))[None] / 255
        yield image, torch.from_numpy(wrist.masks.astype(np.uint8)), f"patient {number:05d}"


def gathered(drawn: list[tuple[Tensor, Tensor, str]], config: SegmentationConfig) -> Wrists:
    """Return what ``draw_patients`` gave as examples."""
    images, masks, names = zip(*drawn, strict=True)
    return Wrists(torch.stack(images), torch.stack(masks), np.array(names, np.str_), config)
