"""A study from its file to its table, on a small phantom."""

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from ramw_fed.center import Center
from ramw_fed.config import PhantomConfig
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import ConfigError, StudyError
from ramw_fed.methods import get_method
from ramw_fed.run_folder import RunFolder
from ramw_fed.studies.analysis import analyse
from ramw_fed.studies.config import Study
from ramw_fed.studies.store import summarize
from ramw_fed.studies.study import claimed, run_study
from ramw_fed.studies.table import read_table
from ramw_fed.studies.training import Training, made_with
from ramw_fed.tasks import get_task

CENTERS = ("HMCRD", "HU", "SCGH")
FILES = ("table.csv", "table.parquet", "analysis.json", "opened.json")


def raw(root: Path, **knobs: Any) -> dict[str, Any]:
    own = {"designs": ["matched-arms", "leave-one-center-out"], "methods": ["fedavg"], "seeds": 1, "metrics": ["auroc"]}
    own |= {name.replace("_", "-"): value for name, value in knobs.items()}
    return {
        "tasks": "erosion",
        "cohort": str(root),
        "centers": list(CENTERS),
        "workers": 1,
        "device": "cpu",
        "resamples": 100,
        "erosion": {"crop-size": 16, "num-rounds": 2, "local-epochs": 1, "batch-size": 16},
        "study": own,
    }


def no_phantom(_config: PhantomConfig) -> Path:
    raise AssertionError("the cohort is given")


