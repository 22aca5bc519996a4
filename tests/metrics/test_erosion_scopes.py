import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.classification import CLASSIFICATION_METRICS
from ramw_fed.metrics.erosion_scopes import Reading, erosion_scope, erosion_tree
from ramw_fed.metrics.erosion_table import ErosionTable
from ramw_fed.metrics.scopes import macro

JOINTS = ("Lunate", "DistalUlna", "Scaphoid")


def table(rows, *, joints=JOINTS):
    """Rows are (center, patient, radiograph, joint, probability, grade)."""
    centers, patients, radiographs, names, probabilities, grades = zip(*rows, strict=True) if rows else [()] * 6
    return ErosionTable(
        centers=centers,
        patients=patients,
        radiographs=radiographs,
        joints=names,
        joint_names=joints,
        probabilities=np.array(probabilities, float),
        grades=np.array(grades, int),
    )


def random_rows(seed, *, per_center=8, centers="ABC", prevalence=0.3):
    rng = np.random.default_rng(seed)
    rows = []
    for center in centers:
        for patient in range(per_center):
            for side in "LR":
                for joint in JOINTS:
                    grade = int(rng.integers(1, 6)) if rng.random() < prevalence else 0
                    score = 1 / (1 + np.exp(-(rng.normal() + (grade > 0) - 1)))
                    rows.append((center, f"{patient:02d}", f"{patient:02d}_{side}", joint, score, grade))
    return rows


def whole_tree(rows, *, centers="ABC", **options):
    return erosion_tree(table(rows), Reading(threshold=0.4), centers=centers, **{"seed": 0, "resamples": 300} | options)


def test_pooled_is_over_all_joints_and_macro_over_the_centers_values():
    rows = random_rows(0)
    whole = whole_tree(rows)

    def auroc(rows):
        return roc_auc_score([row[5] > 0 for row in rows], [row[4] for row in rows])

    by_center = [auroc([row for row in rows if row[0] == center]) for center in "ABC"]
    assert whole["pooled"]["auroc"]["value"] == pytest.approx(auroc(rows))
    assert whole["macro"]["auroc"]["value"] == pytest.approx(np.mean(by_center))
    assert whole["pooled"]["auroc"]["value"] != pytest.approx(whole["macro"]["auroc"]["value"], abs=1e-6)
    lunate = [row for row in rows if row[3] == "Lunate"]
    assert whole["pooled"]["by"]["joint"]["Lunate"]["auroc"]["value"] == pytest.approx(auroc(lunate))
    assert whole["pooled"]["auroc"]["n"] == 24
    assert whole["centers"]["B"]["acc"]["n"] == 8


def test_one_class_at_a_center_is_not_estimable_and_left_out_of_macro():
    rows = random_rows(1, centers="AB") + [(*row[:5], 0) for row in random_rows(2, centers="C")]
    whole = whole_tree(rows)
    found = whole["centers"]["C"]["auroc"]
    assert (found["value"], found["ci"], found["n"]) == (None, None, 8)
    assert "one class" in found["reason"]
    assert whole["centers"]["C"]["spc"]["value"] is not None
    assert whole["macro"]["auroc"]["left_out"] == 1
    assert whole["macro"]["auroc"]["ci"] is not None
    assert "left_out" not in whole["macro"]["spc"]


def test_every_center_joint_and_metric_is_listed_also_without_a_score():
    rows = [row for row in random_rows(3) if row[3] != "Scaphoid"]
    whole = whole_tree(rows, centers="ABCZ")
    for scope in (whole["pooled"], whole["macro"], *whole["centers"].values()):
        assert set(scope) == {*CLASSIFICATION_METRICS, "by"}
        assert set(scope["by"]["joint"]) == set(JOINTS)
    assert whole["centers"]["Z"]["acc"] == {"value": None, "ci": None, "n": 0, "reason": "no scored joints"}
    assert whole["pooled"]["by"]["joint"]["Scaphoid"]["acc"]["reason"] == "no scored joints"
    assert whole["pooled"]["qwk"]["reason"] == "no predicted grades"
    json.dumps(whole, allow_nan=False)


