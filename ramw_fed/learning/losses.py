"""What a step makes smaller: Dice + BCE for bones, six ways to treat rare erosions."""

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
    """Joints of each class among training examples, of one center or of all."""

    negatives: int
    positives: int

    def log_odds(self) -> float:
        """Log of positive over negative prior, half a joint added to each class: finite where one is absent."""
        return math.log((self.positives + 0.5) / (self.negatives + 0.5))


def logit_adjusted(counts: ClassCounts, config: ErosionConfig) -> Loss:
    r"""Cross-entropy on :math:`z + \tau (\log \pi_1 - \log \pi_0)`; predictions use z: for balanced classes at tau = 1.

    Menon et al. 2021, eq. 10, https://arxiv.org/abs/2007.07314. At tau = 1 this is balanced softmax (Ren et al. 2020,
    eq. 3, https://arxiv.org/abs/2007.10740) for two classes, one of which has logit 0. With local priors each center
    corrects its own prevalence, over all its joints: what a joint's identity says of the risk stays learned.
    """
    shift = required(config.tau, "erosion.tau") * counts.log_odds()

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


def class_balanced(counts: ClassCounts, config: ErosionConfig) -> Loss:
    r"""Cross-entropy with weights proportional to :math:`(1 - \beta) / (1 - \beta^{n_c})`, which sum to the classes.

    Cui et al. 2019, eq. 2 and section 4.1, https://arxiv.org/abs/1901.05555. A class without a joint has no effective
    number: it weighs nothing, and the other one 1.
    """
    beta = required(config.beta, "erosion.beta")
    numbers = [(1 - beta**count) / (1 - beta) for count in (counts.negatives, counts.positives)]
    inverse = [1 / number if number > 0 else 0.0 for number in numbers]
    present = sum(number > 0 for number in numbers)
    negative, positive = (one * present / sum(inverse) if present else 1.0 for one in inverse)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        targets = targets.to(logits.dtype)
        weights = torch.where(targets > 0, positive, negative)
        return functional.binary_cross_entropy_with_logits(logits.flatten(), targets, weights)

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


def distance_weighted(_counts: ClassCounts, config: ErosionConfig) -> Loss:
    r"""Class distance weighted cross-entropy :math:`-\sum_i |i - c|^\alpha \log(1 - p_i)` of grades, c the true one.

    Polat et al. 2022, section 3, https://arxiv.org/abs/2202.05167. ``(joints, grades)`` logits, ``(joints,)`` grades.
    The mean over joints; wrong grades are pushed down by their distance, and the true one is left what remains.
    """
    power = required(config.distance_power, "erosion.distance-power")

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        grades = torch.arange(logits.shape[1], device=logits.device)
        distances = (grades - targets.long()[:, None]).abs().to(logits.dtype)
        weights = torch.where(distances > 0, distances**power, 0.0)
        itself = torch.eye(len(grades), dtype=torch.bool, device=logits.device)
        others = logits[:, None, :].masked_fill(itself, -torch.inf).logsumexp(dim=2)
        return (weights * (logits.logsumexp(dim=1, keepdim=True) - others)).sum(dim=1).mean()

    return loss


ORDINAL = frozenset({"distance-weighted"})
"""Losses of a logit for each grade and of true grades; the others are of one logit, eroded or not."""


def erosion_logits(outputs: Tensor) -> Tensor:
    """Return the log odds ``(joints,)`` of a grade above 0 from ``(joints, 1)`` or ``(joints, grades)`` logits."""
    if outputs.shape[1] == 1:
        return outputs.flatten()
    return outputs[:, 1:].logsumexp(dim=1) - outputs[:, 0]


EROSION_LOSSES: Mapping[str, Callable[[ClassCounts, ErosionConfig], Loss]] = MappingProxyType(
    {
        "logit-adjustment": logit_adjusted,
        "weighted": weighted,
        "class-balanced": class_balanced,
        "focal": focal,
        "cross-entropy": cross_entropy,
        "distance-weighted": distance_weighted,
    }
)


def erosion_loss(counts: ClassCounts, config: ErosionConfig) -> Loss:
    """Return the loss that ``config.loss`` names, for a center with these joints.

    Raises:
        ConfigError: There is no such loss, or it reads the counts of all centers and they are not set.
    """
    if config.loss not in EROSION_LOSSES:
        raise ConfigError(f"loss {config.loss!r} is not one of {', '.join(sorted(EROSION_LOSSES))}")
    if config.prior == "federated":
        counts = ClassCounts(
            negatives=required(config.intact_joints, "erosion.intact-joints"),
            positives=required(config.eroded_joints, "erosion.eroded-joints"),
        )
    return EROSION_LOSSES[config.loss](counts, config)
