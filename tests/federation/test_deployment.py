"""A SuperLink and six SuperNodes on loopback, over TLS and with keys, each with its own center's folder only."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from flwr.app import Context, Message

from ramw_fed.config import PhantomConfig, RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data import layout
from ramw_fed.data.parting import part_by_center
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import ConfigError, FederationError
from ramw_fed.federation.apps import server_app
from ramw_fed.federation.center_file import CenterFile
from ramw_fed.federation.inline import InlineGrid, InProcess, run_inline
from ramw_fed.federation.opening import open_center
from ramw_fed.federation.recorder import FolderRecorder
from ramw_fed.knobs import nest
from ramw_fed.learning.weights_file import load_weights
from ramw_fed.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
KNOBS = {
    "device": "cpu",
    "resamples": 100,
    "segmentation.num-rounds": 1,
    "segmentation.local-epochs": 1,
    "segmentation.image-size": 32,
    "erosion.num-rounds": 1,
    "erosion.local-epochs": 1,
    "erosion.crop-size": 16,
}


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def started(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command; at the end it and all that it started are stopped, by their ids."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=dict(env), stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for one in alive:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


def wait_until_ready(health: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ready = [sys.executable, str(ROOT / "server/deploy/ready.py"), f"127.0.0.1:{health}", "60"]
    assert subprocess.run(ready).returncode == 0, log.read_text()
    assert process.poll() is None, log.read_text()


def flwr(*arguments: str, env: Mapping[str, str], timeout: int = 60) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(TOOLS / "flwr"), *arguments], env=dict(env), capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed") / "phantom"
    write_phantom(PhantomConfig(patients=24, size=64), folder)
    _take_labels(folder)
    return folder


def _take_labels(folder: Path) -> None:
    """HU has masks to test on only, FA no scores at all: what a center has differs from what it is measured on."""
    radiographs = read_cohort(folder).radiographs
    for one in radiographs:
        if one.center == "HU" and one.mask_split in ("train", "val"):
            (folder / layout.BONE_MASKS / one.mask_split / f"{one.name}.npy").unlink()
    without = {one.name for one in radiographs if one.center == "FA"}
    scores = [
        entry for entry in json.loads((folder / layout.JOINT_SCORES).read_text()) if entry["identifier"] not in without
    ]
    (folder / layout.JOINT_SCORES).write_text(json.dumps(scores))


def test_a_center_file_says_name_and_folder_and_keeps_values_by_default(tmp_path: Path) -> None:
    (tmp_path / "center.toml").write_text('name = "HU"\ndata = "cohort"\n')
    own = CenterFile.open(tmp_path / "center.toml")
    assert (own.name, own.data, own.share_values) == ("HU", str((tmp_path / "cohort").resolve()), False)


@pytest.mark.parametrize("text", ['name = "HU"\n', 'name = "HU"\ndata = "x"\nround = 3\n', 'name = "HU"\ndata = 3\n'])
def test_a_center_file_that_is_not_whole_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "center.toml").write_text(text)
    with pytest.raises(ConfigError):
        CenterFile.open(tmp_path / "center.toml")


class Deployed(InProcess):
    """Runs the center app as a center's own machine would: by its center.toml, without a partition."""

    def __init__(self, files: list[Path]) -> None:
        super().__init__()
        self.files = files

    def submit(self, message: Message, context: Context) -> None:
        own = self.files[int(context.node_config["partition-id"])]
        super().submit(message, replace(context, node_config={"center-file": str(own)}))


def write_centers(cohort: Path, folder: Path, share_values: str) -> list[Path]:
    files = []
    for center, own in part_by_center(cohort, folder / "centers").items():
        files.append(own.with_suffix(".toml"))
        files[-1].write_text(f'name = "{center}"\ndata = "{own.name}"\nshare-values = {share_values}\n')
    return files


