"""The designs' answers, from tables whose truth is known by hand."""

from typing import Any

import pytest
from study_rows import dsc, joint, table

from ramw_fed.studies.analysis import analyse

PATIENTS = [f"{number:02d}" for number in range(8)]
STUDY: dict[str, Any] = {
    "tasks": ["segmentation", "erosion"],
    "designs": ["matched-arms"],
    "methods": ["fedprox"],
    "own_models": [],
    "metrics": ["dsc", "auroc"],
    "contrasts": [["fedprox", "local"], ["fedprox", "central"]],
    "margins": {"dsc": 0.05},
    "seed": 0,
    "resamples": 300,
}


def design(rows: list[dict[str, Any]], name: str = "matched-arms", task: str = "segmentation", **more: Any) -> Any:
    metric = "dsc" if task == "segmentation" else "auroc"
    rows = [{**row, "design": name} for row in rows]
    return analyse(table(rows), {**STUDY, "designs": [name], **more})["designs"][name][task][metric]


def arms() -> list[dict[str, Any]]:
    """Fedprox is .1 above local at A and .08 below at B; central is where fedprox is."""
    rows = []
    for number, name in enumerate(PATIENTS):
        rows += [dsc("local", "A", name, 0.5 + number / 100), dsc("local", "B", name, 0.7 + number / 100)]
        for arm in ("fedprox", "central"):
            rows += [dsc(arm, "A", name, 0.6 + number / 100), dsc(arm, "B", name, 0.62 + number / 100)]
    return rows


def test_contrasts_are_paired_by_patient_and_one_family() -> None:
    found = design(arms())
    local, central = found["contrasts"]
    assert local["n"] == 16
    assert local["first"] - local["second"] == pytest.approx(0.01)
    assert central["value"] == 0
    assert central["p"] == 1
    assert local["p_holm"] == pytest.approx(min(1, 2 * local["p"]))
    assert central["reading"] == "no difference shown"


def test_a_clear_difference_names_the_better_arm() -> None:
    rows = arms()
    for row in rows:
        row["value"] += 0.2 if row["arm"] == "fedprox" else 0.0
    found = design(rows)
    assert [entry["reading"] for entry in found["contrasts"]] == ["fedprox better", "fedprox better"]


def test_fairness_names_the_worst_center_and_whom_federating_harmed() -> None:
    fair = design(arms())["fairness"]["fedprox"]
    assert fair["worst_center"] == "A"
    assert fair["worst"] == pytest.approx(0.635)
    assert fair["gap"] == pytest.approx(0.02)
    assert (fair["harmed"], fair["surely_harmed"], fair["compared"]) == (["B"], ["B"], 2)
    wide = design(arms(), margins={"dsc": 0.09})["fairness"]["fedprox"]
    assert wide["harmed"] == []


def test_a_margin_is_held_against_the_mean_difference_and_mixed_models_stand_beside() -> None:
    local, central = design(arms())["contrasts"]
    assert central["equivalence"]["verdict"] == "equivalent"
    assert central["equivalence"]["margin"] == 0.05
    assert local["mixed"]["value"] == pytest.approx(0.01)
    assert local["fixed"]["value"] == pytest.approx(0.01)
    assert "equivalence" not in design(arms(), margins={})["contrasts"][0]


def test_scores_of_centers_alone_are_not_pooled() -> None:
    rows = []
    for number, name in enumerate(PATIENTS):
        for arm in ("local", "fedprox"):
            for center in "AB":
                rows += joint(arm, center, name, number / 10, 1 if number > 3 else 0)
    found = design(rows, task="erosion")
    assert found["arms"]["local"]["pooled"]["value"] is None
    assert "model of its own" in found["arms"]["local"]["pooled"]["reason"]
    assert found["arms"]["fedprox"]["pooled"]["value"] == 1
    assert found["contrasts"][0]["scope"] == "within centers"
    assert found["contrasts"][0]["value"] == 0
    apart = design(rows, task="erosion", own_models=["fedprox"])
    assert apart["arms"]["fedprox"]["pooled"]["value"] is None


def test_the_gap_of_the_matrix_is_home_less_strangers() -> None:
    rows = []
    for name in PATIENTS:
        for trained, tested, value in (("A", "A", 0.9), ("B", "A", 0.7), ("A", "B", 0.5), ("B", "B", 0.8)):
            rows.append(dsc("local", tested, name, value, train_centers=trained))
        rows += [dsc("fedprox", center, name, 0.85) for center in "AB"]
    found = design(rows, "cross-site-matrix")
    assert found["rows"] == ["A", "B", "fedprox"]
    assert found["cells"]["B"]["A"]["value"] == pytest.approx(0.7)
    assert found["cells"]["fedprox"]["B"]["value"] == pytest.approx(0.85)
    assert found["gap"]["value"] == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)


def test_what_leaving_a_center_out_costs_is_member_less_stranger() -> None:
    rows = []
    for name in PATIENTS:
        rows += [
            dsc("fedprox", "A", name, 0.6, train_centers="B+C"),
            dsc("fedprox", "B", name, 0.5, train_centers="A+C"),
        ]
        rows += [
            dsc("fedprox", "A", name, 0.7, train_centers="A+B+C"),
            dsc("fedprox", "B", name, 0.9, train_centers="A+B+C"),
        ]
    found = design(rows, "leave-one-center-out")["fedprox"]
    assert found["centers"]["A"]["value"] == pytest.approx(0.6)
    assert found["inside"]["B"]["value"] == pytest.approx(0.9)
    assert found["macro"]["value"] == pytest.approx(0.55)
    assert found["loss"]["value"] == pytest.approx((0.1 + 0.4) / 2)


def test_scale_up_is_the_mean_over_orders_of_entry() -> None:
    rows = [
        dsc("fedprox", "A", name, value, label=label, train_centers=trained)
        for name in PATIENTS
        for label, trained, value in (("2: A B C", "A+B", 0.5), ("2: C B A", "B+C", 0.7), ("3: A B C", "A+B+C", 0.9))
    ]
    found = design(rows, "scale-up")["fedprox"]
    assert list(found) == ["2", "3"]
    assert found["2"]["value"] == pytest.approx(0.6)
    assert (found["2"]["orders"], found["3"]["orders"]) == (2, 1)


def test_doses_are_in_the_order_of_their_numbers() -> None:
    rows = [dsc("fedprox", "A", name, 1 - float(dose), dose=dose) for name in PATIENTS for dose in ("0.25", "0", "1.0")]
    found = design(rows, "dose-response")["fedprox"]
    assert {dose: entry["value"] for dose, entry in found.items()} == {"0": 1, "0.25": 0.75, "1.0": 0}
    assert list(found) == ["0", "0.25", "1.0"]