@pytest.mark.parametrize(("patients", "has_interval"), [(4, False), (5, True)])
def test_there_is_an_interval_from_five_patients_on(patients, has_interval):
    fixed = {"Lunate": 2, "Scaphoid": 0}  # so that every patient has both classes
    rows = [(*row[:5], fixed.get(row[3], row[5])) for row in random_rows(4, per_center=patients, centers="A")]
    scope = erosion_scope(table(rows), Reading(threshold=0.4), seed=0, resamples=300)
    for name in ("acc", "auroc", "sen", "spc", "brier", "dor"):
        assert (scope[name]["ci"] is not None) == has_interval, name


@pytest.mark.parametrize(("holders", "has_interval"), [(1, False), (4, False), (5, True)])
def test_what_rests_on_a_class_has_an_interval_from_five_patients_who_have_it(holders, has_interval):
    few = [f"{number:02d}" for number in range(holders)]
    rows = [(*row[:5], 2 if row[1] in few else 0) for row in random_rows(5, per_center=10, centers="A")]
    scope = erosion_scope(table(rows), Reading(threshold=0.4), seed=0, resamples=300)
    for name in ("sen", "auroc", "auprc", "bacc", "dor", "mcc", "f1", "pre", "intercept"):
        assert scope[name]["value"] is not None, name
        assert (scope[name]["ci"] is not None) == has_interval, name
    for name in ("spc", "acc", "brier", "prevalence", "npv"):
        assert scope[name]["ci"] is not None, name
    turned = [(*row[:5], 0 if row[5] else 2) for row in rows]
    scope = erosion_scope(table(turned), Reading(threshold=0.4), seed=0, resamples=300)
    assert (scope["spc"]["ci"] is not None) == (scope["auroc"]["ci"] is not None) == has_interval
    assert scope["sen"]["ci"] is not None


def test_resamples_of_one_class_are_redrawn_and_counted():
    few = ("03", "05", "07", "11", "13")
    rows = [(*row[:5], 2 if row[1] in few else 0) for row in random_rows(6, per_center=100, centers="A")]
    scope = erosion_scope(table(rows), Reading(threshold=0.4), seed=0, resamples=3000)
    # none of five patients in 99 draws of 100: .95 ** 99 = .00623
    assert scope["auroc"]["redrawn"] == pytest.approx(3000 * 0.00623, rel=0.5)
    assert "redrawn" not in scope["acc"]


def test_intervals_are_by_patient_and_not_by_joint():
    """A patient whose joints are all alike counts once: the interval is wider than one over joints would be."""
    rng = np.random.default_rng(7)
    rows = []
    for patient in range(30):
        right = rng.random() < 0.7
        rows += [("A", f"{patient:02d}", f"{k}", "Lunate", 0.1 if right else 0.9, 0) for k in range(20)]
    by_patient = erosion_scope(table(rows), Reading(threshold=0.5), seed=0, resamples=2000)["acc"]["ci"]
    by_joint = [("A", str(index), *row[2:]) for index, row in enumerate(rows)]
    naive = erosion_scope(table(by_joint), Reading(threshold=0.5), seed=0, resamples=2000)["acc"]["ci"]
    # sqrt(20) times as wide
    assert np.ptp(by_patient) / np.ptp(naive) == pytest.approx(np.sqrt(20), rel=0.15)


def test_order_of_rows_changes_no_byte():
    rows = random_rows(8)
    shuffled = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))]
    assert json.dumps(whole_tree(rows)) == json.dumps(whole_tree(shuffled))


def test_a_center_computes_its_own_part_alone_and_macro_needs_no_more():
    rows = random_rows(9)
    simulated = whole_tree(rows, seed=5)
    alone = {
        name: erosion_scope(table(rows).at(name), Reading(threshold=0.4), seed=5, resamples=300)
        for name in ("C", "A", "B")
    }
    assert json.loads(json.dumps(alone)) == simulated["centers"]
    assert macro(json.loads(json.dumps(alone))) == simulated["macro"]


def test_patients_of_two_centers_may_bear_one_name():
    rows = random_rows(10, centers="AB", per_center=5)
    assert erosion_scope(table(rows), Reading(threshold=0.4), seed=0, resamples=50)["acc"]["n"] == 10


