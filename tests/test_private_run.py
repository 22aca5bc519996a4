"""A private federation of both tasks as a user starts it: ledgers, run, manifest, report."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ramw_fed.cli import app
from ramw_fed.privacy.randomness import SEED_VARIABLE
from ramw_fed.run_folder import RunFolder

TASKS = ("erosion", "segmentation")
CONFIG = """
tasks = ["segmentation", "erosion"]
norm = "group"
num-rounds = 2
local-epochs = 1
resamples = 100
device = "cpu"
privacy = "patient"
target-epsilon = 6.0
evaluation = "{evaluation}"
patients-per-step = 2

[segmentation]
image-size = 32
depth = 3
decoder-width = 8

[erosion]
crop-size = 16
loss = "logit-adjustment"
prior = "federated"
intact-joints = 88
eroded-joints = 12
"""


@pytest.fixture
def cohort(phantom_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(phantom_root, tmp_path / "cohort")
    return tmp_path / "cohort"


def say(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: str | Path) -> str:
    done = say(*arguments)
    assert done.exit_code != 0
    return str(done.exception)


def test_a_private_run_from_the_command_line(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "private.toml").write_text(CONFIG.format(evaluation="none"))
    run = ("run", tmp_path / "private.toml", "--cohort", cohort, "--workers", "1", "--out")
    assert "E-LEDGER" in refused(*run, tmp_path / "run")  # no center begins at epsilon 0 by itself
    shutil.rmtree(tmp_path / "run")
    made = say("privacy", "ledger", "init", cohort, "--epsilon-cap", "7")
    assert made.exit_code == 0, made.output
    done = say(*run, tmp_path / "run")
    assert done.exit_code == 0, done.output
    folder = RunFolder(tmp_path / "run")
    privacy = folder.read_json("manifest.json")["privacy"]
    assert set(privacy["centers"]) == {"BTXRD", "DHA", "FA", "HMCRD", "HU", "SCGH"}
    for own in privacy["centers"].values():
        assert 0 < own["epsilon"]["pld"] <= 6.0
        assert own["epsilon"]["pld"] <= own["epsilon"]["rdp"]
        assert own["epsilon"]["pld"] == pytest.approx(own["epsilon"]["prv"], rel=0.05)
        assert own["spent"] == own["epsilon"]["pld"]  # nothing was spent before
    assert max(own["epsilon"]["pld"] for own in privacy["centers"].values()) > 5.9  # the target is used
    assert folder.read_json("metrics.json") == {}
    page = (folder.path / "report.html").read_text()
    assert "privacy-releases" in page
    shown = json.loads(say("privacy", "ledger", cohort, "--json").stdout)
    assert len(shown["ledgers"]) == 6
    # A second run is another release of the same patients: the cap of 7 has no room for its first round's half of 6.
    again = refused(*run, tmp_path / "again", "--set", "target-epsilon=20")
    assert "E-BUDGET" in again


def test_a_run_that_pays_to_validate_ends_at_its_target_and_plans_what_it_spends(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "private.toml").write_text(CONFIG.format(evaluation="paid"))
    made = say("privacy", "ledger", "init", cohort, "--epsilon-cap", "6")
    assert made.exit_code == 0, made.output
    planned = json.loads(say("privacy", "plan", tmp_path / "private.toml", "--cohort", cohort, "--json").stdout)
    done = say("run", tmp_path / "private.toml", "--cohort", cohort, "--workers", "1", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    folder = RunFolder(tmp_path / "run")
    found = folder.read_json("manifest.json")["privacy"]["centers"]
    for plan in planned["centers"]:
        own = found[plan["center"]]
        assert own["noise_multiplier"] == plan["noise_multiplier"]
        validated = {task: each["rounds"] for task, each in own["validations"]["tasks"].items()}
        assert set(validated.values()) <= {2}
        if set(validated) == set(TASKS):
            assert own["epsilon"] == plan["epsilon"]
            assert own["validations"]["epsilon"] == plan["epsilon_of_validations"] > 0
            assert own["epsilon"]["pld"] > 5.9
        assert own["spent"] <= 6
    assert {task for own in found.values() for task in own["validations"]["tasks"]} == set(TASKS)
    records = [record for record in folder.rounds() if record["task"] == "segmentation"]
    dice = [record["validation"]["dsc"] / record["validation"]["patients"] for record in records]
    assert [record["quality"] for record in records] == pytest.approx(dice)
    assert folder.load_model("segmentation")[1].round == 1 + max(range(2), key=dice.__getitem__)
    assert folder.read_json("metrics.json") == {}
    assert "paid validations" in say("privacy", "plan", tmp_path / "private.toml", "--cohort", cohort).output


@pytest.mark.slow
@pytest.mark.parametrize(("evaluation", "measured"), [("unprotected", True), ("paid", False)])
def test_inline_and_ray_give_the_same_private_run_of_both_tasks(
    phantom_root: Path, tmp_path: Path, evaluation: str, measured: bool
) -> None:
    """In processes of their own: workers inherit the test's seed from the environment in which their parent began."""
    (tmp_path / "private.toml").write_text(CONFIG.format(evaluation=evaluation))
    environment = {**os.environ, SEED_VARIABLE: "5", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ramw_fed.cli"]
    for engine in ("inline", "ray"):
        root = tmp_path / f"cohort-{engine}"
        shutil.copytree(phantom_root, root)
        ledgers = ["privacy", "ledger", "init", str(root), "--epsilon-cap", "7"]
        subprocess.run([*command, *ledgers], check=True, env=environment, timeout=120)
        run = ["run", str(tmp_path / "private.toml"), "--cohort", str(root), "--engine", engine, "--workers", "2"]
        subprocess.run([*command, *run, "--out", str(tmp_path / engine)], check=True, env=environment, timeout=600)
    inline, ray = RunFolder(tmp_path / "inline"), RunFolder(tmp_path / "ray")
    files = [
        f"{kind}/{task}.{end}"
        for task in TASKS
        for kind, end in (("models", "safetensors"), ("predictions", "csv"))
        if measured or kind == "models"
    ]
    for name in ("metrics.json", *files):
        assert (inline.path / name).read_bytes() == (ray.path / name).read_bytes(), name
    first, second = (one.read_json("manifest.json")["privacy"] for one in (inline, ray))
    assert first == second
    assert "seeded" in first["randomness"]
    costs = {one["what"]: one["cost"] for one in first["releases"]}
    assert costs["test metrics"].startswith("not covered" if measured else "off")
    assert costs["choice of the best round"].startswith("not covered" if measured else "covered by epsilon")
    told = [[(record["validation"], record["quality"]) for record in one.rounds()] for one in (inline, ray)]
    assert told[0] == told[1]
    assert costs["class counts and priors"].startswith("fixed")
