"""What a step makes smaller: Dice + BCE for bones, four ways to treat rare erosions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from ramw_fed.config import ErosionConfig
from ramw_fed.errors import ConfigError
from ramw_fed.knobs import required

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits, targets) -> scalar."""


def dice_bce(logits: Tensor, targets: Tensor) -> Tensor:
    r"""Soft Dice loss plus binary cross-entropy, one sigmoid a bone.

    :math:`1 - \frac{2 \sum p g + 1}{\sum p + \sum g + 1}` per image and bone, averaged, with the 1 so that a bone which
    an image does not show is a valid empty channel, whose loss is 0 where nothing is predicted. (Sudre et al. 2017,
    section 2.2, https://arxiv.org/abs/1707.03237, without weights.) The cross-entropy is the mean over pixels.

    Args:
        logits: ``(images, bones, H, W)``.
        targets: Same shape, 0 or 1.
    """
    targets = targets.to(logits.dtype)
    probabilities = logits.sigmoid()
    common = (probabilities * targets).sum(dim=(-2, -1))
    both = probabilities.sum(dim=(-2, -1)) + targets.sum(dim=(-2, -1))
    dice = 1 - (2 * common + 1) / (both + 1)
    return dice.mean() + functional.binary_cross_entropy_with_logits(logits, targets)


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Joints of each class among a center's own training examples."""

    negatives: int
    positives: int

    def log_odds(self) -> float:
        """Log of positive over negative prior, half a joint added to each class: finite where one is absent."""
        return math.log((self.positives + 0.5) / (self.negatives + 0.5))


def logit_adjusted(counts: ClassCounts, _config: ErosionConfig) -> Loss:
    r"""Cross-entropy on :math:`z + \log \pi_1 - \log \pi_0`; predictions use z alone and so are for balanced classes.

    Menon et al. 2021, eq. 10 with tau = 1, https://arxiv.org/abs/2007.07314. The priors are the center's own, over all
    its joints: each center corrects its own prevalence, while what a joint's identity says of the risk stays learned.
    """
    shift = counts.log_odds()

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits.flatten() + shift, targets.to(logits.dtype))

    return loss


def weighted(_counts: ClassCounts, config: ErosionConfig) -> Loss:
    """Cross-entropy with weights [1, ``positive-weight``], divided by their sum as torch and the benchmark do."""
    positive_weight = required(config.positive_weight, "erosion.positive-weight")

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        targets = targets.to(logits.dtype)
        weights = torch.where(targets > 0, positive_weight, 1.0)
        values = functional.binary_cross_entropy_with_logits(logits.flatten(), targets, reduction="none")
        return (weights * values).sum() / weights.sum()

    return loss


def focal(_counts: ClassCounts, config: ErosionConfig) -> Loss:
    r""":math:`-(1 - p)^\gamma \log p` of the true class. Lin et al. 2017, eq. 4, https://arxiv.org/abs/1708.02002."""
    gamma = required(config.focal_gamma, "erosion.focal-gamma")

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        targets = targets.to(logits.dtype)
        values = functional.binary_cross_entropy_with_logits(logits.flatten(), targets, reduction="none")
        return ((1 - torch.exp(-values)).clamp(min=1e-8) ** gamma * values).mean()

    return loss


def cross_entropy(_counts: ClassCounts, _config: ErosionConfig) -> Loss:
    """Plain binary cross-entropy."""

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits.flatten(), targets.to(logits.dtype))

    return loss


EROSION_LOSSES: Mapping[str, Callable[[ClassCounts, ErosionConfig], Loss]] = MappingProxyType(
    {
        "logit-adjustment": logit_adjusted,
        "weighted": weighted,
        "focal": focal,
        "cross-entropy": cross_entropy,
    }
)


def erosion_loss(counts: ClassCounts, config: ErosionConfig) -> Loss:
    """Return the loss that ``config.loss`` names, for a center with these joints."""
    if config.loss not in EROSION_LOSSES:
        raise ConfigError(f"loss {config.loss!r} is not one of {', '.join(sorted(EROSION_LOSSES))}")
    return EROSION_LOSSES[config.loss](counts, config)
