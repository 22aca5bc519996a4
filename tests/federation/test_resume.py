"""A run that is killed and resumed ends with the bytes of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ramw_fed.config import RunConfig
from ramw_fed.errors import ConfigError, RunError
from ramw_fed.federation import recorder as recording
from ramw_fed.federation.inline import InlineGrid, InProcess, run_inline
from ramw_fed.federation.recorder import FolderRecorder, from_summaries

Toy = Callable[..., RunConfig]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def finish(config: RunConfig, out: Path) -> dict[str, bytes]:
    """Run, or go on, and return the bytes that must not depend on how."""
    run_inline(config, FolderRecorder.at(replace(config, out=str(out))))
    names = ("models/six.safetensors", "metrics.json", "predictions/six.csv")
    return {name: (out / name).read_bytes() for name in names}


@pytest.mark.parametrize("point", ["append_round", "save_checkpoint", "open_test", "finish"])
def test_a_run_killed_at_any_point_ends_with_the_same_bytes(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    config = toy("six", num_rounds=4, local_epochs=2)
    wanted = finish(config, tmp_path / "whole")
    calls: list[int] = []

    def die(*_: Any, **__: Any) -> None:
        calls.append(1)
        if len(calls) == (3 if point in ("append_round", "save_checkpoint") else 1):
            raise Killed

    with monkeypatch.context() as patch:
        if point == "save_checkpoint":
            patch.setattr(recording, "save_checkpoint", _then(recording.save_checkpoint, die))
        elif point == "append_round":
            patch.setattr(recording.RunFolder, "append_round", _then(recording.RunFolder.append_round, die))
        else:
            patch.setattr(FolderRecorder, point, _then(getattr(FolderRecorder, point), die, first=point == "finish"))
        with pytest.raises(Killed):
            finish(config, tmp_path / "killed")
    assert finish(config, tmp_path / "killed") == wanted
    lines = (tmp_path / "killed" / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1, 2, 3, 4]
    curves = EventAccumulator(str(tmp_path / "killed" / "tensorboard")).Reload()
    last = {json.loads(line)["round"]: json.loads(line) for line in lines}
    assert [(one.step, one.value) for one in curves.Scalars("six/validation")] == [
        (number, pytest.approx(last[number]["quality"])) for number in (1, 2, 3, 4)
    ]
    center = next(iter(last[1]["centers"]))
    assert [one.step for one in curves.Scalars(f"six-loss/{center}")] == [1, 2, 3, 4]


def _then(work: Callable[..., Any], die: Callable[..., None], *, first: bool = False) -> Callable[..., Any]:
    def wrapped(*args: Any, **knobs: Any) -> Any:
        if first:
            die()
        result = work(*args, **knobs)
        die()
        return result

    return wrapped


@pytest.mark.slow
def test_a_process_killed_for_good_is_resumed_to_the_same_bytes(toy: Toy, tmp_path: Path) -> None:
    config = toy("six", num_rounds=30, local_epochs=2, workers=2)
    wanted = finish(config, tmp_path / "whole")
    out = tmp_path / "killed"
    (tmp_path / "run.toml").write_text(tomli_w.dumps(replace(config, out=str(out)).tree()))
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from ramw_fed.config_sources import read_toml, resolve\n"
        "from ramw_fed.federation.inline import run_inline\n"
        "from ramw_fed.federation.recorder import FolderRecorder\n"
        "if __name__ == '__main__':\n"
        "    config = resolve(read_toml(Path(sys.argv[1])))\n"
        "    run_inline(config, FolderRecorder.at(config))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    here = str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "run.toml"), here])
    deadline = time.monotonic() + 120
    while not (out / "rounds.jsonl").exists() or len((out / "rounds.jsonl").read_text().splitlines()) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len((out / "rounds.jsonl").read_text().splitlines()) < 30
    assert finish(config, out) == wanted


def test_a_finished_run_does_not_open_the_test_split_again(toy: Toy, tmp_path: Path) -> None:
    config = toy("six")
    finish(config, tmp_path / "run")
    with pytest.raises(RunError, match="test split was opened before"):
        finish(config, tmp_path / "run")


def test_another_configuration_does_not_resume(toy: Toy, tmp_path: Path) -> None:
    finish(toy("six"), tmp_path / "run")
    with pytest.raises(RunError, match="seed was 0, is 1"):
        finish(toy("six", seed=1), tmp_path / "run")


def test_a_run_folder_must_be_absolute(toy: Toy) -> None:
    with pytest.raises(ConfigError, match="absolute"):
        FolderRecorder.at(toy("six", out="runs/x"))
    with pytest.raises(ConfigError, match="absolute"):
        run_inline(toy("six", cohort="cohorts/x"), FolderRecorder)  # type: ignore[arg-type]


def test_the_same_seed_twice_gives_the_same_files(toy: Toy, tmp_path: Path) -> None:
    config = toy("six", num_rounds=2)
    assert finish(config, tmp_path / "one") == finish(config, tmp_path / "two")
    assert finish(replace(config, workers=2), tmp_path / "three") == finish(config, tmp_path / "four")


def test_the_order_of_replies_does_not_matter(toy: Toy, tmp_path: Path) -> None:
    from ramw_fed.federation.apps import server_app

    class LastFirst(InProcess):
        """Hands out the replies of an exchange together, in turned order."""

        def results(self, timeout_s: float) -> list[Any]:
            done = []
            while self._waiting:
                done += super().results(timeout_s)
            return done[::-1]

    config = toy("six", num_rounds=3)
    wanted = finish(config, tmp_path / "plain")
    out = tmp_path / "turned"
    with InlineGrid(6, LastFirst()) as grid:
        server_app(config, FolderRecorder.at(replace(config, out=str(out))))(grid, grid.context(0))
    assert {name: (out / name).read_bytes() for name in wanted} == wanted


def test_the_manifest_names_the_process_of_each_update(toy: Toy, tmp_path: Path) -> None:
    finish(toy("six", num_rounds=2), tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert set(manifest["workers"]) == {"six 1", "six 2"}
    assert set(manifest["workers"]["six 2"].values()) == {os.getpid()}
    assert manifest["cohort"]["kind"] == "phantom"
    assert manifest["engine"] == "inline"
    assert manifest["coordinator_peak_rss_mb"] > 50


def test_summaries_of_centers_make_macro_and_leave_pooled_unknown() -> None:
    centers = {
        "FA": {"dsc": {"value": 0.5, "ci": [0.4, 0.6], "n": 10}, "by": {}},
        "HU": {"dsc": {"value": 0.7, "ci": None, "n": 4}, "by": {}},
        "DHA": {"dsc": {"value": None, "ci": None, "n": 2, "reason": "too few"}, "by": {}},
    }
    scopes = from_summaries(centers)
    assert scopes["macro"]["dsc"] == {"value": pytest.approx(0.6), "ci": None, "n": 14, "left_out": 1}
    assert scopes["pooled"]["dsc"]["value"] is None
    assert "stay at the centers" in scopes["pooled"]["dsc"]["reason"]
    assert scopes["centers"] == centers
