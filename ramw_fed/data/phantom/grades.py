"""Which joints are eroded, and how far: Sharp/van der Heijde grades of a center's wrists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from ramw_fed.data.layout import JOINTS
from ramw_fed.data.splits import portions

# Some joints erode more often than others; in units of the latent severity's standard deviation.
_LEANING: Mapping[str, float] = MappingProxyType(
    {
        "Metacarpal1st": -0.25,
        "Trapezium": -0.30,
        "Scaphoid": 0.10,
        "Lunate": 0.15,
        "DistalRadius": 0.05,
        "DistalUlna": 0.25,
    }
)
# Grades 5 and 3 are nearly absent from RAM-W600.
_GRADES = (5, 4, 3, 2, 1)
_SHARES_OF_GRADES = (0.03, 0.14, 0.06, 0.37, 0.40)
_PATIENT_SHARE_OF_VARIANCE = 0.5
_PROGRESS_PER_EXAM = 0.3


@dataclass(frozen=True, kw_only=True)
class Wrist:
    """One wrist at one exam, before it has scores."""

    patient: int
    exam: int
    side: Literal["L", "R"]
    has_arthritis: bool


def grade(wrists: Sequence[Wrist], prevalence: float, rng: np.random.Generator) -> list[Mapping[str, int]]:
    """Grade all joints of one center, so that a share ``prevalence`` of them is eroded.

    A latent severity, part of it the patient's own, grows from exam to exam; the most severe joints of
    patients with rheumatoid arthritis get the grades. Ranking makes the share exact and lets no grade fall.

    Args:
        wrists: All wrists of the center.
        prevalence: In [0, 1], over all joints including those without arthritis.
        rng: The center's own.

    Returns:
        For each wrist: joint to grade, 0 to 5.
    """
    own = np.sqrt(_PATIENT_SHARE_OF_VARIANCE)
    rest = np.sqrt(1 - _PATIENT_SHARE_OF_VARIANCE)
    patients = list(dict.fromkeys(wrist.patient for wrist in wrists))
    of_patient = dict(zip(patients, own * rng.standard_normal(len(patients)), strict=True))
    of_joint = {
        (patient, side): rest * rng.standard_normal(len(JOINTS)) + [_LEANING[joint] for joint in JOINTS]
        for patient in patients
        for side in ("L", "R")
    }
    pace = dict(zip(patients, _PROGRESS_PER_EXAM * rng.exponential(size=len(patients)), strict=True))
    severity = np.array(
        [
            of_patient[w.patient] + of_joint[w.patient, w.side] + pace[w.patient] * (w.exam - 1)
            if w.has_arthritis
            else np.full(len(JOINTS), -np.inf)
            for w in wrists
        ]
    ).reshape(len(wrists), len(JOINTS))
    grades = _by_rank(severity, prevalence)
    return [{joint: int(score) for joint, score in zip(JOINTS, row, strict=True)} for row in grades]


def _by_rank(severity: np.ndarray, prevalence: float) -> np.ndarray:
    grades = np.zeros(severity.size, dtype=np.int64)
    num_eroded = min(round(prevalence * severity.size), int(np.isfinite(severity).sum()))
    most_severe = np.argsort(-severity, axis=None, kind="stable")[:num_eroded]
    counts = portions(num_eroded, _SHARES_OF_GRADES)
    grades[most_severe] = np.repeat(_GRADES, counts)
    return grades.reshape(severity.shape)
