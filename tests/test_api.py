"""The verbs end to end on a small phantom: one tiny run, looked at from all sides."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from ramw_fed import api, prediction
from ramw_fed.cli import app
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.cohort import Cohort
from ramw_fed.errors import ConfigError, FederationError, RunError
from ramw_fed.evaluation import evaluate_submission
from ramw_fed.prediction import WATERMARK, joint_boxes
from ramw_fed.run_folder import RunFolder

TINY = {
    "device": "cpu",  # on a GPU other warnings come, and warnings are errors
    "proximal-mu": 0.1,
    "num-rounds": 1,
    "local-epochs": 1,
    "augmentation": "none",
    "image-size": 32,
    "crop-size": 16,
    "workers": 1,
    "baselines": True,
    "resamples": 100,
    "segmentation": {"depth": 3, "decoder-width": 16},
}


@pytest.fixture(scope="module")
def config(phantom_root: Path) -> RunConfig:
    return resolve({**TINY, "cohort": str(phantom_root)})


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return api.run(config, out=tmp_path_factory.mktemp("runs") / "tiny")


def test_a_run_leaves_all_that_the_documents_promise(finished: RunFolder) -> None:
    wanted = ("config.toml", "manifest.json", "rounds.jsonl", "metrics.json", "baselines.json")
    assert all((finished.path / name).exists() for name in wanted)
    for folder in ("models", "predictions", "checkpoints", "overlays"):
        assert any((finished.path / folder).iterdir()), folder
    manifest = finished.read_json("manifest.json")
    assert manifest["cohort"]["kind"] == "phantom"
    assert set(manifest["seconds"]) == {"total", "train", "evaluate", "communicate"}
    assert manifest["peak_rss_mb"] > 100


def test_every_center_and_metric_is_listed_with_value_interval_and_patients_or_a_reason(finished: RunFolder) -> None:
    metrics = finished.read_json("metrics.json")
    for task, wanted in (("segmentation", {"dsc", "nsd", "voe", "msd", "hd95", "ravd"}), ("erosion", {"auroc", "dor"})):
        scopes = metrics[task]["test"]
        for scope in (scopes["pooled"], scopes["macro"], *scopes["centers"].values()):
            assert wanted <= set(scope)
            for name in wanted:
                entry = scope[name]
                assert {"value", "ci", "n"} <= set(entry)
                assert entry["value"] is not None or entry["reason"]


def test_baselines_stand_beside_the_run_at_the_same_centers(finished: RunFolder) -> None:
    baselines = finished.read_json("baselines.json")
    metrics = finished.read_json("metrics.json")
    titles = {"nearest template", "intensity threshold", "mean intensity"}
    assert titles <= set(baselines)
    alone = [title for title in baselines if title.endswith(" alone")]
    assert len(alone) >= 1
    for arms in baselines.values():
        for task, splits in arms.items():
            assert set(splits["test"]["centers"]) == set(metrics[task]["test"]["centers"])
    assert baselines["nearest template"]["segmentation"]["test"]["pooled"]["dsc"]["value"] > 0.1


def test_a_finished_run_is_not_measured_again(config: RunConfig, finished: RunFolder) -> None:
    before = (finished.path / "metrics.json").read_bytes()
    api.run(config, out=finished.path, resume=True)
    assert (finished.path / "metrics.json").read_bytes() == before


def test_evaluating_a_run_on_its_own_cohort_gives_its_own_metrics(finished: RunFolder, phantom_root: Path) -> None:
    evaluated = api.evaluate(finished.path, phantom_root)
    assert json.loads(json.dumps(evaluated)) == finished.read_json("metrics.json")


def test_an_evaluation_of_a_run_has_its_files_and_differs_from_it_in_nothing(
    finished: RunFolder, phantom_root: Path, tmp_path: Path
) -> None:
    api.evaluate(finished.path, phantom_root, out=tmp_path / "evaluation")
    for name in ("metrics.json", "predictions/segmentation.csv", "predictions/erosion.csv"):
        assert (tmp_path / "evaluation" / name).read_bytes() == (finished.path / name).read_bytes(), name
    found = api.compare(finished.path, tmp_path / "evaluation")
    assert (found.first.kind, found.second.kind) == ("run", "evaluation")
    assert not [remark for remark in found.remarks if "cohort" in remark]
    values = [entry["value"] for splits in found.tasks.values() for entry in splits["test"]["pooled"].values()]
    assert set(values) <= {0, None}


def test_a_runs_own_probabilities_as_predictions_give_its_own_metrics(
    finished: RunFolder, phantom_root: Path, tmp_path: Path
) -> None:
    lines = (finished.path / "predictions" / "erosion.csv").read_text().splitlines()
    assert lines[0] == "center,patient,name,joint,probability,grade"
    kept = [line.rsplit(",", 1)[0] for line in lines]  # all but the true grade
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "scores.csv").write_text("\n".join(kept))
    config = finished.config()
    cohort = api.load_cohort(phantom_root)
    found = evaluate_submission(tmp_path / "predictions", cohort, config)
    assert json.loads(json.dumps(found.metrics["erosion"])) == finished.read_json("metrics.json")["erosion"]


def test_the_command_line_measures_predictions_and_compares(
    finished: RunFolder, phantom_root: Path, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    (tmp_path / "masks").mkdir()
    for radiograph in phantom_cohort.radiographs:
        if radiograph.mask_split == "test":
            np.save(tmp_path / "masks" / f"{radiograph.name}.npy", radiograph.read_masks())
    reader, out = str(tmp_path / "masks"), str(tmp_path / "evaluation")
    options = ["--cohort", str(phantom_root), "--json"]
    measured = CliRunner().invoke(app, ["evaluate", "--predictions", reader, "--out", out, *options])
    assert json.loads(measured.stdout)["segmentation"]["test"]["pooled"]["dsc"]["value"] == 1
    compared = CliRunner().invoke(app, ["compare", out, str(finished.path), "--metric", "dsc", "--json"])
    entry = json.loads(compared.stdout)["tasks"]["segmentation"]["test"]["pooled"]["dsc"]
    assert (entry["first"], entry["reading"]) == (1, "A better")
    shown = CliRunner().invoke(app, ["compare", out, str(finished.path), "--metric", "dsc"])
    assert "A better" in shown.stdout
    for both in ([str(finished.path), "--predictions", reader], []):
        refused = CliRunner().invoke(app, ["evaluate", *both, *options])
        assert "one of them" in str(refused.exception)


def test_an_unknown_split_and_a_folder_without_a_run_are_refused(finished: RunFolder, phantom_root: Path) -> None:
    with pytest.raises(ConfigError, match="split is 'holdout'"):
        api.evaluate(finished.path, phantom_root, split="holdout")
    with pytest.raises(RunError, match="holds no run"):
        api.evaluate(phantom_root, phantom_root)


def test_replacing_the_test_labels_by_noise_changes_neither_weights_nor_the_chosen_round(
    config: RunConfig, finished: RunFolder, phantom_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "noised"
    shutil.copytree(phantom_root, root)
    rng = np.random.default_rng(0)
    for path in (root / "BoneSegmentation" / "masks" / "test").glob("*.npy"):
        np.save(path, rng.integers(0, 2, np.load(path).shape).astype(np.uint8))
    scores = root / "SvdHBEScoreClassification" / "JointBE_SvdH_GT.json"
    entries = json.loads(scores.read_text())
    held_out = {path.name for path in (root / "SvdHBEScoreClassification" / "test").iterdir()}
    for entry in entries:
        if entry["identifier"] in held_out:
            entry["joints"] = {joint: int(rng.integers(0, 6)) for joint in entry["joints"]}
    scores.write_text(json.dumps(entries))
    noised = api.run(resolve({**TINY, "baselines": False, "cohort": str(root)}), out=tmp_path / "run")
    measured, before = noised.read_json("metrics.json"), finished.read_json("metrics.json")
    for task in ("segmentation", "erosion"):
        assert measured[task] != before[task]
        weights, card = noised.load_model(task)
        expected, expected_card = finished.load_model(task)
        assert card.round == expected_card.round
        assert all(weights[name].equal(expected[name]) for name in expected)


def test_predict_writes_masks_at_the_images_size_and_holds_erosion_scores_back(
    finished: RunFolder, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    left = next(one for one in phantom_cohort.radiographs if one.side == "L")
    right = next(one for one in phantom_cohort.radiographs if one.side == "R")
    found = api.predict([left.image, right.image], out=tmp_path, run=finished.path)
    assert [one.side for one in found.items] == ["L", "R"]
    assert np.load(tmp_path / f"{left.name}.npy").shape == (14, *left.read_image().shape)
    assert (tmp_path / f"{left.name}.png").exists()
    assert not (tmp_path / "scores.csv").exists()
    assert any("no erosion scores" in remark for remark in found.remarks)


def test_research_prints_erosion_scores_under_a_watermark(
    finished: RunFolder, phantom_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrist = next(one for one in phantom_cohort.radiographs if one.masks)
    monkeypatch.setattr(prediction, "segment_any", lambda *_: (wrist.read_masks(), wrist.side))  # so that joints exist
    found = api.predict([wrist.image], out=tmp_path, run=finished.path, research=True)
    probabilities = found.items[0].erosions
    assert len(probabilities) >= 4
    console = Console(width=200, record=True, file=io.StringIO())
    for table in found.tables():
        console.print(table)
    shown, rows = console.export_text(), (tmp_path / "scores.csv").read_text().splitlines()[1:]
    assert f"probability of an erosion: {WATERMARK}" in shown
    assert all(f"{probability:.3f}" in shown for probability in probabilities.values())
    assert len(rows) == len(probabilities)
    assert all(row.endswith(WATERMARK) for row in rows)
    said = {row.split(",")[2]: row.split(",")[4] for row in rows}
    assert said == {joint: str(int(probability >= 0.5)) for joint, probability in probabilities.items()}
    assert found.remarks == [WATERMARK]
    held_back = api.predict([wrist.image], out=tmp_path, run=finished.path)
    assert not held_back.items[0].erosions
    assert len(held_back.tables()) == 1


def test_predict_refuses_what_is_not_there_and_what_would_be_overwritten(finished: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be found"):
        api.predict([tmp_path / "absent.png"], out=tmp_path, run=finished.path)
    (tmp_path / "a").mkdir()
    for path in (tmp_path / "x.png", tmp_path / "a" / "x.png"):
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match="several images are called x"):
        api.predict([tmp_path / "x.png", tmp_path / "a" / "x.png"], out=tmp_path, run=finished.path)


def test_a_joint_box_lies_around_the_end_of_its_bone_that_faces_the_wrist(phantom_cohort: Cohort) -> None:
    radiograph = next(one for one in phantom_cohort.radiographs if one.masks and one.boxes)
    boxes = joint_boxes(radiograph.read_masks(), phantom_cohort.description)
    assert set(boxes) == set(radiograph.boxes)
    for joint, (x0, y0, x1, y1) in boxes.items():
        u0, v0, u1, v1 = radiograph.boxes[joint]
        width = min(x1, u1) - max(x0, u0)
        height = min(y1, v1) - max(y0, v0)
        overlap = max(width, 0) * max(height, 0)
        union = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - overlap
        assert overlap / union > 0.4, joint


def test_a_run_on_one_fold_of_pooled_centers_is_evaluated_on_that_fold_center_by_center(
    phantom_root: Path, tmp_path: Path
) -> None:
    own = {"pool": True, "split": "grouped", "fold": "2/3", "tasks": "segmentation", "cohort": str(phantom_root)}
    config = resolve({**TINY, **own, "centers": "HU,FA"})
    api.run(config, out=tmp_path / "run")
    api.evaluate(tmp_path / "run", phantom_root, out=tmp_path / "evaluation")
    wanted = api.read_cohort(phantom_root, split="grouped", tested=(2, 3))
    measured = RunFolder(tmp_path / "evaluation").read_predictions("segmentation")
    tested = {one.name: one.center for one in wanted.radiographs if one.mask_split == "test"}
    assert dict(zip(measured["name"].tolist(), measured["center"].tolist(), strict=True)) == tested
    manifest = RunFolder(tmp_path / "evaluation").read_json("manifest.json")["evaluation"]
    assert (manifest["reading"]["fold"], manifest["centers"]) == ("2/3", list(wanted.centers))


def test_a_plan_counts_the_steps_and_takes_none_of_the_budget(config: RunConfig) -> None:
    cost = api.plan(config)
    by_task = {task.task: task for task in cost.tasks}
    # Six centers of 2 training patients; batches of 8 in one epoch of one round: at least one step a center.
    assert by_task["segmentation"].steps >= 6
    assert all(task.seconds_per_step > 0 for task in cost.tasks)


def test_a_run_in_which_no_round_had_enough_updates_does_not_open_the_test_split(
    phantom_root: Path, tmp_path: Path
) -> None:
    config = resolve({**TINY, "tasks": "erosion", "min-centers": 7, "cohort": str(phantom_root)})
    with pytest.raises(FederationError, match="test split stays closed"):
        api.run(config, out=tmp_path / "run")
    assert not (tmp_path / "run" / "test-opened.json").exists()


def test_a_run_is_not_resumed_on_other_radiographs(finished: RunFolder, phantom_root: Path, tmp_path: Path) -> None:
    killed = tmp_path / "run"
    shutil.copytree(finished.path, killed)
    (killed / "metrics.json").unlink()  # as a kill while measuring leaves it
    other = tmp_path / "other"
    shutil.copytree(phantom_root, other)
    mask = next((other / "BoneSegmentation" / "masks" / "train").glob("*.npy"))
    np.save(mask, np.roll(np.load(mask), 1, axis=1))
    with pytest.raises(RunError, match="other radiographs"):
        api.run(resolve({**TINY, "cohort": str(other)}), out=killed, resume=True)


def test_what_a_kill_after_the_metrics_left_out_is_made_on_resuming(
    config: RunConfig, finished: RunFolder, tmp_path: Path
) -> None:
    killed = tmp_path / "run"
    shutil.copytree(finished.path, killed)
    (killed / "baselines.json").unlink()
    shutil.rmtree(killed / "overlays")
    resumed = api.run(config, out=killed, resume=True)
    assert resumed.read_json("baselines.json") == finished.read_json("baselines.json")
    assert any((killed / "overlays").iterdir())


def test_a_refused_configuration_leaves_no_folder_behind(config: RunConfig, phantom_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="centers names XX"):
        api.run(resolve({**TINY, "centers": "XX", "cohort": str(phantom_root)}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