@pytest.mark.parametrize(("share_values", "split"), [("true", "official"), ("false", "official"), ("false", "grouped")])
def test_centers_that_stand_for_themselves_give_the_bytes_of_a_simulation(
    cohort: Path, tmp_path: Path, share_values: str, split: str
) -> None:
    files = write_centers(cohort, tmp_path, share_values)
    centers = read_cohort(cohort).centers
    config = replace(inline_config(cohort, tmp_path / "inline", centers), split=split)
    run_inline(config, FolderRecorder.at(config))
    own = replace(config, cohort="", out=str(tmp_path / "run"))
    with InlineGrid(len(centers), Deployed(files)) as grid:
        server_app(own)(grid, grid.context(0))
    deployed, inline = RunFolder.open(tmp_path / "run"), RunFolder.open(tmp_path / "inline")
    for task in ("segmentation", "erosion"):
        assert tensors(deployed, task) == tensors(inline, task)
        ours, theirs = deployed.read_json("metrics.json")[task]["test"], inline.read_json("metrics.json")[task]["test"]
        assert set(ours["centers"]) == set(centers)
        assert ours["centers"] == theirs["centers"]
        assert ours["macro"] == theirs["macro"]
        if task == "segmentation" and split == "official":
            assert ours["centers"]["HU"]["dsc"]["value"] is not None  # it trained nothing, and is measured
        if share_values == "true":
            assert ours == theirs
        else:
            assert {one["value"] for name, one in ours["pooled"].items() if name != "by"} == {None}
            assert ours["pooled"]["by"].keys() == theirs["pooled"]["by"].keys()
            assert not (tmp_path / "run" / "predictions").exists()


@pytest.mark.parametrize("method", ["fedbn", "silobn"])
def test_deployed_centers_keep_what_a_simulation_gathers(cohort: Path, tmp_path: Path, method: str) -> None:
    """Two processes' worth of coordinators: the second goes on where the first was cut off after a round."""
    files = write_centers(cohort, tmp_path, "false")
    centers = ("BTXRD", "DHA", "HMCRD", "SCGH")  # those with labels of both tasks
    knobs = {**KNOBS, "method": method, "segmentation.num-rounds": 2, "erosion.num-rounds": 2}
    knobs |= {"cohort": str(cohort), "out": str(tmp_path / "inline"), "centers": ",".join(centers), "workers": 1}
    config = resolve(nest(knobs))
    run_inline(config, FolderRecorder.at(config))
    own = replace(config, cohort="", out=str(tmp_path / "run"))
    for attempt in ("cut off", "whole"):
        with InlineGrid(6, Deployed(files)) as grid, pytest.MonkeyPatch.context() as patch:
            if attempt == "cut off":
                patch.setattr(FolderRecorder, "on_round", _then_stop(FolderRecorder.on_round))
                with pytest.raises(KeyboardInterrupt):
                    server_app(own)(grid, grid.context(0))
            else:
                server_app(own)(grid, grid.context(0))
    deployed, inline = RunFolder.open(tmp_path / "run"), RunFolder.open(tmp_path / "inline")
    assert not (deployed.path / "models" / "centers").exists()
    assert not (deployed.path / "checkpoints" / "centers").exists()
    (kept,) = (tmp_path / "centers" / "state").iterdir()
    for task in ("segmentation", "erosion"):
        assert tensors(deployed, task) == tensors(inline, task)
        assert (
            deployed.read_json("metrics.json")[task]["test"]["macro"]
            == (inline.read_json("metrics.json")[task]["test"]["macro"])
        )
        best = f"round-{deployed.load_model(task)[1].round:05d}.safetensors"
        for center, gathered in inline.load_own(task).items():
            weights, card = load_weights(kept / center / task / best)
            assert card.notes["center"] == center
            assert all(torch.equal(weights[name], gathered[name]) for name in gathered)


def _then_stop(work: Callable[..., None]) -> Callable[..., None]:
    def wrapped(*arguments: Any) -> None:
        work(*arguments)
        raise KeyboardInterrupt

    return wrapped


def test_a_center_runs_code_of_others_only_where_its_own_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "center.toml"
    config = replace(RunConfig(), tasks=("segmentation", "elsewhere:TASK"))
    path.write_text('name = "HU"\ndata = "cohort"\n')
    with pytest.raises(ConfigError, match=r"does not allow: elsewhere:TASK; .*own-code"):
        open_center({"center-file": str(path)}, config)
    with pytest.raises(ConfigError, match="does not allow: elsewhere:METHOD"):
        open_center({"center-file": str(path)}, replace(RunConfig(), method="elsewhere:METHOD", proximal_mu=None))
    path.write_text('name = "HU"\ndata = "cohort"\nown-code = ["elsewhere:TASK"]\n')
    CenterFile.open(path).refuse_other_code(config)


