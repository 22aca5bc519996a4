"""Measures of an arm; numbers are worked by hand unless said."""

import numpy as np
import pytest
from study_rows import dsc, joint, table

from ramw_fed.errors import StudyError
from ramw_fed.statistics.intervals import patient_weights
from ramw_fed.studies.results import Results
from ramw_fed.studies.scores import Scores, less, mean_of, within

PATIENTS = [f"{number:02d}" for number in range(12)]
VALUES = dict(zip(PATIENTS, [0.5, 0.6, 0.7, 0.8, 0.9, 0.4, 0.55, 0.65, 0.75, 0.85, 0.95, 0.45], strict=True))


def results(rows: list[dict[str, object]]) -> Results:
    return Results(table(rows), seed=0, resamples=500)


def scored(found: Results, arm: str, metric: str = "dsc") -> Scores:
    return found.scores(metric, found.models(arm=arm))


def test_seeds_are_replicates_and_never_patients() -> None:
    once = results([dsc("central", "A", name, value) for name, value in VALUES.items()])
    thrice = results(
        [dsc("central", "A", name, value, seed=seed) for name, value in VALUES.items() for seed in range(3)]
    )
    entry = once.entry(scored(once, "central"))
    assert entry["n"] == 12
    again = thrice.entry(scored(thrice, "central"))
    assert again["n"] == 12
    assert again["ci"] == pytest.approx(entry["ci"])
    assert entry["value"] == pytest.approx(sum(VALUES.values()) / 12)


def test_a_patients_value_is_the_mean_over_seeds() -> None:
    rows = [dsc("central", "A", "p", value, seed=seed) for seed, value in enumerate((0.2, 0.6))]
    found = results([*rows, dsc("central", "A", "q", 0.5), dsc("central", "A", "q", 0.7, seed=1)])
    assert scored(found, "central").values == pytest.approx([0.4, 0.6])
    scopes = found.scopes("dsc", found.models(arm="central"))
    assert scopes["seeds"] == pytest.approx({"0": 0.35, "1": 0.65})
    assert scopes["seed_sd"] == pytest.approx(0.3 / 2**0.5)


def test_the_interval_is_that_of_the_projects_bootstrap_with_the_same_draws() -> None:
    found = results([dsc("central", "A", name, value) for name, value in VALUES.items()])
    own = scored(found, "central")
    weights = patient_weights(own.patients, seed=0, resamples=500)
    wanted = weights @ np.array(list(VALUES.values())) / 12
    assert own.statistic(weights)[:, 0] == pytest.approx(wanted)


def test_seeds_that_cover_other_patients_are_refused() -> None:
    found = results([dsc("central", "A", "p", 0.5), dsc("central", "A", "q", 0.5, seed=1)])
    with pytest.raises(StudyError, match="do not cover the same test patients"):
        scored(found, "central")


def test_a_patient_without_a_value_in_one_seed_is_left_out_and_not_counted() -> None:
    rows = [dsc("central", "A", name, value, seed=seed) for name, value in VALUES.items() for seed in (0, 1)]
    rows[0]["value"] = float("nan")
    found = results(rows)
    assert found.entry(scored(found, "central"))["n"] == 11


def test_below_five_patients_there_is_no_interval_and_without_one_no_value() -> None:
    found = results([dsc("central", "A", name, 0.5) for name in PATIENTS[:4]])
    assert found.entry(scored(found, "central")) == {"value": 0.5, "ci": None, "n": 4}
    nothing = found.entry(scored(found, "fedprox"))
    assert (nothing["value"], nothing["reason"]) == (None, "no test patients")


