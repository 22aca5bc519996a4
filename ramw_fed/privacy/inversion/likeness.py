"""How alike two images are, and whether one was found among others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# A network sees images without their mean and contrast: neither can be found, nor is asked for.
_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How alike a reconstruction and the true image are, mean and contrast aside.

    Attributes:
        correlation: Of the pixels; 1 for the same picture, 0 for an unrelated one.
        psnr: Peak signal-to-noise ratio in dB; the peak is the true image's range.
        ssim: Structural similarity, at most 1.
        others: Largest correlation of any other patient's image with the true one: what a lucky guess reaches.
        rank: Place of the true image among all candidates by correlation with the reconstruction, from 1.
        candidates: The true image and those of other patients.
    """

    correlation: float
    psnr: float
    ssim: float
    others: float
    rank: int
    candidates: int

    @property
    def is_reconstruction(self) -> bool:
        """Whether the picture is the patient's.

        It names the true image first among all candidates, and is at most half as far from it as the nearest other is.
        """
        return self.rank == 1 and 1 - self.correlation <= (1 - self.others) / 2


def likeness(found: Tensor, truth: Tensor, others: Sequence[Tensor]) -> Likeness:
    """Compare a reconstruction with the true image and those of other patients, each ``(S, S)``; at least one other."""
    scores = [correlation(found, other) for other in others]
    own = correlation(found, truth)
    return Likeness(
        correlation=own,
        psnr=psnr(found, truth),
        ssim=ssim(found, truth),
        others=max(correlation(truth, other) for other in others),
        rank=place(own, scores),
        candidates=len(others) + 1,
    )


def place(own: float, others: Sequence[float]) -> int:
    """Return the place of ``own`` among the others, from 1; the last of equals.

    >>> place(0.9, [0.1, 0.8]), place(0.5, [0.5, 0.9])
    (1, 3)
    """
    return 1 + sum(not other < own for other in others)


def correlation(first: Tensor, second: Tensor) -> float:
    """Return Pearson's correlation of two images' pixels; 0 where one is constant."""
    one, other = (_centered(image).flatten() for image in (first, second))
    norms = float(one.norm() * other.norm())
    return float(one @ other) / norms if norms > 0 else 0.0


def psnr(found: Tensor, truth: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB once ``found`` has the truth's mean and contrast; inf if the same."""
    error = float((_matched(found, truth) - truth.double()).square().mean())
    peak = float(truth.max() - truth.min())
    return 10 * math.log10(peak**2 / error) if error > 0 else math.inf


def ssim(found: Tensor, truth: Tensor) -> float:
    """Return the mean structural similarity once ``found`` has the truth's mean and contrast.

    Wang et al. 2004, eq. 13, https://doi.org/10.1109/TIP.2003.819861: Gaussian windows of 11 pixels, those that lie in
    the image whole; the range is the true image's.
    """
    one, other = _matched(found, truth), truth.double()
    peak = float(truth.max() - truth.min())
    stable = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    mean, mean_true = _blurred(one), _blurred(other)
    variance = _blurred(one * one) - mean**2
    variance_true = _blurred(other * other) - mean_true**2
    covariance = _blurred(one * other) - mean * mean_true
    values = (2 * mean * mean_true + stable[0]) * (2 * covariance + stable[1])
    values /= (mean**2 + mean_true**2 + stable[0]) * (variance + variance_true + stable[1])
    return float(values.mean())


def as_grey(found: Tensor, truth: Tensor) -> NDArray[np.uint8]:
    """Return ``found`` with the truth's mean and contrast as a grey picture; black and white are the truth's."""
    low, high = float(truth.min()), float(truth.max())
    shown = ((_matched(found, truth) - low) / max(high - low, 1e-9)).clamp(0, 1)
    grey: NDArray[np.uint8] = (255 * shown).round().to(torch.uint8).numpy()
    return grey


def _centered(image: Tensor) -> Tensor:
    values = image.double()
    return values - values.mean()


def _matched(found: Tensor, truth: Tensor) -> Tensor:
    centered, wanted = _centered(found), _centered(truth)
    spread = float(centered.square().mean().sqrt())
    factor = float(wanted.square().mean().sqrt()) / spread if spread > 0 else 0.0
    return centered * factor + truth.double().mean()


def _blurred(image: Tensor) -> Tensor:
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    line = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    line = line / line.sum()
    kernel = torch.outer(line, line)[None, None]
    return functional.conv2d(image[None, None], kernel)[0, 0]
