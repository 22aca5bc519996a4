import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.classification import CLASSIFICATION_METRICS
from ramw_fed.metrics.erosion_scopes import ErosionTable, Reading, erosion_scope, erosion_tree
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
    rows = random_rows(4, per_center=patients, centers="A", prevalence=0.5)
    scope = erosion_scope(table(rows), Reading(threshold=0.4), seed=0, resamples=300)
    for name in ("acc", "auroc", "sen", "spc", "brier", "dor"):
        assert (scope[name]["ci"] is not None) == has_interval, name


def test_a_class_that_one_patient_alone_holds_gives_no_interval():
    rows = [(*row[:5], 2 if row[1] == "03" else 0) for row in random_rows(5, centers="A")]
    scope = erosion_scope(table(rows), Reading(threshold=0.4), seed=0, resamples=300)
    assert scope["sen"]["value"] is not None
    assert scope["sen"]["ci"] is scope["auroc"]["ci"] is None
    assert scope["spc"]["ci"] is not None


def test_resamples_of_one_class_are_redrawn_and_counted():
    rows = [(*row[:5], 2 if row[1] in ("03", "05") else 0) for row in random_rows(6, centers="A")]
    scope = erosion_scope(table(rows), Reading(threshold=0.4), seed=0, resamples=300)
    # neither of two patients in seven draws of eight: .75 ** 7 = .133
    assert scope["auroc"]["redrawn"] == pytest.approx(300 * 0.133 / 0.867, rel=0.5)
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


# --- coverage ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_intervals_of_auroc_cover_the_truth_in_95_of_100_studies(capsys):
    """Ten patients in each of six centers, six joints each, correlated within the patient; one binormal truth.

    The sum of the patient's part and the joint's own has variance 1 in both classes, shifted by 1.2: the area is
    Phi(1.2 / sqrt(2)) = .802.
    """
    studies, truth, hits, widths = 300, 0.8019, {"pooled": 0, "macro": 0}, []
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
        for scope in hits:
            low, high = whole[scope]["auroc"]["ci"]
            hits[scope] += low <= truth <= high
        widths.append(np.ptp(whole["pooled"]["auroc"]["ci"]))
    with capsys.disabled():
        shares = {scope: count / studies for scope, count in hits.items()}
        print(f"\ncoverage of AUROC: {shares}, pooled intervals {np.mean(widths):.3f} wide on average")
    for scope, count in hits.items():
        assert 0.92 <= count / studies <= 0.985, scope
