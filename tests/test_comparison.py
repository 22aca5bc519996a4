"""Two folders against each other: what is compared, adjusted and shown, and what is refused."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from ramw_fed import api
from ramw_fed.arms import Arm
from ramw_fed.comparison import METRICS, compare_arms
from ramw_fed.errors import ConfigError, PredictionError, RunError
from ramw_fed.run_folder import RunFolder
from ramw_fed.statistics.comparison import holm

CENTERS = {"A": 12, "B": 10, "C": 4}
KNOBS = {"threshold": 0.5, "tolerance-px": 2.0, "field-of-view": 1.0}


def segmentation(seed: int, gain: float = 0.0) -> dict[str, np.ndarray]:
    rows = [(center, f"{p:02d}", f"{center}{p:02d}_{side}") for center, count in CENTERS.items()
            for p in range(count) for side in "LR"]  # fmt: skip
    rng = np.random.default_rng(seed)
    values = np.clip(rng.normal(0.8 + gain, 0.05, (len(rows), 3)), 0, 1)
    center, patient, name = (np.array(column) for column in zip(*rows, strict=True))
    return {"center": center, "patient": patient, "name": name, "dsc": values, "nsd": values**2, "hd95": 9 - 8 * values}


def erosion(seed: int, gain: float = 0.0) -> dict[str, np.ndarray]:
    rows = [(center, f"{p:02d}", f"{center}{p:02d}_L", joint) for center, count in CENTERS.items()
            for p in range(count) for joint in ("Lunate", "Scaphoid")]  # fmt: skip
    grades = np.array([1, 0, 0, 2] * len(rows))[: len(rows)]
    logits = np.random.default_rng(seed).normal(size=len(rows)) + (0.5 + gain) * (grades > 0)
    center, patient, name, joint = (np.array(column) for column in zip(*rows, strict=True))
    table = {"center": center, "patient": patient, "name": name, "joint": joint}
    return table | {"probability": 1 / (1 + np.exp(-logits)), "grade": grades}


def write(
    path: Path, *, cohort: str = "ab", split: str = "test", knobs: dict[str, float] = KNOBS, **tables: Any
) -> Path:
    path.mkdir()
    folder = RunFolder(path)
    for task, table in tables.items():
        folder.write_predictions(task, table)
    folder.write_json("manifest.json", {"evaluation": {"knobs": knobs}, "cohort": {"sha256": cohort}})
    folder.write_json("metrics.json", {task: {split: {}} for task in tables})
    return path


@pytest.fixture
def arms(tmp_path: Path) -> tuple[Path, Path]:
    """A is better in segmentation and alike in erosion."""
    return (
        write(tmp_path / "a", segmentation=segmentation(0, 0.08), erosion=erosion(0)),
        write(tmp_path / "b", segmentation=segmentation(1), erosion=erosion(1)),
    )


def kept(table: dict[str, np.ndarray], rows: Any) -> dict[str, np.ndarray]:
    return {name: column[rows] for name, column in table.items()}


# --- compared ------------------------------------------------------------------------------------------------------


def test_scopes_have_the_form_of_metrics_json_and_every_entry_a_value_or_a_reason(arms: tuple[Path, Path]) -> None:
    found = json.loads(json.dumps(api.compare(*arms).as_dict(), allow_nan=False))
    assert set(found["tasks"]) == {"segmentation", "erosion"}
    for task, metrics in (("segmentation", {"dsc", "nsd", "hd95"}), ("erosion", {"auroc", "auprc", "sen", "spc"})):
        scopes = found["tasks"][task]["test"]
        assert set(scopes["centers"]) == set(CENTERS)
        for scope in (scopes["pooled"], scopes["macro"], *scopes["centers"].values()):
            assert set(scope) == metrics
            for entry in scope.values():
                assert {"value", "ci", "n"} <= set(entry)
                assert entry["value"] is not None or entry["reason"]
    pooled = found["tasks"]["segmentation"]["test"]["pooled"]
    assert pooled["dsc"]["reading"] == pooled["hd95"]["reading"] == "A better"
    assert pooled["hd95"]["value"] < 0 < pooled["dsc"]["value"]
    assert found["tasks"]["erosion"]["test"]["pooled"]["auroc"]["reading"] == "no difference shown"


def test_a_center_of_four_patients_is_not_estimable_and_left_out_of_macro(arms: tuple[Path, Path]) -> None:
    for task, metric in (("segmentation", "dsc"), ("erosion", "auroc")):
        scopes = api.compare(*arms).tasks[task]["test"]
        small = scopes["centers"]["C"][metric]
        assert (small["value"], small["ci"], small["n"]) == (None, None, 4)
        assert "4" in small["reason"]
        assert "5 are needed" in small["reason"]
        assert "p" not in small
        macro, centers = scopes["macro"][metric], scopes["centers"]
        assert macro["left_out"] == 1
        assert macro["value"] == pytest.approx(np.mean([centers[name][metric]["value"] for name in "AB"]))
        assert macro["first"] == pytest.approx(np.mean([centers[name][metric]["first"] for name in "AB"]))
        assert macro["ci"][0] < macro["value"] < macro["ci"][1]
        assert "p" not in macro


def test_holm_runs_over_all_metrics_asked_for_pooled_and_apart_over_the_centers(arms: tuple[Path, Path]) -> None:
    tasks = api.compare(*arms).tasks
    pooled = [entry for splits in tasks.values() for entry in splits["test"]["pooled"].values()]
    assert len(pooled) == 7
    assert [entry["p_holm"] for entry in pooled] == holm([entry["p"] for entry in pooled])
    single = [entry for splits in tasks.values() for scope in splits["test"]["centers"].values()
              for entry in scope.values() if "p" in entry]  # fmt: skip
    assert [entry["p_holm"] for entry in single] == holm([entry["p"] for entry in single])
    alone = api.compare(*arms, metrics=["dsc"]).tasks["segmentation"]["test"]["pooled"]["dsc"]
    assert alone["p_holm"] == alone["p"]


@pytest.mark.parametrize(("gain", "reading"), [(0.02, "no difference shown"), (0.03, "A better")])
def test_a_difference_is_read_at_5_percent_after_holm(tmp_path: Path, gain: float, reading: str) -> None:
    arms = (
        write(tmp_path / "a", segmentation=segmentation(8, gain)),
        write(tmp_path / "b", segmentation=segmentation(9)),
    )
    entry = api.compare(*arms).tasks["segmentation"]["test"]["pooled"]["dsc"]
    assert entry["p"] < 0.05
    assert (0.05 < entry["p_holm"] < 0.1) == (reading == "no difference shown")
    assert entry["reading"] == reading


@pytest.mark.parametrize(("metric", "reading"), [("both_empty", "A larger"), ("missing", "B better")])
def test_more_bones_that_neither_mask_has_are_neither_better_nor_worse(
    tmp_path: Path, metric: str, reading: str
) -> None:
    table = segmentation(0)
    arms = [
        write(tmp_path / name, segmentation=table | {metric: np.full_like(table["dsc"], count)})
        for name, count in (("a", 1.0), ("b", 0.0))
    ]
    entry = api.compare(arms[0], arms[1], metrics=[metric]).tasks["segmentation"]["test"]["pooled"][metric]
    # two radiographs a patient, three bones each
    assert (entry["value"], entry["reading"]) == (6, reading)


def test_swapped_arms_change_signs_only(arms: tuple[Path, Path]) -> None:
    there, back = api.compare(*arms).tasks, api.compare(*arms[::-1]).tasks
    for task, splits in there.items():
        for scope in ("pooled", "macro"):
            for metric, entry in splits["test"][scope].items():
                other = back[task]["test"][scope][metric]
                assert entry["value"] == pytest.approx(-other["value"], abs=1e-15)
                np.testing.assert_allclose(entry["ci"], [-limit for limit in other["ci"][::-1]], atol=1e-12)
                assert entry.get("p_holm") == other.get("p_holm")
                assert entry["first"] == other["second"]
    assert back["segmentation"]["test"]["pooled"]["dsc"]["reading"] == "B better"


def test_the_order_of_rows_changes_nothing(arms: tuple[Path, Path], tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(sum(CENTERS.values()) * 2)
    shuffled = write(
        tmp_path / "c", segmentation=kept(segmentation(1), order), erosion=kept(erosion(1), order[order < 52])
    )
    assert api.compare(arms[0], shuffled).tasks == api.compare(*arms).tasks


def test_an_arm_against_itself_shows_no_difference_and_says_so(arms: tuple[Path, Path]) -> None:
    found = api.compare(arms[0], arms[0])
    assert "both arms are the same folder" in found.remarks
    for splits in found.tasks.values():
        for entry in splits["test"]["pooled"].values():
            assert (entry["value"], entry["p"], entry["reading"]) == (0, 1, "no difference shown")


def test_a_metric_belongs_to_its_task_and_a_task_can_be_asked_for(arms: tuple[Path, Path]) -> None:
    found = api.compare(*arms, metrics=["brier"]).tasks
    assert {task: list(splits["test"]["pooled"]) for task, splits in found.items()} == {"erosion": ["brier"]}
    assert set(api.compare(*arms, tasks=["segmentation"]).tasks) == {"segmentation"}


def test_the_table_says_what_json_says(arms: tuple[Path, Path]) -> None:
    found = api.compare(*arms)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(found.table())
    shown = console.export_text()
    assert "A better" in shown
    assert "not estimable (1)" in shown
    assert "(1) 4 of 4 patients have a value in both arms; 5 are needed" in shown
    pooled = found.tasks["segmentation"]["test"]["pooled"]["dsc"]
    assert f"{pooled['first']:.3f}".removeprefix("0") in shown
    assert any("Wilcoxon" in remark for remark in found.remarks)
    assert any("clustered by patient" in remark for remark in found.remarks)


def test_each_arm_is_judged_at_its_own_threshold_which_is_named(arms: tuple[Path, Path], tmp_path: Path) -> None:
    table = erosion(1)
    other = write(tmp_path / "c", knobs=KNOBS | {"threshold": 0.3}, erosion=table)
    found = api.compare(arms[0], other)
    assert any("A 0.5, B 0.3" in remark for remark in found.remarks)
    called = table["probability"][table["grade"] > 0] >= 0.3
    assert found.tasks["erosion"]["test"]["pooled"]["sen"]["second"] == pytest.approx(called.mean())


def test_other_cohorts_of_the_same_rows_are_remarked_on(arms: tuple[Path, Path], tmp_path: Path) -> None:
    other = write(tmp_path / "c", cohort="cd", segmentation=segmentation(1))
    assert any("different cohorts" in remark for remark in api.compare(arms[0], other).remarks)


# --- refused -------------------------------------------------------------------------------------------------------


def test_arms_of_other_radiographs_are_refused_with_how_many_differ(arms: tuple[Path, Path], tmp_path: Path) -> None:
    table = segmentation(1)
    alone = write(tmp_path / "c", segmentation=kept(table, ~np.isin(table["name"], ["A00_L", "B03_L", "B03_R"])))
    with pytest.raises(PredictionError) as raised:
        api.compare(arms[0], alone)
    assert f"{arms[0]} alone has 3 radiographs (3 radiographs, 1 whole patients: A00_L, B03_L, B03_R)" in str(
        raised.value
    )
    table["name"][0] = "A00_X"
    with pytest.raises(
        PredictionError, match=r"1 radiographs, 0 whole patients: A00_L.*1 radiographs, 0 whole patients: A00_X"
    ):
        api.compare(arms[0], write(tmp_path / "renamed", segmentation=table))
    scores = erosion(1)
    fewer = write(tmp_path / "d", erosion=kept(scores, np.arange(52) > 1))
    with pytest.raises(PredictionError, match=r"alone has 2 joints \(1 radiographs, 1 whole patients"):
        api.compare(arms[0], fewer)
    twice = write(tmp_path / "e", erosion=kept(scores, [0, *range(52)]))
    with pytest.raises(PredictionError, match="a row twice"):
        api.compare(arms[0], twice)


def test_arms_that_were_measured_otherwise_are_refused(arms: tuple[Path, Path], tmp_path: Path) -> None:
    loose = write(tmp_path / "c", knobs=KNOBS | {"tolerance-px": 3.0}, segmentation=segmentation(1))
    with pytest.raises(PredictionError, match="tolerance-px was 2 and 3"):
        api.compare(arms[0], loose)
    wide = write(tmp_path / "w", knobs=KNOBS | {"field-of-view": 1.5}, segmentation=segmentation(1))
    with pytest.raises(PredictionError, match=r"field-of-view was 1 and 1\.5"):
        api.compare(arms[0], wide)
    table = erosion(1)
    table["grade"][:3] += 1
    regraded = write(tmp_path / "d", erosion=table)
    with pytest.raises(PredictionError, match="3 joints have another true grade"):
        api.compare(arms[0], regraded)
    bones = segmentation(1)
    bones["dsc"] = bones["dsc"][:, :2]
    with pytest.raises(PredictionError, match="different numbers of bones"):
        api.compare(arms[0], write(tmp_path / "e", segmentation=bones))


def test_unknown_names_and_tasks_that_an_arm_lacks_are_refused(arms: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no task or metric is called 'bones', 'dice'"):
        api.compare(*arms, metrics=["dice", "dsc"], tasks=["bones"])
    reader = write(tmp_path / "c", erosion=erosion(1))
    with pytest.raises(PredictionError, match="must have measured segmentation"):
        api.compare(arms[0], reader, tasks=["segmentation"])
    with pytest.raises(PredictionError, match="must have measured one task"):
        api.compare(write(tmp_path / "d", segmentation=segmentation(1)), reader)
    with pytest.raises(ConfigError, match="belong to no task"):
        api.compare(arms[0], reader, metrics=["dsc"])
    with pytest.raises(ConfigError, match="none of the metrics dsc is one of erosion"):
        api.compare(*arms, metrics=["dsc"], tasks=["erosion"])


def test_a_folder_without_run_or_evaluation_and_a_run_cut_short_are_refused(
    arms: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(PredictionError, match="neither a run nor an evaluation"):
            api.compare(arms[0], path)
    (tmp_path / "empty" / "config.toml").write_text("")
    with pytest.raises(RunError, match="did not finish"):
        api.compare(arms[0], tmp_path / "empty")
    (arms[1] / "predictions" / "erosion.csv").unlink()
    with pytest.raises(RunError, match="stayed at the centers"):
        api.compare(*arms)


def test_every_metric_can_be_compared(tmp_path: Path) -> None:
    tables = []
    for seed in (0, 1):
        one = segmentation(seed)
        for metric in METRICS["segmentation"]:
            one.setdefault(metric, one["dsc"])
        scored = erosion(seed)
        tables.append(
            {"segmentation": one, "erosion": scored | {"predicted_grade": np.round(scored["probability"] * 3)}}
        )
    arms = [Arm.open(write(tmp_path / str(seed), **table)) for seed, table in enumerate(tables)]
    every = [metric for metrics in METRICS.values() for metric in metrics]
    found = compare_arms(*arms, metrics=every, resamples=100)
    assert {task: set(splits["test"]["pooled"]) for task, splits in found.tasks.items()} == {
        task: set(metrics) for task, metrics in METRICS.items()
    }
    assert all(
        entry["value"] is not None for splits in found.tasks.values() for entry in splits["test"]["pooled"].values()
    )
