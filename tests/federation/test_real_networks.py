"""The engines with the networks, losses and radiographs of the built-in tasks: other roads, the same bytes.

Wanted is the plain loop of ``ramw_fed.rounds``, which knows neither Flower nor messages nor processes.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch

from ramw_fed.center import Center, initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.cohort import Cohort
from ramw_fed.federation.coordinator import Outcome
from ramw_fed.federation.inline import run_inline
from ramw_fed.federation.recorder import FolderRecorder
from ramw_fed.methods import Weights, get_method
from ramw_fed.rounds import federate
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks import get_task

TASKS = ("segmentation", "erosion")
SMALL = {
    "device": "cpu",
    "workers": 1,
    "num-rounds": 2,
    "local-epochs": 1,
    "image-size": 32,
    "crop-size": 16,
    "resamples": 100,
    "segmentation": {"depth": 3, "decoder-width": 8},
}
METHODS = {"fedavg": {"method": "fedavg"}, "fedprox": {"method": "fedprox", "proximal-mu": 0.5}}
GRID = [
    pytest.param(("fedavg", "group"), id="fedavg-group"),
    pytest.param(("fedprox", "batch"), id="fedprox-batch"),
    pytest.param(("fedavg", "batch"), id="fedavg-batch", marks=pytest.mark.slow),
    pytest.param(("fedprox", "group"), id="fedprox-group", marks=pytest.mark.slow),
]


def configured(choice: tuple[str, str], root: Path, out: Path) -> RunConfig:
    method, norm = choice
    return resolve({**SMALL, **METHODS[method], "norm": norm, "cohort": str(root), "out": str(out)})


def run(config: RunConfig) -> Outcome:
    recorder = FolderRecorder.at(config)
    run_inline(config, recorder)
    assert recorder.outcome is not None
    return recorder.outcome


def written(out: Path) -> dict[str, bytes]:
    """Return the files that must not depend on the road, by name."""
    names = ["metrics.json", *(f"models/{task}.safetensors" for task in TASKS)]
    return {name: (out / name).read_bytes() for name in [*names, *(f"predictions/{task}.csv" for task in TASKS)]}


def packed(weights: Weights) -> bytes:
    return safetensors.torch.save(dict(weights))


@pytest.fixture(scope="module", params=GRID)
def config(request: pytest.FixtureRequest, phantom_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return configured(request.param, phantom_root, tmp_path_factory.mktemp("real") / "run")


@pytest.fixture(scope="module")
def outcome(config: RunConfig) -> Outcome:
    return run(config)


@pytest.mark.parametrize("name", TASKS)
def test_flower_rounds_of_the_real_networks_are_the_rounds_without_flower(
    config: RunConfig, outcome: Outcome, phantom_cohort: Cohort, name: str
) -> None:
    task, method = get_task(name), get_method(config.method)
    centers = [Center(center, phantom_cohort, config, method) for center in phantom_cohort.centers]
    start = initial_weights(task, phantom_cohort.description, config)
    wanted = federate(centers, method, task, start, 2).weights
    last = outcome.state.tasks[name].weights
    assert packed(last) == packed(wanted)
    assert packed(last) != packed(start)
    assert any("running_var" in key for key in last) is (config.training(name).norm == "batch")


def test_two_workers_give_every_file_of_one(config: RunConfig, outcome: Outcome, tmp_path: Path) -> None:
    shared = run(replace(config, workers=2, out=str(tmp_path / "shared")))
    assert written(tmp_path / "shared") == written(Path(config.out))
    workers = RunFolder(tmp_path / "shared").read_json("manifest.json")["workers"]
    assert set(workers) == {f"{name} {number}" for name in TASKS for number in (1, 2)}
    processes = {process for update in workers.values() for process in update.values()}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert [packed(shared.state.tasks[name].weights) for name in TASKS] == [
        packed(outcome.state.tasks[name].weights) for name in TASKS
    ]


def test_pooled_centers_train_as_one_center_would_and_a_closed_test_split_stays_closed(
    phantom_root: Path, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    config = replace(
        configured(("fedavg", "batch"), phantom_root, tmp_path),
        tasks=("erosion",),
        centers=phantom_cohort.centers,
        pool=True,
        open_test=False,
    )
    outcome = run(config)
    central = Center("pooled", phantom_cohort.pooled(), config, get_method("fedavg"))
    task = get_task("erosion")
    start = initial_weights(task, phantom_cohort.description, config)
    wanted = federate([central], get_method("fedavg"), task, start, 2).weights
    assert safetensors.torch.save(outcome.state.tasks["erosion"].weights) == safetensors.torch.save(wanted)
    assert list(RunFolder(tmp_path).rounds()[0]["centers"]) == ["pooled"]
    assert not outcome.measured
    assert not (tmp_path / "test-opened.json").exists()
    assert (tmp_path / "models" / "erosion.safetensors").exists()