def test_ranking_is_within_each_seed_and_then_averaged() -> None:
    # seed 0 ranks the eroded joint above both others (1), seed 1 above one of two (.5)
    rows = [
        *joint("central", "A", "p", 0.9, 2),
        *joint("central", "A", "q", 0.5, 0),
        *joint("central", "A", "r", 0.1, 0),
    ]
    more = [("p", 0.3, 2), ("q", 0.5, 0), ("r", 0.1, 0)]
    rows += [row for name, chance, grade in more for row in joint("central", "A", name, chance, grade, seed=1)]
    found = results(rows)
    entry = found.entry(scored(found, "central", "auroc"))
    assert (entry["value"], entry["ci"]) == (0.75, None)  # one patient with an eroded joint: no interval


def test_one_class_is_not_estimable_and_says_why() -> None:
    found = results([row for name in PATIENTS for row in joint("central", "A", name, 0.5, 0)])
    entry = found.entry(scored(found, "central", "auroc"))
    assert entry["value"] is None
    assert entry["reason"] == "one class in the truth: no eroded joint"


def test_a_difference_is_of_the_same_patients_or_refused() -> None:
    rows = [dsc("central", "A", name, value) for name, value in VALUES.items()]
    rows += [dsc("fedprox", "A", name, value - 0.1) for name, value in VALUES.items()]
    found = results(rows)
    entry = found.difference(scored(found, "central"), scored(found, "fedprox"))
    assert entry["value"] == pytest.approx(0.1)
    assert entry["ci"] == pytest.approx([0.1, 0.1])  # every patient differs by the same
    assert entry["p"] < 0.02  # the least that 500 resamples can say
    fewer = results(rows[:-1])
    with pytest.raises(StudyError, match="do not cover the same test patients"):
        fewer.difference(scored(fewer, "central"), scored(fewer, "fedprox"))


def test_within_centers_a_mean_over_patients_is_the_pooled_one() -> None:
    rows = [dsc("local", "A", name, 0.2) for name in PATIENTS] + [dsc("local", "B", name, 0.8) for name in PATIENTS[:2]]
    found = results(rows)
    centers = found.by_center("dsc", found.models(arm="local"))
    pooled = found.scores("dsc", found.models(arm="local")).value()
    assert within(centers).value() == pytest.approx(pooled)
    assert pooled == pytest.approx((12 * 0.2 + 2 * 0.8) / 14)


def test_within_centers_only_joints_of_one_center_are_ranked() -> None:
    # A: two eroded and one sound, both pairs right. B: one of each, wrong. C: one class.
    scored_joints = {"A": ((0.9, 1), (0.8, 1), (0.7, 0)), "B": ((0.1, 1), (0.2, 0)), "C": ((0.5, 0),)}
    rows = [
        row
        for center, joints in scored_joints.items()
        for number, (chance, grade) in enumerate(joints)
        for row in joint("local", center, str(number), chance, grade)
    ]
    found = results(rows)
    own = within(found.by_center("auroc", found.models(arm="local")))
    assert own.value() == pytest.approx(2 / 3)
    assert found.scores("auroc", found.models(arm="local")).value() == pytest.approx(6 / 9)
    assert found.entry(own)["ci"] is None
    assert own.reason == "3 patients have an eroded joint; 5 are needed for an interval"


def test_means_and_differences_of_measures_are_those_of_their_values() -> None:
    rows = [dsc(arm, "A", name, value) for name in PATIENTS for arm, value in (("x", 0.2), ("y", 0.6), ("z", 0.9))]
    found = results(rows)
    one, two, three = (scored(found, arm) for arm in "xyz")
    assert less(three, mean_of([one, two])).value() == pytest.approx(0.5)


def test_folds_have_models_of_their_own_and_do_not_rank_together() -> None:
    # Each fold ranks its own perfectly, on a scale of its own.
    rows = [
        row
        for fold in range(5)
        for number in range(4)
        for row in joint("central", "A", f"{fold}{number}", fold / 10 + number / 100, number // 2, fold=f"{fold + 1}/5")
    ]
    found = results(rows)
    entry = found.entry(scored(found, "central", "auroc"))
    assert entry["value"] == 1
    assert entry["n"] == 20