def test_a_deployment_must_say_for_whom_it_waits(cohort: Path, tmp_path: Path, memory: Any) -> None:
    files = write_centers(cohort, tmp_path, "false")
    config = inline_config(cohort, tmp_path, ())
    with InlineGrid(6, Deployed(files)) as grid, pytest.raises(FederationError, match="set centers to their names"):
        server_app(config, memory)(grid, grid.context(0))


@pytest.mark.slow
def test_six_nodes_on_loopback_give_the_bytes_of_inline(cohort: Path, tmp_path: Path) -> None:
    centers = read_cohort(cohort).centers
    fleet, link_health, *ports = free_ports(2 + 2 * len(centers))
    env = os.environ | {
        "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(tmp_path / "flwr"),
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "HOST": "127.0.0.1",
        "PORT": str(fleet),
        "HEALTH": f"127.0.0.1:{link_health}",
        "OMP_NUM_THREADS": "1",
    }
    keys = tmp_path / "keys"
    subprocess.run([str(ROOT / "server/deploy/certificates.sh"), str(keys), "localhost", "127.0.0.1"], check=True)
    (tmp_path / "flwr").mkdir()
    (tmp_path / "flwr" / "config.toml").write_text(
        '[superlink]\ndefault = "hospitals"\n\n[superlink.hospitals]\n'
        f'address = "127.0.0.1:{fleet}"\nroot-certificates = "{keys / "ca.crt"}"\n'
    )
    with ExitStack() as stack:
        log = tmp_path / "link.log"
        start = [str(ROOT / "server/deploy/start.sh"), str(keys), str(tmp_path / "state")]
        link = stack.enter_context(started(start, env, log))
        wait_until_ready(link_health, link, log)
        files = write_centers(cohort, tmp_path, "true")
        for number, center in enumerate(centers):
            home = tmp_path / center
            subprocess.run([str(ROOT / "client/deploy/key.sh"), str(home), center], check=True)
            flwr("supernode", "register", str(home / f"{center}.pub"), "hospitals", "--name", center, env=env)
            runtime, health = ports[2 * number : 2 * number + 2]
            own = env | {
                "RUNTIME_PORT": str(runtime),
                "HEALTH": f"127.0.0.1:{health}",
                "RAMW_FED_CACHE": str(home / "cache"),
                "FLWR_HOME": str(home / "flwr"),
            }
            start = [str(ROOT / "client/deploy/start.sh"), f"127.0.0.1:{fleet}", str(keys / "ca.crt")]
            start += [str(home / center), str(files[number])]
            stack.enter_context(started(start, own, tmp_path / f"{center}.log"))
        knobs = {**KNOBS, "centers": ",".join(centers), "out": str(tmp_path / "run")}
        settings = " ".join(f"{name}={json.dumps(value)}" for name, value in knobs.items())
        done = flwr("run", str(ROOT), "hospitals", "--stream", "-c", settings, env=env, timeout=1500)
        deadline = time.monotonic() + 30
        while not (tmp_path / "run" / "metrics.json").exists() and time.monotonic() < deadline:
            time.sleep(0.5)
        assert (tmp_path / "run" / "metrics.json").exists(), done.stdout[-6000:]
    config = inline_config(cohort, tmp_path / "inline", centers)
    run_inline(config, FolderRecorder.at(config))
    deployed, inline = RunFolder.open(tmp_path / "run"), RunFolder.open(tmp_path / "inline")
    for task in ("segmentation", "erosion"):
        assert tensors(deployed, task) == tensors(inline, task)
    assert deployed.read_json("metrics.json") == inline.read_json("metrics.json")
    workers = deployed.read_json("manifest.json")["workers"]["erosion 1"]
    assert set(workers) == set(centers) - {"FA"}  # which has no scores
    assert len(set(workers.values())) == len(workers)


def inline_config(cohort: Path, out: Path, centers: tuple[str, ...]) -> RunConfig:
    config = resolve(nest({**KNOBS, "cohort": str(cohort), "out": str(out), "centers": ",".join(centers)}))
    return replace(config, workers=1)


def tensors(folder: RunFolder, task: str) -> dict[str, bytes]:
    """Return the bytes of each tensor: the card beside them names another cohort, as each center hashed its own."""
    weights, _ = folder.load_model(task)
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
