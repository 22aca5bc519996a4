"""Parts of reports, against other libraries and by hand."""

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from ramw_fed.config import ErosionConfig
from ramw_fed.errors import RunError
from ramw_fed.report.charts import curves, forest
from ramw_fed.report.citations import CITATIONS, Bibliography
from ramw_fed.report.drawing import COLOURS, places
from ramw_fed.report.erosion_charts import operating_points
from ramw_fed.report.facts import Facts, pointer
from ramw_fed.report.methods_text import erosion_words, threshold_words
from ramw_fed.report.overlays import read_pictures
from ramw_fed.report.run_facts import describe_erosions, describe_joint_spaces
from ramw_fed.report.tables import parts_table
from ramw_fed.report.tripod import ITEMS, tripod_section
from ramw_fed.report.words import absences


def test_operating_points_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.integers(0, 20, 200) / 20  # many ties
    eroded = rng.random(200) < 0.3
    found = operating_points((probabilities, eroded))
    false_rate, sensitivity, _ = roc_curve(eroded, probabilities, drop_intermediate=False)
    np.testing.assert_allclose(found["sen"], sensitivity[1:])
    np.testing.assert_allclose(found["fpr"], false_rate[1:])
    precision, recall, _ = precision_recall_curve(eroded, probabilities)
    np.testing.assert_allclose(found["pre"], precision[-2::-1])
    np.testing.assert_allclose(found["sen"], recall[-2::-1])


def test_missed_erosions_are_counted_by_grade_and_listed_from_the_worst() -> None:
    table = {
        "center": np.array(["A", "A", "B", "B", "B"]),
        "patient": np.array(["1", "1", "2", "2", "3"]),
        "name": np.array(["a", "a", "b", "b", "c"]),
        "joint": np.array(["x", "y", "x", "y", "x"]),
        "probability": np.array([0.2, 0.5, 0.1, 0.7, 0.4]),
        "grade": np.array([1.0, 1.0, 0.0, 0.0, 3.0]),
    }
    found = describe_erosions(table, 0.5)
    assert {key: found[key] for key in ("joints", "eroded", "missed", "false")} == {
        "joints": 5,
        "eroded": 3,
        "missed": 2,
        "false": 1,
    }
    assert found["prevalence"] == 3 / 5
    assert {grade: one["missed"] for grade, one in found["grades"].items()} == {"1": 1, "3": 1}
    assert [(case["name"], case["grade"]) for case in found["cases"]] == [("c", 3), ("a", 1)]
    assert found["centers"]["B"]["false"] == 1


LOSSES = ErosionConfig.names()["loss"].metadata["choices"]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_said_with_its_rows(loss: str) -> None:
    config = ErosionConfig.read({"loss": loss})
    marks = Bibliography()
    said = erosion_words(config, marks, top=5, choice=threshold_words(config, marks, {}))
    assert "learning by" in said
    assert "{" not in said
    drawn = "both classes drawn equally often" if loss == "cross-entropy" else "every joint once a pass"
    assert drawn in said
    assert "The threshold 0.5 was fixed before the test split was opened." in said


@pytest.mark.parametrize("loss", ["logit-adjustment", "class-balanced"])
@pytest.mark.parametrize(
    ("prior", "wanted"), [("local", "each center's own classes"), ("federated", "all centers together")]
)
def test_whose_classes_a_loss_reads_is_said(loss: str, prior: str, wanted: str) -> None:
    config = ErosionConfig.read({"loss": loss, "prior": prior, "sampling": "shuffled"})
    assert wanted in erosion_words(config, Bibliography(), top=None, choice="")


def test_rules_of_thresholds_and_corrections_are_said() -> None:
    config = ErosionConfig.read({"threshold-rule": "sensitivity", "calibration": "temperature", "threshold": 0.3})
    marks = Bibliography()
    said = threshold_words(config, marks, {})
    assert "temperature scaling [1]" in said
    assert "The threshold, 0.3, was chosen" in said
    assert "share of 0.8 of the eroded joints" in said
    assert "0.3" not in threshold_words(config, marks, None)
    assert threshold_words(config, marks, {"reason": "one class"}) == "The threshold is 0.3; one class."
    fixed = ErosionConfig.read({"calibration": "platt", "threshold": 0.3, "own-thresholds": ["A=0.2", "B=0.4"]})
    assert "of corrected probabilities it is 0.3. A and B had" in threshold_words(fixed, marks, {})


def test_limits_of_agreement_of_three_joint_spaces_by_hand() -> None:
    table = {
        "joint_space_predicted": np.array([[1.0, 2.5], [3.0, np.nan]]),
        "joint_space_true": np.array([[1.5, 2.5], [2.0, 1.0]]),
    }
    found = describe_joint_spaces(table)  # differences -0.5, 0, 1: mean 1/6, SD sqrt(7/12)
    assert (found["joints"], found["unknown"]) == (3, 1)
    assert found["bias"] == pytest.approx(1 / 6)
    assert found["low"] == pytest.approx(1 / 6 - 1.96 * (7 / 12) ** 0.5)
    assert found["high"] == pytest.approx(1 / 6 + 1.96 * (7 / 12) ** 0.5)


