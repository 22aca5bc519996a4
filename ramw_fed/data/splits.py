"""Who learns, who chooses, who judges: patients to train, val and test."""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ramw_fed.data.radiograph import SPLITS, Radiograph, Split

# The shares of the demo's 28 patients a center: 14, 4 and 10.
SHARES = (0.5, 0.15, 0.35)


def portions(total: int, shares: Sequence[float], least: int = 0) -> list[int]:
    """Whole numbers that sum to ``total`` and follow ``shares`` by largest remainder, none below ``least``.

    ``least`` gives way where ``total`` does not reach for all.

    >>> portions(28, SHARES), portions(5, (0.9, 0.1, 0.0), least=1), portions(2, SHARES, least=1)
    ([14, 4, 10], [3, 1, 1], [1, 0, 1])
    """
    wanted = [total * share / sum(shares) for share in shares]
    counts = [int(number) for number in wanted]
    by_remainder = sorted(range(len(shares)), key=lambda index: counts[index] - wanted[index])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    while total >= least * len(counts) and min(counts) < least:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(min(counts))] += 1
    return counts


def deal(num_patients: int, shares: Sequence[float], rng: np.random.Generator) -> list[Split]:
    """Splits for patients in an order of severity, so that every stretch of that order is shared out evenly.

    Each next patient goes to the split that lags furthest behind its share; a random start keeps the most
    severe patient from always going to the same one.

    Returns:
        One split a patient; the totals are ``portions(num_patients, shares, least=1)``.
    """
    return [SPLITS[part] for part in _deal_parts(num_patients, shares, rng)]


def _deal_parts(num_patients: int, shares: Sequence[float], rng: np.random.Generator) -> list[int]:
    """Return the number of a share for each patient; see :func:`deal`."""
    total = portions(num_patients, shares, least=1)
    left = list(total)
    phase = rng.uniform(0, 0.5, len(shares))
    dealt: list[int] = []
    for turn in range(1, num_patients + 1):
        lag = {
            part: total[part] / num_patients * turn + phase[part] - (total[part] - left[part])
            for part in range(len(shares))
            if left[part]
        }
        chosen = max(lag, key=lambda part: lag[part])
        left[chosen] -= 1
        dealt.append(chosen)
    return dealt


def split_by_patient(
    radiographs: Iterable[Radiograph],
    *,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    same_fold: Iterable[tuple[str, str]] = (),
    tested: tuple[int, int] | None = None,
) -> tuple[Radiograph, ...]:
    """Give all radiographs of a patient one split for both tasks, stratified by center, labels and erosions.

    Args:
        radiographs: Of any number of centers.
        shares: Of patients in train, val and test.
        seed: Together with the patients' keys it decides; nothing else does, so that the order does not.
        same_fold: Pairs of patients who must come together, as owners of one image under two names do.
        tested: In place of ``shares``: which part of how many equal ones is the test split, counted from 1. The next
            part is for validation and all others are for training, so that over all parts each patient is tested once.
    """
    radiographs = tuple(radiographs)
    folds = _folds(radiographs, same_fold)
    members: dict[Hashable, list[Radiograph]] = {}
    for radiograph in radiographs:
        members.setdefault(folds[radiograph.patient], []).append(radiograph)
    by_center: dict[str, list[Hashable]] = {}
    for fold, images in members.items():
        by_center.setdefault(min(image.center for image in images), []).append(fold)
    split_of: dict[Hashable, Split] = {}
    for center, its_folds in sorted(by_center.items()):
        rng = np.random.default_rng([seed, *_digest(f"{seed}/{center}")])
        ordered = sorted(its_folds, key=lambda fold: (_stratum(members[fold]), _digest(f"{seed}/{fold}")))
        dealt = _rotate(len(ordered), *tested, rng) if tested else deal(len(ordered), shares, rng)
        split_of.update(zip(ordered, dealt, strict=True))
    return tuple(_assign(radiograph, split_of[folds[radiograph.patient]]) for radiograph in radiographs)


def split_by_name(radiographs: Iterable[Radiograph], *, shares: Sequence[float] = SHARES) -> tuple[Radiograph, ...]:
    """Give all radiographs of a patient the split that a hash of the patient's name falls into, and nothing else.

    Nobody's records, nor how many others there are, decide where a patient goes, as differential privacy needs it.
    Splits therefore follow ``shares`` by chance only.

    Args:
        radiographs: Of any number of centers.
        shares: Of patients in train, val and test, on average.
    """
    return tuple(_assign(radiograph, _by_name(radiograph.patient, shares)) for radiograph in radiographs)


def _by_name(patient: str, shares: Sequence[float]) -> Split:
    place = int.from_bytes(hashlib.sha256(f"split/{patient}".encode()).digest()[:8]) / 2**64 * sum(shares)
    return SPLITS[int(np.searchsorted(np.cumsum(shares)[:-1], place, side="right"))]


def _rotate(num_patients: int, part: int, parts: int, rng: np.random.Generator) -> list[Split]:
    roles: dict[int, Split] = {part - 1: "test", part % parts: "val"}
    return [roles.get(dealt, "train") for dealt in _deal_parts(num_patients, [1 / parts] * parts, rng)]


def _assign(radiograph: Radiograph, split: Split) -> Radiograph:
    return replace(
        radiograph,
        mask_split=split if radiograph.masks is not None else None,
        score_split=split if radiograph.scores else None,
    )


def _stratum(images: Sequence[Radiograph]) -> tuple[bool, bool, int]:
    scored = any(image.scores for image in images)
    outlined = any(image.masks is not None for image in images)
    eroded = sum(grade > 0 for image in images for grade in image.scores.values())
    return (not scored, not outlined, -eroded)


def _folds(radiographs: Iterable[Radiograph], same_fold: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Map each patient to the first patient of all that are linked to it."""
    first = {radiograph.patient: radiograph.patient for radiograph in radiographs}
    for one, other in same_fold:
        low, high = sorted((first[one], first[other]))
        first = {patient: low if fold == high else fold for patient, fold in first.items()}
    return first


def _digest(text: str) -> tuple[int, ...]:
    return tuple(hashlib.sha256(text.encode()).digest()[:8])
