from collections import Counter, defaultdict

import numpy as np
import pytest

from ramw_fed.config import PhantomConfig
from ramw_fed.data.phantom.plan import Exposure, plan

SKEWED = PhantomConfig(quantity_skew=1.0, prevalence_skew=1.0, label_skew=1.0, shift=1.0)


def by_center(exposures: tuple[Exposure, ...]) -> dict[int, list[Exposure]]:
    centers = defaultdict(list)
    for exposure in exposures:
        centers[exposure.center].append(exposure)
    return dict(sorted(centers.items()))


def patients(exposures: list[Exposure]) -> dict[int, Exposure]:
    return {exposure.patient: exposure for exposure in exposures}


def prevalence(exposures: list[Exposure]) -> float:
    return float(np.mean([score > 0 for exposure in exposures for score in exposure.scores.values()]))


def test_six_equal_centers_have_28_patients_split_14_4_10() -> None:
    centers = by_center(plan(PhantomConfig()))
    assert list(centers) == [0, 1, 2, 3, 4, 5]
    for own in centers.values():
        splits = Counter(exposure.split for exposure in patients(own).values())
        assert splits == {"train": 14, "val": 4, "test": 10}


def test_at_dial_zero_every_center_has_the_same_numbers_of_everything() -> None:
    centers = by_center(plan(PhantomConfig(shift=0.0))).values()
    for count in (
        len,
        lambda own: len(patients(own)),
        lambda own: sorted(Counter(e.patient for e in own).values()),
        lambda own: sum(e.has_arthritis for e in patients(own).values()),
        lambda own: sorted(score for e in own for score in e.scores.values()),
        lambda own: all(e.is_scored for e in own),
    ):
        assert len({repr(count(own)) for own in centers}) == 1


def test_patients_have_one_to_four_images_and_2_7_on_average() -> None:
    counts = Counter(exposure.patient for exposure in plan(PhantomConfig()))
    assert set(counts.values()) == {1, 2, 3, 4}
    assert np.mean(list(counts.values())) == pytest.approx(2.7, abs=0.05)


def test_at_dial_one_centers_differ_strongly_and_each_can_still_be_split() -> None:
    centers = by_center(plan(SKEWED))
    sizes = [len(patients(own)) for own in centers.values()]
    assert sizes[0] > 10 * sizes[-1]
    assert sum(sizes) == 168
    assert prevalence(centers[0]) > 0.3 > 0.05 > prevalence(centers[4])
    scored = [np.mean([e.is_scored for e in patients(own).values()]) for own in centers.values()]
    assert scored[0] == 1
    assert scored[-1] == 0
    for own in centers.values():
        assert {exposure.split for exposure in own} == {"train", "val", "test"}


def test_the_prevalence_that_is_asked_for_is_met_by_counting() -> None:
    centers = by_center(plan(PhantomConfig(prevalence=0.06)))
    assert len(centers) == 6
    for own in centers.values():
        # 75 images of 6 joints: 27 of 450 eroded
        assert sum(score > 0 for e in own for score in e.scores.values()) == 27


def test_prevalence_skew_keeps_the_mean_over_centers() -> None:
    shares = [prevalence(own) for own in by_center(plan(PhantomConfig(prevalence_skew=1.0))).values()]
    assert np.mean(shares) == pytest.approx(0.12, abs=0.003)


def test_grades_never_fall_between_exams_and_both_hands_share_a_split() -> None:
    last: dict[tuple[int, str, str], int] = {}
    again = 0
    for exposure in plan(PhantomConfig(prevalence=0.3)):
        for joint, score in exposure.scores.items():
            again += (exposure.patient, exposure.side, joint) in last
            assert score >= last.get((exposure.patient, exposure.side, joint), 0)
            last[exposure.patient, exposure.side, joint] = score
    assert again > 100
    splits = defaultdict(set)
    for exposure in plan(SKEWED):
        splits[exposure.patient].add((exposure.split, exposure.center, exposure.is_scored))
    assert all(len(values) == 1 for values in splits.values())


def test_patients_without_arthritis_have_no_erosion() -> None:
    healthy = [e for e in plan(PhantomConfig(prevalence=0.3)) if not e.has_arthritis]
    assert healthy
    assert prevalence(healthy) == 0


def test_no_erosion_where_prevalence_is_zero() -> None:
    assert prevalence(list(plan(PhantomConfig(prevalence=0.0)))) == 0


def test_one_center_gets_all_patients() -> None:
    exposures = plan(PhantomConfig(centers=1, patients=10))
    assert {exposure.center for exposure in exposures} == {0}
    assert len({exposure.patient for exposure in exposures}) == 10


def test_images_are_600_or_720_unless_a_size_is_named() -> None:
    assert {e.size for e in plan(PhantomConfig())} == {600, 720}
    assert {e.size for e in plan(PhantomConfig(size=96))} == {96}
    assert len({(e.center, e.size) for e in plan(SKEWED)}) == 6


def test_another_seed_plans_another_cohort() -> None:
    assert plan(PhantomConfig(seed=1)) != plan(PhantomConfig(seed=2))
    assert plan(PhantomConfig(seed=1)) == plan(PhantomConfig(seed=1))
