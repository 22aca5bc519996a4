"""Flower's own simulation runs the same apps; Ray takes seconds to start, so few runs hold all that is asked."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from ramw_fed.config import RunConfig
from ramw_fed.errors import ConfigError
from ramw_fed.federation.inline import run_inline
from ramw_fed.federation.ray import run_ray
from ramw_fed.federation.recorder import FolderRecorder
from ramw_fed.run_folder import RunFolder

Toy = Callable[..., RunConfig]

PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.federation.ray import run_ray
from ramw_fed.federation.recorder import FolderRecorder
if __name__ == "__main__":
    config = resolve(read_toml(Path(sys.argv[1])))
    run_ray(config, FolderRecorder.at(config))
    print(json.dumps(os.getpid()))
"""


def run_apart(config: RunConfig, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run the ray engine in a process of its own: Ray leaves threads and warnings behind that are not ours."""
    (tmp_path / "run.toml").write_text(tomli_w.dumps(config.tree()))
    (tmp_path / "script.py").write_text(PROGRAM)
    here = str(Path(__file__).parent)
    return subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "run.toml"), here],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_ray_gives_the_bytes_of_inline_in_several_processes_none_of_them_the_drivers(toy: Toy, tmp_path: Path) -> None:
    """Toy tasks and the built-in ones with both kinds of normalisation, under FedProx: one start of Ray for all."""
    small = {"num-rounds": 2, "local-epochs": 1}
    config = toy(
        "six",
        "two",
        tasks="toy_tasks:SIX,toy_tasks:TWO,segmentation,erosion",
        method="fedprox",
        proximal_mu=0.5,
        num_rounds=2,
        local_epochs=2,
        resamples=100,
        workers=2,
        engine="ray",
        out=str(tmp_path / "run"),
        segmentation={**small, "norm": "batch", "image-size": 32, "depth": 3, "decoder-width": 8},
        erosion={**small, "norm": "group", "crop-size": 16},
    )
    done = run_apart(config, tmp_path)
    assert done.returncode == 0, done.stderr
    ray, inline = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "inline")
    recorder = FolderRecorder.at(replace(config, workers=1, engine="inline", out=str(inline.path)))
    run_inline(recorder.config, recorder)
    tasks = ("six", "two", "segmentation", "erosion")
    files = [name for task in tasks for name in (f"models/{task}.safetensors", f"predictions/{task}.csv")]
    for name in ("metrics.json", *files):
        assert (ray.path / name).read_bytes() == (inline.path / name).read_bytes(), name
    manifest = ray.read_json("manifest.json")
    assert manifest["engine"] == "ray"
    assert set(manifest["workers"]) == {f"{task} {number}" for task in tasks for number in (1, 2)}
    workers = {worker for update in manifest["workers"].values() for worker in update.values()}
    assert len(workers) == 2
    assert json.loads(done.stdout.splitlines()[-1]) not in workers
    assert os.getpid() not in workers


@pytest.mark.slow
def test_ray_keeps_the_tensors_of_each_center_as_inline_does(toy: Toy, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = toy(
        "normed", "placed", method="fedbn", num_rounds=3, local_epochs=2, workers=2, engine="ray", out=str(out)
    )
    done = run_apart(config, tmp_path)
    assert done.returncode == 0, done.stderr
    inline = replace(config, workers=1, engine="inline", out=str(tmp_path / "inline"))
    run_inline(inline, FolderRecorder.at(inline))
    files = sorted(path.relative_to(out) for path in (out / "models").rglob("*.safetensors"))
    assert len(files) == 2 * (1 + 6)
    for name in [*files, Path("metrics.json")]:
        assert (out / name).read_bytes() == (tmp_path / "inline" / name).read_bytes(), name


@pytest.mark.slow
def test_failing_centers_fail_the_run_under_ray(toy: Toy, tmp_path: Path) -> None:
    config = toy("failing", centers="HU,FA", max_failed_rounds=1, workers=2, engine="ray", out=str(tmp_path / "run"))
    done = run_apart(config, tmp_path)
    assert done.returncode != 0
    assert "FederationError: failing had 1 rounds in a row" in done.stderr


def test_without_ray_the_engine_says_what_to_install(toy: Toy, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'ramw-fed\[simulation\]'"):
        run_ray(toy("six", engine="ray"), memory)