def test_a_joint_that_the_cohort_does_not_know_is_refused():
    with pytest.raises(RamwFedError, match="Lunate"):
        table(random_rows(11), joints=("DistalUlna", "Scaphoid"))


# --- prevalence, thresholds of centers, calibration, wrists -----------------------------------------------------------


def test_prevalence_is_the_share_of_eroded_joints_in_every_scope():
    rows = random_rows(12)
    whole = whole_tree(rows)

    def share(rows):
        return np.mean([row[5] > 0 for row in rows])

    centers = [share([row for row in rows if row[0] == center]) for center in "ABC"]
    assert whole["pooled"]["prevalence"]["value"] == pytest.approx(share(rows))
    assert whole["macro"]["prevalence"]["value"] == pytest.approx(np.mean(centers))
    lunate = share([row for row in rows if row[3] == "Lunate"])
    assert whole["pooled"]["by"]["joint"]["Lunate"]["prevalence"]["value"] == pytest.approx(lunate)
    low, high = whole["pooled"]["prevalence"]["ci"]
    assert low < share(rows) < high


def test_a_centers_own_threshold_decides_its_joints_and_the_common_one_those_of_the_others():
    rows = random_rows(13)
    reading = Reading(threshold=0.4, own_thresholds={"B": 0.7})
    whole = erosion_tree(table(rows), reading, centers="ABC", seed=0, resamples=300)

    def sensitivity(rows, limits):
        eroded = [row for row in rows if row[5] > 0]
        return np.mean([row[4] >= limits.get(row[0], 0.4) for row in eroded])

    own = whole["pooled"]["by"]["threshold"]["own"]
    assert own["sen"]["value"] == pytest.approx(sensitivity(rows, {"B": 0.7}))
    assert whole["pooled"]["sen"]["value"] == pytest.approx(sensitivity(rows, {}))
    assert "auroc" not in own
    alone = whole["centers"]["A"]
    assert alone["by"]["threshold"]["own"]["sen"] == alone["sen"]
    assert "threshold" not in whole_tree(rows)["pooled"]["by"]


def test_before_calibration_stands_beside_what_it_changes():
    rows = random_rows(14)
    reading = Reading(threshold=0.4, uncalibrated=lambda probabilities: probabilities**2)
    scope = erosion_scope(table(rows), reading, seed=0, resamples=300)
    squared = erosion_scope(
        table([(*row[:4], row[4] ** 2, row[5]) for row in rows]), Reading(threshold=0.4), seed=0, resamples=300
    )
    before = scope["by"]["calibration"]["before"]
    assert before == {name: squared[name] for name in ("brier", "ece", "slope", "intercept")}
    assert "calibration" not in squared["by"]


def graded(rows):
    """Rows are (center, patient, radiograph, joint, grade, predicted grade)."""
    plain = table([(*row[:4], 0.5, row[4]) for row in rows])
    return replace(plain, predicted_grades=np.array([row[5] for row in rows], int))


def wrist_rows(sums, *, center="A"):
    """Wrists of one patient each, with all three joints scored: true and predicted sums."""
    return [
        (center, f"{patient:02d}", f"{patient:02d}_L", joint, *((true, predicted) if joint == "Lunate" else (0, 0)))
        for patient, (true, predicted) in enumerate(sums)
        for joint in JOINTS
    ]


def test_a_wrists_sum_of_grades_agrees_as_scikit_learn_and_bland_and_altman_say():
    rng = np.random.default_rng(15)
    rows, sums = [], []
    for patient in range(12):
        for side in "LR":
            true, predicted = rng.integers(0, 4, 3), rng.integers(0, 4, 3)
            sums.append((true.sum(), predicted.sum()))
            rows += [
                ("A", f"{patient:02d}", f"{patient:02d}_{side}", joint, one, other)
                for joint, one, other in zip(JOINTS, true, predicted, strict=True)
            ]
    entries = erosion_scope(graded(rows), Reading(threshold=0.5), seed=0, resamples=300)["by"]["wrist"]["sum"]
    true, predicted = np.array(sums).T
    assert set(entries) == {"qwk", "mae", "sdc"}
    assert entries["qwk"]["value"] == pytest.approx(
        cohen_kappa_score(true, predicted, labels=range(10), weights="quadratic")
    )
    assert entries["mae"]["value"] == pytest.approx(np.abs(true - predicted).mean())
    assert entries["sdc"]["value"] == pytest.approx(1.96 * np.std(true - predicted, ddof=1))
    assert all(entry["n"] == 12 and entry["ci"][0] < entry["value"] < entry["ci"][1] for entry in entries.values())


