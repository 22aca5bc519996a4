"""`flwr run .`: today's form of flower-simulation. The table in pyproject.toml declares every knob."""

import json
import os
import socket
import subprocess
import sys
import tomllib
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from ramw_fed.config import RunConfig
from ramw_fed.config_sources import declaration, read_declared
from ramw_fed.errors import ConfigError
from ramw_fed.federation.inline import run_inline
from ramw_fed.federation.recorder import FolderRecorder
from ramw_fed.knobs import flatten, nest

ROOT = Path(__file__).parents[2]
FLWR = Path(sys.executable).parent / "flwr"


def declared() -> dict[str, Any]:
    app = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    return flatten(app["config"])


def as_tables(tree: dict[str, Any]) -> str:
    """Return what pyproject.toml should hold, to be pasted."""
    lines = ["[tool.flwr.app.config]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in tree.items() if not isinstance(value, dict)]
    for name, table in tree.items():
        if isinstance(table, dict):
            lines += [
                "",
                f"[tool.flwr.app.config.{name}]",
                *(f"{key} = {json.dumps(one)}" for key, one in table.items()),
            ]
    return "\n".join(lines)


def test_the_run_config_of_flower_is_every_knob_at_its_default() -> None:
    assert declared() == declaration(), f"paste into pyproject.toml:\n\n{as_tables(nest(declaration()))}"


def test_how_the_command_itself_goes_about_a_run_is_no_knob_of_flowers() -> None:
    assert not {"engine", "workers", "baselines"} & set(declared())


def test_every_declared_value_is_of_a_kind_that_flower_takes() -> None:
    assert {type(value) for value in declared().values()} <= {bool, int, float, str}


def test_a_declared_knob_that_nobody_set_is_no_knob_of_a_choice_that_is_not_made() -> None:
    fedavg = read_declared({**declared(), "method": "fedavg"})
    assert fedavg.proximal_mu is None
    assert fedavg == replace(RunConfig(), method="fedavg", proximal_mu=None)
    assert read_declared({**declared(), "proximal-mu": 1}).proximal_mu == 1.0
    assert read_declared({**declared(), "erosion.loss": "focal"}).erosion.focal_gamma == 2.0


def test_a_declared_knob_that_would_do_nothing_is_refused_once_it_is_set() -> None:
    with pytest.raises(ConfigError, match="proximal-mu does nothing under method 'fedavg'"):
        read_declared({**declared(), "method": "fedavg", "proximal-mu": 0.3})
    with pytest.raises(ConfigError, match=r"erosion\.positive-weight does nothing under loss 'cross-entropy'"):
        read_declared({**declared(), "erosion.positive-weight": 3.0})


def test_the_bundle_holds_the_two_apps_and_nothing_else(tmp_path: Path) -> None:
    """A package of the same name in the bundle would be imported before a center's installed one."""
    env = os.environ | {"FLWR_HOME": str(tmp_path / "flwr"), "FLWR_TELEMETRY_ENABLED": "0"}
    done = subprocess.run(
        [str(FLWR), "build", "--app", str(ROOT)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (bundle,) = tmp_path.glob("*.fab")
    names = {name for name in zipfile.ZipFile(bundle).namelist() if not name.startswith(".info")}
    assert names - {"LICENSE"} == {
        "pyproject.toml", "client/__init__.py", "client/app.py", "server/__init__.py", "server/app.py",
    }  # fmt: skip


@pytest.mark.slow
def test_flwr_run_writes_the_run_folder_with_the_bytes_of_inline(root: Path, tmp_path: Path) -> None:
    home = tmp_path / "flwr"
    home.mkdir()
    (home / "config.toml").write_text('[superlink]\ndefault = "local"\n\n[superlink.local]\naddress = ":local:"\n')
    knobs = {
        "cohort": str(root),
        "out": str(tmp_path / "run"),
        "device": "cpu",
        "method": "fedavg",
        "segmentation.num-rounds": 1,
        "segmentation.local-epochs": 1,
        "segmentation.image-size": 32,
        "erosion.num-rounds": 1,
        "erosion.local-epochs": 1,
    }
    env = os.environ | {
        "FLWR_HOME": str(home),
        "PATH": f"{FLWR.parent}{os.pathsep}{os.environ['PATH']}",
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    settings = " ".join(f"{name}={json.dumps(value)}" for name, value in knobs.items())
    federation = "num-supernodes=6 client-resources-num-cpus=1"
    command = [str(FLWR), "run", str(ROOT), "--stream", "-c", settings, "--federation-config", federation]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
    finally:
        _stop_all_of(home)
    assert (tmp_path / "run" / "metrics.json").exists(), done.stdout[-4000:] + done.stderr[-4000:]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["engine"] == "flwr run"
    config = read_config(tmp_path / "run")
    run_inline(config, FolderRecorder.at(replace(config, out=str(tmp_path / "inline"))))
    for name in ("metrics.json", "models/segmentation.safetensors", "models/erosion.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "inline" / name).read_bytes(), name


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def read_config(run: Path) -> RunConfig:
    from ramw_fed.run_folder import RunFolder

    return RunFolder.open(run).config()


def _stop_all_of(home: Path) -> None:
    """`flwr run` leaves a link behind: end the processes that were started with this test's FLWR_HOME, by their ids."""
    mine = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FLWR_HOME") == str(home) and process.pid != os.getpid():
                mine.append(process)
        except psutil.Error:
            continue
    for process in mine:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(mine, timeout=10)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
