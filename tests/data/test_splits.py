from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ramw_fed.data.cohort import Cohort
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.data.splits import _by_name, deal, portions, split_by_name, split_by_patient


def radiograph(patient: int, side: str = "R", center: str = "A", grade: int | None = None) -> Radiograph:
    return Radiograph(
        name=f"{patient:04d}_0001_{side}",
        patient=f"{patient:04d}",
        exam=f"{patient:04d}_0001",
        side=side,  # type: ignore[arg-type]
        center=center,
        image=Path("image.bmp"),
        masks=Path("masks.npy"),
        scores={} if grade is None else {"Lunate": grade},
    )


def test_portions_follow_the_largest_remainder() -> None:
    assert portions(10, (0.5, 0.15, 0.35)) == [5, 2, 3]  # 5, 1.5, 3.5: the first of equal remainders gets more
    assert portions(0, (1, 1)) == [0, 0]
    assert portions(3, (0.98, 0.01, 0.01), least=1) == [1, 1, 1]


def test_severe_and_healthy_patients_are_dealt_evenly() -> None:
    for seed in range(20):
        dealt = deal(28, (0.5, 0.15, 0.35), np.random.default_rng(seed))
        assert Counter(dealt) == {"train": 14, "val": 4, "test": 10}
        for start in (0, 8, 16):
            stretch = Counter(dealt[start : start + 8])
            assert 3 <= stretch["train"] <= 5
            assert 2 <= stretch["test"] <= 4


def test_a_patient_is_in_one_split_whatever_the_tasks_hands_and_order(phantom_cohort: Cohort) -> None:
    split = split_by_patient(phantom_cohort.radiographs)
    assert {image.name for image in split} == {image.name for image in phantom_cohort.radiographs}
    by_patient: dict[str, set[str]] = {}
    for image in split:
        by_patient.setdefault(image.patient, set()).update({image.mask_split, image.score_split} - {None})
    assert all(len(splits) == 1 for splits in by_patient.values())
    again = split_by_patient(reversed(phantom_cohort.radiographs))
    assert {image.name: image.mask_split for image in again} == {image.name: image.mask_split for image in split}


def test_grouped_split_shares_out_eroded_patients_at_each_center() -> None:
    images = [radiograph(n, center="AB"[n % 2], grade=int(n < 20)) for n in range(80)]
    eroded = Counter((image.center, image.score_split) for image in split_by_patient(images) if image.scores["Lunate"])
    for center in "AB":
        assert 4 <= eroded[center, "train"] <= 6
        assert 3 <= eroded[center, "test"] <= 4


def test_labels_that_are_missing_get_no_split() -> None:
    images = [replace(radiograph(1), masks=None), radiograph(2, grade=1), radiograph(3)]
    split = {image.patient: image for image in split_by_patient(images)}
    assert (split["0001"].mask_split, split["0001"].score_split) == (None, None)
    assert split["0002"].mask_split == split["0002"].score_split is not None
    assert split["0003"].score_split is None


def test_patients_who_share_an_image_come_together() -> None:
    images = [radiograph(n) for n in range(40)]
    pairs = [("0003", "0017"), ("0017", "0030"), ("0030", "0039")]
    split = {image.patient: image.mask_split for image in split_by_patient(images, same_fold=pairs)}
    assert len({split[patient] for patient in ("0003", "0017", "0030", "0039")}) == 1


def test_the_seed_decides() -> None:
    images = [radiograph(n) for n in range(40)]
    assert split_by_patient(images, seed=1) != split_by_patient(images, seed=2)


def test_over_all_folds_each_patient_is_tested_once_and_validates_once(phantom_cohort: Cohort) -> None:
    roles: dict[str, list[str | None]] = {}
    for part in (1, 2, 3, 4):
        for image in split_by_patient(phantom_cohort.radiographs, tested=(part, 4)):
            roles.setdefault(image.patient, []).append(image.mask_split)
    by_patient = {patient: [role for role in found if role] for patient, found in roles.items()}
    for found in filter(None, by_patient.values()):
        images = len(found) // 4
        assert Counter(found) == {"test": images, "val": images, "train": 2 * images}


def test_a_patients_own_name_alone_decides_the_split_by_name(phantom_cohort: Cohort) -> None:
    everyone = {one.name: (one.mask_split, one.score_split) for one in split_by_name(phantom_cohort.radiographs)}
    gone = phantom_cohort.radiographs[0].patient
    others = [one for one in phantom_cohort.radiographs if one.patient != gone]
    bare = [replace(one, scores={}) if one.patient == others[0].patient else one for one in others]
    for one in split_by_name(bare):
        assert one.mask_split == everyone[one.name][0]
    sides: dict[str, set[str]] = {}
    for one in split_by_name(phantom_cohort.radiographs):
        sides.setdefault(one.patient, set()).update({one.mask_split or "", one.score_split or ""} - {""})
    assert all(len(own) == 1 for own in sides.values())


def test_split_by_name_follows_the_shares_on_average() -> None:
    found = Counter(_by_name(f"patient {number}", (0.5, 0.15, 0.35)) for number in range(10_000))
    # Standard deviation of a share of 10 000: at most .005.
    assert found["train"] / 10_000 == pytest.approx(0.5, abs=0.02)
    assert found["val"] / 10_000 == pytest.approx(0.15, abs=0.02)
    assert found["test"] / 10_000 == pytest.approx(0.35, abs=0.02)
