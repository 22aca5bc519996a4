"""What the demo is there to show: the federation beats each way of doing without it, on patients none has seen."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from ramw_fed import api
from ramw_fed.baselines import TRIVIAL, Baseline, measure_baseline
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.run_folder import RunFolder

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parent.parent / "simulations" / "demo.toml"
METRIC = {"segmentation": "dsc", "erosion": "auroc"}

Pooled = Mapping[str, Mapping[str, float]]


def value(scope: Mapping[str, Any], task: str) -> float:
    """Return the task's main metric; an absent one fails here."""
    return float(scope[METRIC[task]]["value"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = resolve({**read_toml(DEMO), "baselines": False, "resamples": 100, "device": "cpu"})
    return api.run(config, out=tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def federated(demo: RunFolder) -> Mapping[str, Mapping[str, Any]]:
    """Task to the scopes of the test split."""
    return {task: splits["test"] for task, splits in demo.read_json("metrics.json").items()}


def measured(demo: RunFolder, titles: Callable[[str], Mapping[str, str]]) -> Pooled:
    """Return the pooled metric by task and title of baselines, ``titles(task)`` being title to only center or nothing.

    Two processes share the work; each trains at matched rounds and steps from the federation's start.
    """
    config = demo.config()
    context = get_context("forkserver")
    context.set_forkserver_preload(["ramw_fed.baselines"])
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        waiting: dict[tuple[str, str], Future[dict[str, Any]]] = {
            (task, title): pool.submit(measure_baseline, Baseline(title=title, task=task, center=center), config)
            for task in METRIC
            for title, center in titles(task).items()
        }
        found: dict[str, dict[str, float]] = {task: {} for task in METRIC}
        for (task, title), scopes in waiting.items():
            found[task][title] = value(scopes.result()["pooled"], task)
            print(task, title, found[task][title])
    return found


@pytest.fixture(scope="module")
def alone(demo: RunFolder) -> Pooled:
    """Task and center to what a model of that center alone, where it has something to learn from, reaches at all."""
    trained = demo.read_json("manifest.json")["centers"]
    return measured(demo, lambda task: {center: center for center in trained[task]})


@pytest.fixture(scope="module")
def trivial(demo: RunFolder) -> Pooled:
    return measured(demo, lambda task: dict.fromkeys(TRIVIAL[task], ""))


def test_every_center_learns_to_find_the_bones(federated: Mapping[str, Mapping[str, Any]]) -> None:
    scopes = federated["segmentation"]
    centers = {center: value(scope, "segmentation") for center, scope in scopes["centers"].items()}
    print(value(scopes["pooled"], "segmentation"), centers)
    assert len(centers) == 6
    assert value(scopes["pooled"], "segmentation") >= 0.90
    assert min(centers.values()) >= 0.85, centers


def test_the_centers_differ_in_patients_erosions_and_labels(demo: RunFolder) -> None:
    trained = demo.read_json("manifest.json")["centers"]
    patients = {task: {name: one["patients"] for name, one in own.items()} for task, own in trained.items()}
    assert max(patients["segmentation"].values()) >= 1.4 * min(patients["segmentation"].values())
    assert set(patients["segmentation"]) - set(patients["erosion"]) == {"FA"}
    assert min(patients["erosion"].values()) <= 5 < max(patients["erosion"].values())


def test_at_least_ten_patients_a_center_are_measured(federated: Mapping[str, Mapping[str, Any]]) -> None:
    assert min(scope["dsc"]["n"] for scope in federated["segmentation"]["centers"].values()) >= 10


def test_the_federation_learns_to_find_erosions(federated: Mapping[str, Mapping[str, Any]]) -> None:
    print(value(federated["erosion"]["pooled"], "erosion"))
    assert value(federated["erosion"]["pooled"], "erosion") >= 0.80


@pytest.mark.parametrize("task", METRIC)
def test_trivial_methods_are_beaten(task: str, federated: Mapping[str, Mapping[str, Any]], trivial: Pooled) -> None:
    assert set(trivial[task]) == set(TRIVIAL[task])
    assert value(federated[task]["pooled"], task) > max(trivial[task].values())


def test_the_phantom_cannot_be_solved_trivially(trivial: Pooled) -> None:
    assert trivial["segmentation"]["nearest template"] < 0.60
    assert trivial["erosion"]["mean intensity"] <= 0.60


@pytest.mark.parametrize("task", METRIC)
def test_the_centers_together_beat_the_mean_of_each_alone(
    task: str, federated: Mapping[str, Mapping[str, Any]], alone: Pooled
) -> None:
    assert len(alone[task]) == {"segmentation": 6, "erosion": 5}[task]  # FA has no scores
    assert value(federated[task]["pooled"], task) > mean(alone[task].values())
