"""Who is in the phantom cohort: patients, exams, sides, centers, splits, sizes and scores.

Four dials in [0, 1] set how far the centers differ in one respect each. At 0 all centers are drawn from the
same distribution, by the same deck of cards; nothing in the code below then depends on the center.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

import numpy as np

from ramw_fed.data.layout import CENTERS
from ramw_fed.data.phantom.grades import Wrist, grade
from ramw_fed.data.radiograph import Split
from ramw_fed.data.splits import SHARES, deal, portions
from ramw_fed.errors import ConfigError

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
class PhantomConfig:
    """Knobs of the phantom cohort.

    Attributes:
        patients: Over all six centers, at least 12.
        seed: At least 0. Same seed, same bytes.
        size: Side of the square images in pixels, at least 32; None for 600 or 720 as published.
        field_of_view: How much of the forearm and hand is seen; 1 as in RAM-W600, more to train for transfer.
        prevalence: Share of joints with an erosion, over all centers, in (0, 0.4].
        shift: Dial for the centers' imaging style.
        label_skew: Dial for the share of scored patients; masks are everywhere.
        prevalence_skew: Dial for the prevalence of erosions; their mean over the centers stays.
        quantity_skew: Dial for the number of patients.
        split: Shares of patients in train, val and test at each center.
    """

    patients: int = 168
    seed: int = 0
    size: int | None = None
    field_of_view: float = 1.0
    prevalence: float = 0.12
    shift: float = 0.5
    label_skew: float = 0.0
    prevalence_skew: float = 0.0
    quantity_skew: float = 0.0
    split: tuple[float, float, float] = SHARES

    def __post_init__(self) -> None:
        """Check the ranges, all at once."""
        faults = []
        for dial in ("shift", "label_skew", "prevalence_skew", "quantity_skew"):
            if not 0 <= getattr(self, dial) <= 1:
                faults.append(f"{dial} must lie in [0, 1], found {getattr(self, dial)!r}")
        if self.patients < 2 * len(CENTERS):
            faults.append(f"patients must be at least {2 * len(CENTERS)} (two a center), found {self.patients!r}")
        if self.seed < 0:
            faults.append(f"seed must be at least 0, found {self.seed!r}")
        if self.size is not None and not 32 <= self.size <= 4096:
            faults.append(f"size must be None or lie in [32, 4096], found {self.size!r}")
        if not 0.5 <= self.field_of_view <= 3:
            faults.append(f"field_of_view must lie in [0.5, 3], found {self.field_of_view!r}")
        if not 0 < self.prevalence <= 0.4:
            faults.append(f"prevalence must lie in (0, 0.4], found {self.prevalence!r}")
        if len(self.split) != 3 or not all(share > 0 for share in self.split):
            faults.append(f"split must be three shares above 0, found {self.split!r}")
        if faults:
            raise ConfigError("; ".join(faults))

    def as_table(self) -> Mapping[str, object]:
        """Return the knobs as a TOML table: no None, tuples as lists."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}


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
    equal = 1 / len(CENTERS)
    shares = [equal + config.quantity_skew * (skewed - equal) for skewed in _QUANTITY]
    return portions(config.patients, shares, least=min(3, config.patients // len(CENTERS)))


def prevalences(config: PhantomConfig) -> list[float]:
    """Prevalence of erosions by center: geometric from equal to skewed, with the mean that was asked for."""
    skewed = np.power(np.array(_PREVALENCE), config.prevalence_skew)
    return [float(share) for share in np.minimum(config.prevalence * skewed / skewed.mean(), 0.45)]


def _plan_center(config: PhantomConfig, center: int, patients: list[int]) -> list[Exposure]:
    rng = np.random.default_rng([config.seed, _PLAN, center])
    prevalence = prevalences(config)[center]
    share_with_ra = min(_SHARE_WITH_RA * np.sqrt(prevalence / config.prevalence), 0.9)
    has_arthritis = _deck(rng, len(patients), (share_with_ra, 1 - share_with_ra), (True, False))
    exams = _deck(rng, len(patients), _SHARES_OF_EXAMS, _EXAMS)
    wrists = [
        Wrist(patient=patient, exam=exam, side=side, has_arthritis=arthritic)
        for patient, arthritic, hands in zip(patients, has_arthritis, exams, strict=True)
        for exam, count in enumerate(hands, start=1)
        for side in (("L", "R") if count == 2 else _one_side(rng))
    ]
    scores = grade(wrists, prevalence, rng)
    burden = {patient: 0 for patient in patients}
    for wrist, grades in zip(wrists, scores, strict=True):
        burden[wrist.patient] += sum(score > 0 for score in grades.values())
    tie = dict(zip(patients, rng.permutation(len(patients)), strict=True))
    by_burden = sorted(patients, key=lambda patient: (-burden[patient], tie[patient]))
    split_of = dict(zip(by_burden, deal(len(patients), config.split, rng), strict=True))
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
    config: PhantomConfig, center: int, by_burden: list[int], split_of: Mapping[int, Split], rng: np.random.Generator
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
