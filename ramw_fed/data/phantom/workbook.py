"""``Metadata.xlsx`` of the phantom: one row a study, no clock in its bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from openpyxl import Workbook

from ramw_fed.data.layout import CENTERS, JOINTS
from ramw_fed.data.phantom.plan import Exposure
from ramw_fed.data.workbooks import save_workbook

_SHORT: Mapping[str, str] = {
    "Metacarpal1st": "1st MC",
    "Trapezium": "Trapz",
    "Scaphoid": "Sc",
    "Lunate": "Lu",
    "DistalRadius": "DR",
    "DistalUlna": "DU",
}
COLUMNS = (
    "Mapped Image Stem",
    "NormalizedPatientID",
    "NormalizedStudyID",
    "InstitutionName",
    "IsRA",
    "PatientAge",
    "PatientSex",
    "StudyDate (Days)",
    "ImagerPixelSpacing",
    "[Rows, Columns]",
    "SvdH_L",
    "SvdH_R",
    *(f"{_SHORT[joint]}_{side}" for joint in JOINTS for side in "LR"),
)
_PATIENT = 4  # stream of random numbers, see plan.py and writer.py


def write_metadata(exposures: Sequence[Exposure], seed: int, path: Path) -> None:
    """Write one row a study; the same exposures give the same bytes on every day."""
    studies: dict[str, list[Exposure]] = {}
    for exposure in exposures:
        studies.setdefault(exposure.study, []).append(exposure)
    workbook = Workbook()
    sheet = workbook.worksheets[0]
    sheet.append(COLUMNS)
    for study, hands in sorted(studies.items()):
        sheet.append(_row(study, hands, seed))
    save_workbook(workbook, path)


def _row(study: str, hands: Sequence[Exposure], seed: int) -> list[str | int | None]:
    first = hands[0]
    rng = np.random.default_rng([seed, _PATIENT, first.patient])
    age = int(np.clip(rng.normal(58 if first.has_arthritis else 46, 14), 18, 92))
    sex = str(rng.choice(["F", "M", "O"], p=[0.74, 0.25, 0.01] if first.has_arthritis else [0.5, 0.49, 0.01]))
    age_is_text = rng.random() < 0.1  # as in the published table
    days = int(rng.integers(0, 400)) + int(rng.integers(200, 900)) * (first.exam - 1)
    by_side = {hand.side: hand for hand in hands if hand.is_scored}
    return [
        study,
        first.patient,
        first.exam,
        CENTERS[first.center],
        int(first.has_arthritis),
        f"{age:03d}Y" if age_is_text else age,
        sex,
        days,
        "[0.149, 0.149]" if first.size != 720 else "[0.15, 0.15]",
        "[1670, 2010]" if first.size != 720 else "[2010, 1670]",
        *(sum(by_side[side].scores.values()) if side in by_side else None for side in "LR"),
        *(by_side[side].scores[joint] if side in by_side else None for joint in JOINTS for side in "LR"),
    ]
