"""Who is in the phantom cohort: patients, exams, sides, centers, splits, sizes and scores.

Four dials in [0, 1] set how far the centers differ in one respect each. At 0 all centers are drawn from the
same distribution, by the same deck of cards; nothing in the code below then depends on the center.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from ramw_fed.config import PhantomConfig
from ramw_fed.data.phantom.grades import Wrist, grade
from ramw_fed.data.radiograph import Split
from ramw_fed.data.splits import SHARES, deal, portions

# What the dials lead to at 1, by center in the order of CENTERS.
_QUANTITY = (0.42, 0.24, 0.15, 0.10, 0.06, 0.03)
_PREVALENCE = (0.25, 0.10, 0.08, 0.10, 0.02, 0.005)
_SCORED = (1.0, 1.0, 0.8, 0.4, 0.2, 0.0)
_PREFERS_720 = (0.0, 1.0, 0.0, 1.0, 0.0, 1.0)

_SHARE_OF_720 = 0.3
_SHARE_WITH_RA = 0.53  # 207 of RAM-W600's 388 patients
# One hand; both; both and one later; both twice: 2.7 images a patient, as RAM-W600 has.
_EXAMS = ((1,), (2,), (2, 1), (2, 2))
_SHARES_OF_EXAMS = (0.10, 0.35, 0.30, 0.25)

_PLAN = 1  # first number after the seed in every key: which stream of random numbers this is

Card = TypeVar("Card")


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """One image to make.

    Attributes:
        patient: Number of the patient, from 1, unique across centers.
        exam: Number of the imaging study among the patient's, from 1.
        side: Hand.
        center: Index into ``CENTERS``.
        has_arthritis: Whether the patient has rheumatoid arthritis.
        size: Side of the image in pixels.
        split: Of the patient, for both tasks.
        scores: Joint to grade, also where ``is_scored`` is false: the bone is eroded, nobody looked.
        is_scored: Whether the scores are published.
    """

    patient: int
    exam: int
    side: Literal["L", "R"]
    center: int
    has_arthritis: bool
    size: int
    split: Split
    scores: Mapping[str, int]
    is_scored: bool

    @property
    def study(self) -> str:
        """Name of the study, ``PPPP_SSSS``."""
        return f"{self.patient:04d}_{self.exam:04d}"

    @property
    def name(self) -> str:
        """Name of the radiograph, ``PPPP_SSSS_L``."""
        return f"{self.study}_{self.side}"


def plan(config: PhantomConfig) -> tuple[Exposure, ...]:
    """Return all images of the cohort, sorted by name; a function of ``config`` alone."""
    counts = _patients_per_center(config)
    numbers = np.random.default_rng([config.seed, _PLAN]).permutation(config.patients) + 1
    exposures: list[Exposure] = []
    for center, own in enumerate(np.split(numbers, np.cumsum(counts)[:-1])):
        exposures += _plan_center(config, center, sorted(int(number) for number in own))
    return tuple(sorted(exposures, key=lambda exposure: exposure.name))


def _patients_per_center(config: PhantomConfig) -> list[int]:
    skewed = np.array(_QUANTITY[: config.centers])
    equal = np.full(config.centers, 1 / config.centers)
    shares = equal + config.quantity_skew * (skewed / skewed.sum() - equal)
    return portions(config.patients, shares.tolist(), least=min(3, config.patients // config.centers))


def relative_prevalence(config: PhantomConfig) -> list[float]:
    """Prevalence by center as a multiple of the mean over centers: geometric from equal to skewed."""
    skewed = np.power(np.array(_PREVALENCE[: config.centers]), config.prevalence_skew)
    return [float(share) for share in skewed / skewed.mean()]


def _plan_center(config: PhantomConfig, center: int, patients: list[int]) -> list[Exposure]:
    rng = np.random.default_rng([config.seed, _PLAN, center])
    relative = relative_prevalence(config)[center]
    share_with_ra = min(_SHARE_WITH_RA * np.sqrt(relative), 0.9)
    has_arthritis = _deck(rng, len(patients), (share_with_ra, 1 - share_with_ra), (True, False))
    exams = _deck(rng, len(patients), _SHARES_OF_EXAMS, _EXAMS)
    wrists = [
        Wrist(patient=patient, exam=exam, side=side, has_arthritis=arthritic)
        for patient, arthritic, hands in zip(patients, has_arthritis, exams, strict=True)
        for exam, count in enumerate(hands, start=1)
        for side in (("L", "R") if count == 2 else _one_side(rng))
    ]
    scores = grade(wrists, min(config.prevalence * relative, 0.9), rng)
    burden = dict.fromkeys(patients, 0)
    for wrist, grades in zip(wrists, scores, strict=True):
        burden[wrist.patient] += sum(score > 0 for score in grades.values())
    tie = dict(zip(patients, rng.permutation(len(patients)), strict=True))
    by_burden = sorted(patients, key=lambda patient: (-burden[patient], tie[patient]))
    split_of = dict(zip(by_burden, deal(len(patients), SHARES, rng), strict=True))
    scored = _scored_patients(config, center, by_burden, split_of, rng)
    share_of_720 = _SHARE_OF_720 + config.shift * (_PREFERS_720[center] - _SHARE_OF_720)
    # One detector format a study, as both hands are exposed together.
    wide = {key: rng.random() < share_of_720 for key in dict.fromkeys((w.patient, w.exam) for w in wrists)}
    return [
        Exposure(
            patient=wrist.patient,
            exam=wrist.exam,
            side=wrist.side,
            center=center,
            has_arthritis=wrist.has_arthritis,
            size=config.size or (720 if wide[wrist.patient, wrist.exam] else 600),
            split=split_of[wrist.patient],
            scores=grades,
            is_scored=wrist.patient in scored,
        )
        for wrist, grades in zip(wrists, scores, strict=True)
    ]


def _one_side(rng: np.random.Generator) -> tuple[Literal["L", "R"]]:
    return ("L",) if rng.random() < 0.5 else ("R",)


def _deck(rng: np.random.Generator, size: int, shares: Sequence[float], cards: Sequence[Card]) -> list[Card]:
    """Deal a deck with fixed shares: equal decks at equal centers, which independent draws would not give."""
    deck = [card for card, count in zip(cards, portions(size, shares), strict=True) for _ in range(count)]
    return [deck[index] for index in rng.permutation(size)]


def _scored_patients(
    config: PhantomConfig,
    center: int,
    by_burden: list[int],
    split_of: Mapping[int, Split],
    rng: np.random.Generator,
) -> set[int]:
    """Patients with published scores: in each split the wanted share, spread evenly over the burden."""
    share = 1 - config.label_skew * (1 - _SCORED[center])
    chosen: set[int] = set()
    for split in ("train", "val", "test"):
        members = [patient for patient in by_burden if split_of[patient] == split]
        phase = rng.random()
        ticks = np.floor(np.arange(len(members) + 1) * share + phase)
        chosen |= {patient for patient, step in zip(members, np.diff(ticks), strict=True) if step >= 1}
    return chosen