@pytest.fixture(scope="module")
def finished(phantom_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "small"
    run_study(Study.of("small", raw(phantom_root)), folder, no_phantom)
    return folder


def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_what_is_written_is_what_was_trained_and_the_analysis_follows_from_the_table(finished: Path) -> None:
    manifest = json.loads((finished / "study.json").read_text())
    arms = sorted((one["arm"], "+".join(one["train_centers"])) for one in manifest["trainings"])
    pairs = ["HMCRD+HU", "HMCRD+SCGH", "HU+SCGH"]
    assert arms == sorted(
        [("local", center) for center in CENTERS]
        + [(arm, trained) for arm in ("central", "fedavg") for trained in [*pairs, "HMCRD+HU+SCGH"]]
    )
    table = read_table(finished)
    assert set(table["design"].tolist()) == {"matched-arms", "leave-one-center-out"}
    assert manifest["table"]["rows"] == len(table["value"])
    again = json.dumps(analyse(table, manifest), indent=1, sort_keys=True, allow_nan=False) + "\n"
    assert again == (finished / "analysis.json").read_text()


def test_runs_keep_the_test_split_closed_and_each_model_is_judged_where_it_should(finished: Path) -> None:
    opened = json.loads((finished / "opened.json").read_text())["opened"]
    manifest = json.loads((finished / "study.json").read_text())
    for one in manifest["trainings"]:
        folder = RunFolder(finished / one["folder"])
        assert not (folder.path / "test-opened.json").exists()
        assert folder.read_json("metrics.json") == {}
        assert one["opened"] == sorted(name.partition("/")[2] for name in opened if name.startswith(one["key"]))
        if one["arm"] == "local":
            assert one["opened"] == one["train_centers"]
        if one["arm"] == "fedavg":
            assert {center for line in folder.rounds() for center in line["centers"]} == set(one["train_centers"])


def test_the_table_holds_what_a_model_says_of_the_test_joints_of_its_center(finished: Path, phantom_root: Path) -> None:
    table = read_table(finished)
    graded = table["measure"] == "grade"
    mine = graded & (table["arm"] == "fedavg") & (table["design"] == "matched-arms")
    cohort = read_cohort(phantom_root)
    wanted = sum(
        len(one.scores)
        for one in cohort.radiographs
        if one.center in CENTERS and one.score_split == "test" and one.scores
    )
    assert np.count_nonzero(mine) == wanted


def test_a_finished_study_is_found_finished(finished: Path, phantom_root: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/models/*")}
    run_study(Study.of("small", raw(phantom_root)), folder, no_phantom)
    assert content(folder) == content(finished)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/models/*")} == before


def test_a_lost_run_is_trained_again_to_the_same_table(finished: Path, phantom_root: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path)
    for lost in sorted(folder.glob("runs/*"))[:2]:
        shutil.rmtree(lost)
        shutil.rmtree(folder / "measured" / lost.name)
    run_study(Study.of("small", raw(phantom_root)), folder, no_phantom)
    assert content(folder) == content(finished)


def test_other_weights_than_those_that_were_judged_are_refused(
    finished: Path, phantom_root: Path, tmp_path: Path
) -> None:
    folder = copied(finished, tmp_path)
    one, other = sorted(folder.glob("runs/*/models/erosion.safetensors"))[:2]
    shutil.copy(one, other)
    with pytest.raises(StudyError, match="judged other weights"):
        run_study(Study.of("small", raw(phantom_root)), folder, no_phantom)


def test_a_table_of_measurements_that_was_edited_is_refused(finished: Path, phantom_root: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path)
    edited = sorted(folder.glob("measured/*/*/predictions/erosion.csv"))[0]
    edited.write_text(edited.read_text().replace("0.", "0.9", 1))
    with pytest.raises(StudyError, match="was changed after it was measured"):
        run_study(Study.of("small", raw(phantom_root)), folder, no_phantom)


def test_a_pooled_run_that_was_given_the_center_held_out_is_seen_in_its_own_files(
    finished: Path, phantom_root: Path, tmp_path: Path
) -> None:
    folder = copied(finished, tmp_path)
    for run in map(RunFolder, sorted(folder.glob("runs/*"))):
        if run.config().pool and len(run.config().centers) == 2:
            text = run.config_path.read_text()
            run.config_path.write_text(text.replace(",".join(run.config().centers), ",".join(CENTERS)))
    with pytest.raises(StudyError, match="is held out, yet central"):
        run_study(Study.of("small", raw(phantom_root)), folder, no_phantom)


@pytest.mark.parametrize("left", [[".lock"], [".lock", "config.toml.part"]])
def test_what_a_kill_left_before_the_first_file_is_no_strangers(
    left: list[str], finished: Path, phantom_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    for name in left:
        (folder / name).write_text("")
    run = folder.parent / "run"
    run.mkdir()
    (run / "config.toml.part").write_text("")
    config = RunFolder(next(iter(sorted(finished.glob("runs/*"))))).config()
    assert RunFolder.create(run, config, resume=True).config_path.exists()
    with claimed(Study.of("small", raw(phantom_root)), folder):
        assert (folder / "config.toml").exists()


def test_calibrated_probabilities_are_measured_as_the_run_chose_them(phantom_root: Path, tmp_path: Path) -> None:
    knobs = raw(phantom_root, designs=["matched-arms"], metrics=["brier"])
    knobs["erosion"] = {**knobs["erosion"], "calibration": "platt"}
    run_study(Study.of("small", knobs), tmp_path / "new", no_phantom)
    folder = next(
        run for run in map(RunFolder, (tmp_path / "new" / "runs").iterdir()) if len(run.config().centers) == 3
    )
    decided = folder.decided_config()
    assert (decided.erosion.temperature, decided.erosion.shift) != (1.0, 0.0)
    center = Center("HU", read_cohort(phantom_root), decided, get_method("fedavg"))
    wanted = center.measure(get_task("erosion"), folder.load_model("erosion")[0], "test")
    (measured,) = (tmp_path / "new" / "measured" / folder.path.name).glob("HU")
    assert RunFolder(measured).read_predictions("erosion")["probability"] == pytest.approx(wanted["probability"])


def test_runs_of_other_versions_or_code_are_not_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = Study.of("a", {"tasks": "erosion"})
    one = Training(arm="fedavg", task="erosion", seed=0, centers=CENTERS)
    made_with.cache_clear()
    before = one.key(study, "cohort")
    made_with.cache_clear()
    monkeypatch.setattr("ramw_fed.studies.training.versions", lambda: {"torch": "0"})
    assert one.key(study, "cohort") != before
    weights = tmp_path / "start.safetensors"
    weights.write_bytes(b"one")
    given = Study.of("a", {"tasks": "erosion", "start-from": str(weights)})
    before = one.key(given, "cohort")
    weights.write_bytes(b"two")
    made_with.cache_clear()
    assert one.key(given, "cohort") != before
    made_with.cache_clear()


def test_a_folder_of_something_else_of_another_study_or_in_use_is_refused(
    finished: Path, phantom_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    study = Study.of("small", raw(phantom_root))
    with pytest.raises(StudyError, match="something else"):
        run_study(study, tmp_path, no_phantom)
    with pytest.raises(StudyError, match=r"was study.seeds = 1"):
        run_study(Study.of("small", raw(phantom_root, seeds=2)), finished, no_phantom)
    with (finished / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StudyError, match="under way"):
            run_study(study, finished, no_phantom)


def test_weights_that_knew_the_cohort_are_no_start(finished: Path, phantom_root: Path, tmp_path: Path) -> None:
    weights = next(iter(sorted(finished.glob("runs/*/models/erosion.safetensors"))))
    knobs = {**raw(phantom_root), "start-from": str(weights)}
    with pytest.raises(StudyError, match="trained on this very cohort"):
        run_study(Study.of("small", knobs), tmp_path / "new", no_phantom)


def test_a_dose_that_the_phantom_has_anyway_is_trained_once(tmp_path: Path) -> None:
    """Two names of one run must not be trained into one folder by two processes at once."""
    phantom = {"patients": 24, "centers": 3, "size": 48, "shift": 0.5, "prevalence": 0.3}
    knobs = raw(Path("none"), designs=["matched-arms", "dose-response"], doses=["0.5", "0.50"])
    del knobs["cohort"]
    study = Study.of("small", {**knobs, "phantom": phantom})
    root = tmp_path / "phantom"
    write_phantom(study.phantom(""), root)
    analysis = run_study(study, tmp_path / "study", lambda config: root)
    assert len(list((tmp_path / "study" / "runs").iterdir())) == 3 + 1 + 1
    assert set(analysis["designs"]["dose-response"]["erosion"]["auroc"]["central"]) == {"0.5", "0.50"}


def test_a_method_that_leaves_tensors_at_its_centers_needs_a_rule_for_the_one_left_out(
    phantom_root: Path, tmp_path: Path
) -> None:
    knobs = raw(phantom_root, methods=["fedbn"], designs=["leave-one-center-out"])
    with pytest.raises(StudyError, match="set unseen-batch-norm to mean or re-estimate or least-entropy"):
        run_study(Study.of("small", knobs), tmp_path / "new", no_phantom)
    found = run_study(Study.of("small", {**knobs, "unseen-batch-norm": "re-estimate"}), tmp_path / "rule", no_phantom)
    centers = found["designs"]["leave-one-center-out"]["erosion"]["auroc"]["fedbn"]
    assert set(centers["centers"]) == set(centers["inside"]) == {"HMCRD", "HU", "SCGH"}


def test_cases_of_the_last_method_are_drawn_for_each_center_it_learned_from(phantom_root: Path, tmp_path: Path) -> None:
    knobs = raw(phantom_root, designs=["matched-arms"], metrics=["dsc"]) | {"tasks": "segmentation"}
    small = {
        "image-size": 32,
        "depth": 3,
        "decoder-width": 8,
        "num-rounds": 1,
        "local-epochs": 1,
        "learning-rate": 0.01,
    }
    knobs |= {"segmentation": small, "centers": ["HMCRD", "HU"]}
    found = run_study(Study.of("small", knobs), tmp_path / "new", no_phantom)
    assert set(found["designs"]["matched-arms"]["segmentation"]["dsc"]["arms"]) == {"local", "central", "fedavg"}
    assert sorted(path.name for path in (tmp_path / "new" / "overlays").iterdir()) == ["HMCRD.png", "HU.png"]


def test_a_dial_turns_phantoms_only(phantom_root: Path, tmp_path: Path) -> None:
    study = Study.of("small", raw(phantom_root, designs=["dose-response"]))
    with pytest.raises(StudyError, match="dial of the phantom"):
        run_study(study, tmp_path / "new", no_phantom)


def test_a_center_that_the_cohort_lacks_is_named(phantom_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="XX"):
        run_study(Study.of("small", {**raw(phantom_root), "centers": ["HU", "XX"]}), tmp_path / "new", no_phantom)


def test_the_grid_is_searched_once_with_validation_patients_and_its_best_point_is_trained(
    phantom_root: Path, tmp_path: Path
) -> None:
    grid = ["learning-rate = 0.00000001 | 0.01"]
    knobs = raw(phantom_root, tune=grid, designs=["matched-arms"], seeds=2)
    run_study(Study.of("small", knobs), tmp_path / "new", no_phantom)
    manifest = json.loads((tmp_path / "new" / "study.json").read_text())
    assert len(manifest["trainings"]) == 2 * 5
    by_arm: dict[str, set[str]] = {}
    for one in manifest["trainings"]:
        by_arm.setdefault("+".join([one["arm"], *one["train_centers"]]), set()).add(one["point"]["learning-rate"])
    assert all(len(points) == 1 for points in by_arm.values())
    # two points at the first seed, the better one again at the second
    assert len(list((tmp_path / "new" / "runs").iterdir())) == 3 * 5
    quality: dict[tuple[bool, float], float] = {}
    for folder in map(RunFolder, (tmp_path / "new" / "runs").iterdir()):
        config = folder.config()
        if config.seed == 0 and len(config.centers) == 3:
            found = summarize(folder, "erosion").quality
            assert found is not None
            quality[config.pool, config.erosion.learning_rate] = found
    for pool, arm in ((True, "central"), (False, "fedavg")):
        best = max((1e-8, 0.01), key=lambda rate: quality[pool, rate])
        assert {float(point) for point in by_arm[f"{arm}+HMCRD+HU+SCGH"]} == {best}


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_tables(
    finished: Path, phantom_root: Path, tmp_path: Path
) -> None:
    """Two processes, each killed with SIGKILL several times; no orphan goes on training."""
    file, folder = tmp_path / "small.toml", tmp_path / "killed"
    file.write_text(tomli_w.dumps({**raw(phantom_root), "workers": 2}))
    command = [sys.executable, "-m", "ramw_fed.cli", "study", str(file), "--out", str(folder)]
    rng = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
        time.sleep(rng.uniform(6, 16))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    assert content(folder) == content(finished)
