"""Summaries and sums of the built-in tasks, as a deployed center sends them, true and then broken in one place."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ramw_fed.config import ErosionConfig, SegmentationConfig
from ramw_fed.data.description import RAMW600
from ramw_fed.errors import UpdateError
from ramw_fed.federation.measurements import check_measurement, check_sums
from ramw_fed.federation.records import Ticket
from ramw_fed.federation.validation import Question
from ramw_fed.tasks import EROSION, SEGMENTATION

QUESTION = Question(
    node=3, center="HU", ticket=Ticket(run="r", purpose="measure", task="t", round=1, base="", nonce="n")
)
TASKS = {"segmentation": (SEGMENTATION, SegmentationConfig()), "erosion": (EROSION, ErosionConfig())}


def table(name: str, rows: int = 12) -> dict[str, Any]:
    """A table of random values in their ranges, two rows a patient."""
    rng = np.random.default_rng(3)
    columns: dict[str, Any] = {}
    for key, rule in TASKS[name][0].columns(RAMW600, TASKS[name][1]).items():
        shape = (rows,) if rule.width is None else (rows, rule.width)
        columns[key] = rng.random(shape)
        if rule.is_whole:
            columns[key] = rng.integers(0, 2, rows)
    texts = {"center": ["HU"] * rows, "patient": [str(row // 2) for row in range(rows)]}
    texts |= {"name": [f"{row}_L" for row in range(rows)], "joint": [RAMW600.joints[row % 6] for row in range(rows)]}
    return columns | {key: np.array(texts[key], np.str_) for key in columns if key in texts}


def summary(name: str) -> dict[str, Any]:
    task, training = TASKS[name]
    return task.summarize(table(name), RAMW600, training, 100, 0)


def check(name: str, *, rows: Any = None, sent: Any = None, center: str = "HU") -> Any:
    task, training = TASKS[name]
    return check_measurement((center, rows, sent), QUESTION, task, RAMW600, training)


@pytest.mark.parametrize("name", TASKS)
def test_what_a_center_truly_measured_is_taken(name: str) -> None:
    own = table(name)
    assert check(name, rows=own)[0] is own
    assert check(name, sent=summary(name))[1] == summary(name)
    empty = {key: values[:0] for key, values in own.items()}
    assert check(name, rows=empty)[0] is empty  # no test radiographs with this label


Break = Callable[[dict[str, Any]], Any]
BROKEN: dict[str, Break] = {
    "a value above its range": lambda scope: scope["nsd"].update(value=1.5),
    "a value below its range": lambda scope: scope["nsd"].update(value=-0.1),
    "a value that is text": lambda scope: scope["nsd"].update(value="good"),
    "a value that is a truth value": lambda scope: scope["nsd"].update(value=True),
    "a value that is nan": lambda scope: scope["nsd"].update(value=float("nan")),
    "no value and no reason": lambda scope: scope["nsd"].update(value=None, ci=None),
    "a reason without end": lambda scope: scope.update(nsd={"value": None, "ci": None, "n": 0, "reason": "x" * 999}),
    "an interval of one limit": lambda scope: scope["nsd"].update(ci=[0.1]),
    "an interval turned round": lambda scope: scope["nsd"].update(ci=[0.4, 0.3]),
    "an interval of four patients": lambda scope: scope["nsd"].update(n=4),
    "patients without end": lambda scope: scope["nsd"].update(n=10**300),
    "a distance beyond every radiograph": lambda scope: scope["msd"].update(value=1.7e308),
    "an interval beyond the range": lambda scope: scope["nsd"].update(ci=[0.1, 7.0]),
    "no number of patients": lambda scope: scope["nsd"].pop("n"),
    "patients below zero": lambda scope: scope["nsd"].update(n=-1),
    "an unknown key": lambda scope: scope["nsd"].update(patient="0172"),
    "an unknown metric": lambda scope: scope.update(names={"value": 0.0, "ci": None, "n": 1}),
    "a metric is missing": lambda scope: scope.pop("hd95"),
    "a bone is missing": lambda scope: scope["by"]["bone"].pop("Lunate"),
    "an entry that is no mapping": lambda scope: scope.update(nsd=0.9),
    "a scope that is no mapping": lambda scope: scope.update(by=[]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_summary_that_cannot_have_been_measured_is_refused(case: str) -> None:
    broken = copy.deepcopy(summary("segmentation"))
    BROKEN[case](broken["centers"]["HU"])
    with pytest.raises(UpdateError, match=r"must list|can have been measured"):
        check("segmentation", sent=broken)


@pytest.mark.parametrize("sent", [None, [], {}, {"centers": None}, {"centers": {"FA": {}}}, "text"])
def test_what_is_no_summary_of_this_center_is_refused(sent: Any) -> None:
    with pytest.raises(UpdateError):
        check("erosion", sent=sent)
    with pytest.raises(UpdateError, match="another name"):
        check("erosion", sent=summary("erosion"), center="FA")


def test_values_out_of_range_and_rows_of_another_center_are_refused() -> None:
    for change in (
        {"probability": 1.2},
        {"probability": -0.1},
        {"probability": np.nan},
        {"grade": 6},
        {"grade": -1},
        {"joint": "Hip"},
    ):
        rows = table("erosion")
        for key, value in change.items():
            rows[key][3] = value
        with pytest.raises(UpdateError, match=next(iter(change))):
            check("erosion", rows=rows)
    rows = table("erosion") | {"center": np.array(["HU"] * 11 + ["FA"])}
    with pytest.raises(UpdateError, match="another center's name"):
        check("erosion", rows=rows)


def test_an_undefined_measure_of_an_absent_bone_is_taken() -> None:
    rows = table("segmentation")
    rows["hd95"][2, 5] = np.nan
    rows["hd95"][3, 5] = 812.0
    assert check("segmentation", rows=rows)[0] is rows


COUNTED = {
    **{"log_loss_eroded": 9.0, "eroded": 2.0, "log_loss_intact": 1.0, "intact": 8.0, "eroded_patients": 1.0},
    **{"logits/eroded/40": 2.0, "logits/intact/10": 5.0, "logits/intact/41": 3.0},
}


@pytest.mark.parametrize(
    ("name", "sums", "is_true"),
    [
        ("erosion", COUNTED, True),
        ("erosion", COUNTED | {"logits/eroded/40": 3.0}, False),
        ("erosion", COUNTED | {"logits/intact/10": 4.5, "logits/intact/41": 3.5}, False),
        ("erosion", COUNTED | {"logits/eroded/64": 0.0}, False),
        ("erosion", COUNTED | {"eroded_patients": 3.0}, False),
        ("erosion", COUNTED | {"eroded_patients": 0.0}, False),
        ("erosion", {name: value for name, value in COUNTED.items() if name != "eroded_patients"}, False),
        ("segmentation", {"dsc": 3.2, "patients": 4.0}, True),
        ("segmentation", {"dsc": 4.1, "patients": 4.0}, False),
        ("segmentation", {"dsc": 4.0, "patients": 11.0}, False),
        ("segmentation", {"dsc": 3.2, "patients": 4.0, "more": 1.0}, False),
        ("segmentation", {}, False),
        ("erosion", {"log_loss_eroded": 9.0, "eroded": 2.0, "log_loss_intact": 1.0, "intact": 8.0}, True),
        ("erosion", {"log_loss_eroded": 32.1, "eroded": 2.0, "log_loss_intact": 1.0, "intact": 8.0}, False),
        ("erosion", {"log_loss_eroded": 9.0, "eroded": 3.0, "log_loss_intact": 1.0, "intact": 8.0}, False),
        ("erosion", {"log_loss_eroded": -9.0, "eroded": 2.0, "log_loss_intact": 1.0, "intact": 8.0}, False),
    ],
)
def test_sums_over_ten_validation_examples(name: str, sums: dict[str, float], is_true: bool) -> None:
    if is_true:
        assert check_sums(("HU", sums), QUESTION, TASKS[name][0], 10) == sums
    else:
        with pytest.raises(UpdateError, match="cannot be those of 10 validation examples"):
            check_sums(("HU", sums), QUESTION, TASKS[name][0], 10)


def test_a_center_without_validation_examples_sends_none() -> None:
    assert check_sums(("HU", {}), QUESTION, SEGMENTATION, 0) == {}
