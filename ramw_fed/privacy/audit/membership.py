"""How well an attack tells patients who were trained on from others."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, rankdata

FALSE_POSITIVES = 0.01
# Four limits stand in one verdict, two for each of two attacks: together they are wrong once in twenty audits at most.
_ERROR = 0.05 / 4


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What one attack found.

    Attributes:
        true_positives: Share of the members that are called members, at the threshold that so few others pass.
        low: Lower limit of that share (Clopper and Pearson 1934, one-sided 98.75 %).
        high: Upper limit, likewise.
        false_positives: Share of the others that pass it, at most 1 %.
        false_high: Upper limit of that share, likewise.
        auroc: Chance that a member scores above another patient, half for ties; 0.5 is guessing.
        members: How many.
        others: How many.
    """

    true_positives: float
    low: float
    high: float
    false_positives: float
    false_high: float
    auroc: float
    members: int
    others: int


def attack(members: NDArray[np.float64], others: NDArray[np.float64], *, rate: float = FALSE_POSITIVES) -> Attack:
    """Call a member whoever scores above all but a share ``rate`` of the others.

    A mean over all patients hides what matters: an attack that is sure of a few harms these few (Carlini et al. 2022,
    https://arxiv.org/abs/2112.03570). So the share of members found is read where there are few false alarms.

    Args:
        members: ``(members,)`` scores, larger where a patient seems to have been trained on.
        others: ``(others,)`` scores of patients who were not; at least ``1 / rate``.
        rate: Share of the others that may pass.
    """
    allowed = math.floor(rate * len(others) + 1e-9)
    threshold = np.sort(others)[::-1][allowed]
    found, false = int((members > threshold).sum()), int((others > threshold).sum())
    return Attack(
        true_positives=found / len(members),
        low=lower_limit(found, len(members)),
        high=upper_limit(found, len(members)),
        false_positives=false / len(others),
        # Of the allowed ones: the threshold was chosen by these very patients.
        false_high=upper_limit(allowed, len(others)),
        auroc=_auroc(members, others),
        members=len(members),
        others=len(others),
    )


def lower_limit(count: int, of: int) -> float:
    """Return the lower Clopper-Pearson limit of a share, at a one-sided 98.75 %."""
    return float(beta.ppf(_ERROR, count, of - count + 1)) if count else 0.0


def upper_limit(count: int, of: int) -> float:
    """Return the upper Clopper-Pearson limit of a share, at a one-sided 98.75 %."""
    return float(beta.ppf(1 - _ERROR, count + 1, of - count)) if count < of else 1.0


def _auroc(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    return float((ranks.sum() - len(members) * (len(members) + 1) / 2) / (len(members) * len(others)))