def test_smallest_detectable_change_by_hand_does_not_count_a_constant_difference():
    # Differences 1, 3, 1, 3, 2: mean 2, squares around it 1 + 1 + 1 + 1 = 4, variance 4 / 4 = 1.
    rows = wrist_rows([(0, 1), (1, 4), (2, 3), (2, 5), (3, 5)])
    entries = erosion_scope(graded(rows), Reading(threshold=0.5), seed=0, resamples=300)["by"]["wrist"]["sum"]
    assert entries["sdc"]["value"] == pytest.approx(1.96)
    constant = wrist_rows([(0, 2), (1, 3), (2, 4)])
    same = erosion_scope(graded(constant), Reading(threshold=0.5), seed=0, resamples=300)["by"]["wrist"]["sum"]
    assert same["sdc"]["value"] == pytest.approx(0)
    assert same["mae"]["value"] == pytest.approx(2)


def test_a_wrist_with_a_joint_unscored_is_left_out_and_none_gives_reasons():
    rows = wrist_rows([(0, 1), (3, 1), (2, 2)])
    left_out = erosion_scope(graded(rows[:-1]), Reading(threshold=0.5), seed=0, resamples=300)["by"]["wrist"]["sum"]
    assert left_out["mae"]["n"] == 2
    assert left_out["mae"]["value"] == pytest.approx(1.5)
    one = erosion_scope(graded(rows[:3]), Reading(threshold=0.5), seed=0, resamples=300)["by"]["wrist"]["sum"]
    assert one["sdc"]["reason"] == "one radiograph"
    none = erosion_scope(graded(rows[:2]), Reading(threshold=0.5), seed=0, resamples=300)["by"]["wrist"]["sum"]
    assert none["mae"]["reason"] == "no radiograph with every joint scored"
    binary = erosion_scope(table(random_rows(16)), Reading(threshold=0.5), seed=0, resamples=300)["by"]["wrist"]["sum"]
    assert binary["qwk"]["reason"] == "no predicted grades"


# --- coverage ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_intervals_of_auroc_cover_the_truth_in_95_of_100_studies(capsys):
    """Ten patients in each of six centers, six joints each, correlated within the patient; one binormal truth.

    The sum of the patient's part and the joint's own has variance 1 in both classes, shifted by 1.2: the area is
    Phi(1.2 / sqrt(2)) = .802.
    """
    studies, truth, widths = 300, 0.8019, []
    hits: dict[str, list[bool]] = {"pooled": [], "macro": []}
    for study in range(studies):
        rng = np.random.default_rng([13, study])
        rows = []
        for center in "ABCDEF":
            for patient in range(10):
                own = rng.normal() * np.sqrt(0.3)
                for k in range(6):
                    grade = int(rng.random() < 0.25)
                    score = own + rng.normal() * np.sqrt(0.7) + 1.2 * grade
                    rows.append((center, f"{patient}", f"{k}", "Lunate", 1 / (1 + np.exp(-score)), grade))
        whole = erosion_tree(table(rows, joints=("Lunate",)), Reading(threshold=0.5), centers="ABCDEF", seed=study)
        for scope, found in hits.items():
            if whole[scope]["auroc"]["ci"] is not None:  # macro: not where a center has four patients with an erosion
                low, high = whole[scope]["auroc"]["ci"]
                found.append(low <= truth <= high)
        widths.append(np.ptp(whole["pooled"]["auroc"]["ci"]))
    with capsys.disabled():
        shares = {scope: np.mean(found) for scope, found in hits.items()}
        print(f"\ncoverage of AUROC: {shares}, pooled intervals {np.mean(widths):.3f} wide on average")
    for scope, found in hits.items():
        assert len(found) >= 0.9 * studies, scope
        assert 0.92 <= np.mean(found) <= 0.985, scope