def test_drawings_of_one_name_are_the_same_bytes_and_of_two_names_share_no_id() -> None:
    entries = {"A": {"value": 0.5, "ci": [0.4, 0.6], "n": 9}, "B": {"value": None, "ci": None, "n": 0, "reason": "-"}}
    one, again, other = (forest(name, "title", [("dsc", entries)]) for name in ("a", "a", "b"))
    assert one.svg == again.svg
    ids = [set(re.findall(r'\bid="([^"]*)"', figure.svg)) for figure in (one, other)]
    assert len(ids[0]) > 10
    assert ids[0].isdisjoint(ids[1])
    assert "not estimable" in one.svg


def test_a_panel_that_is_not_used_is_not_drawn() -> None:
    lines = {"A": [(1.0, 2.0), (2.0, 3.0)]}
    three = curves("c", "t", [("p", lines), ("q", lines), ("r", lines)], along="round", about="-")
    assert len(re.findall(r'id="c-axes_\d"', three.svg)) == 3


def test_an_address_finds_its_number_and_what_is_not_there_is_a_dash() -> None:
    facts = Facts({"a/b": [{"value": None, "ci": None, "n": 3, "reason": "why"}], "c": {"value": 2.0, "ci": [1, 3]}})
    reasons: list[str] = []
    assert facts.estimate("a/b", 0, reasons=reasons) == ("not estimable (1)",)
    assert facts.estimate("nowhere", reasons=reasons) == ("-",)
    assert reasons == ["why"]
    assert [one.path for one in facts.estimate("c", reasons=reasons) if not isinstance(one, str)] == [
        "/c/value",
        "/c/ci/0",
        "/c/ci/1",
    ]
    assert pointer(("a/b", 0, "~")) == "/a~1b/0/~0"


def test_works_are_numbered_as_they_are_cited_and_an_unknown_one_is_refused() -> None:
    marks = Bibliography()
    assert marks.cite("flower") == "[1]"
    assert marks.cite("fedprox", "flower") == "[2, 1]"
    assert marks.listed() == [f"[1] {CITATIONS['flower']}", f"[2] {CITATIONS['fedprox']}"]
    with pytest.raises(KeyError):
        Bibliography().cite("nobody")


def test_all_27_items_are_listed_and_those_without_an_artefact_stay_open() -> None:
    assert [item.number for item in ITEMS] == list(range(1, 28))
    nothing = tripod_section({})
    assert all(row[3] == ("open",) for row in nothing.blocks[1].rows)  # type: ignore[union-attr]
    some = tripod_section({"metrics.json": "0", "models/erosion.safetensors": "0"})
    answered = [row[0][0] for row in some.blocks[1].rows if row[3] != ("open",)]  # type: ignore[union-attr]
    assert answered == ["14", "22", "23"]


def test_a_picture_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    assert read_pictures(tmp_path)["a"][:2] == b"\xff\xd8"
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(RunError, match="is no picture"):
        read_pictures(tmp_path)


def test_a_single_round_has_one_tick_and_near_values_no_offset() -> None:
    values = [(float(number), 1000.0001 + 1e-5 * number) for number in (1, 2)]
    panels = [("one", {"all": [(7.0, 0.5)]}), ("two", {"all": values})]
    found = curves("c", "title", panels, along="round", about="-").svg
    one, two = found.split('axes_2">')
    ticks = re.findall(r">([-+.\de]+)</text>", one[one.index("matplotlib.axis_1") : one.index("matplotlib.axis_2")])
    assert ticks == ["7"]
    assert not re.search(r">[-+]?[.\d]+e?[-+]\d", two)
    assert "1000.0001" in two


def test_an_arm_has_its_colour_whatever_stands_beside_it() -> None:
    many = places(["local", "fedavg", "one", "two"])
    few = places(["fedavg"])
    assert many["fedavg"] == few["fedavg"]
    assert len(set(many.values())) == 4
    centers = places([*"abcdefg", "all centers", "pooled"])
    assert COLOURS[centers["pooled"]] == COLOURS[centers["all centers"]] == "#000000"
    assert sorted(centers[name] for name in "abcdefg") == [0, 1, 2, 3, 4, 5, 7]


@pytest.mark.parametrize(("kind", "header"), [("joint_space_change", "MAE [mm]"), ("joint", "MAE")])
def test_an_error_of_joint_spaces_is_in_millimetres_and_one_of_grades_is_not(kind: str, header: str) -> None:
    entry = {"value": 0.5, "ci": None, "n": 1, "reason": "few"}
    table = parts_table(Facts({"by": {kind: {"A+B": {"mae": entry}}}}), "t", "caption", (), kind, ["mae"])
    assert table.header[-1] == header


def test_absences_name_center_rounds_and_why() -> None:
    def record(number: int, centers: str, aggregated: bool = True, refused: str = "") -> dict[str, Any]:
        told = [{"center": center, "code": "E-BUDGET"} for center in refused]
        return {
            "round": number,
            "task": "erosion",
            "centers": {center: {} for center in centers},
            "aggregated": aggregated,
            "rejections": told,
        }

    enrolled = {"erosion": {"A": {}, "B": {}, "C": {}}}
    assert absences([record(1, "ABC"), record(2, "ABC")], enrolled) == []
    assert absences([record(1, "ABC"), record(2, "AC", refused="B"), record(3, "AC", refused="B")], enrolled) == [
        "Erosion went without B in 2 of 3 rounds (E-BUDGET)."
    ]
    assert absences([record(1, "ABC", aggregated=False)], enrolled)[0] == "Erosion went without A in 1 of 1 rounds."
