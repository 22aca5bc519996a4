"""Runs of FedBN and SiloBN with the built-in tasks: what they leave, and whose tensors are used afterwards."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ramw_fed import api
from ramw_fed.center import Center
from ramw_fed.cli import app
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.cohort import Cohort
from ramw_fed.errors import ConfigError, RunError
from ramw_fed.methods import get_method
from ramw_fed.methods.unseen import RULES, complete_for_unseen
from ramw_fed.rounds import federate
from ramw_fed.run_folder import RunFolder
from ramw_fed.starting_weights import starting_weights
from ramw_fed.tasks import get_task

TASKS = ("segmentation", "erosion")
HELD_OUT = "SCGH"
TINY = {
    "device": "cpu",
    "num-rounds": 2,
    "local-epochs": 1,
    "image-size": 32,
    "crop-size": 16,
    "resamples": 100,
    "centers": "DHA,FA,HMCRD,HU",
    "segmentation": {"depth": 3, "decoder-width": 16, "local-epochs": 8, "learning-rate": 0.02, "batch-size": 2},
}


@pytest.fixture(scope="module")
def configured(phantom_root: Path) -> Callable[[str], RunConfig]:
    return lambda method: resolve({**TINY, "method": method, "cohort": str(phantom_root), "workers": 1})


@pytest.fixture(scope="module")
def finished(configured: Callable[[str], RunConfig], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return api.run(configured("fedbn"), out=tmp_path_factory.mktemp("runs") / "fedbn")


@pytest.fixture(scope="module")
def part(phantom_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Returns a folder with the radiographs of some centers only."""
    parted = api.part_by_center(phantom_root, tmp_path_factory.mktemp("parted") / "centers")
    return lambda center: parted[center]


def packed(weights: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}


@pytest.mark.parametrize("task", TASKS)
def test_a_run_leaves_the_tensors_of_the_loop_without_flower(
    finished: RunFolder, phantom_cohort: Cohort, task: str
) -> None:
    config, method = finished.config(), get_method("fedbn")
    shared, card = finished.load_model(task)
    centers = [Center(name, phantom_cohort, config, method) for name in config.centers]
    start = starting_weights(get_task(task), phantom_cohort.description, config)
    wanted = federate(centers, method, get_task(task), start, card.round)
    assert packed(shared) == packed(wanted.weights)
    own = finished.load_own(task)
    assert {center: packed(tensors) for center, tensors in own.items()} == {
        center: packed(dict(tensors)) for center, tensors in wanted.own.items()
    }


def test_evaluating_a_run_on_its_own_centers_gives_its_own_metrics(
    finished: RunFolder, part: Callable[[str], Path]
) -> None:
    metrics = finished.read_json("metrics.json")
    for center in ("FA", "HU"):
        found = api.evaluate(finished.path, part(center))
        for task in TASKS:
            assert found[task]["test"]["centers"][center] == metrics[task]["test"]["centers"][center]


def test_a_center_that_took_no_part_wants_a_rule(finished: RunFolder, part: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=f"'{HELD_OUT}' took no part.*--unseen-batch-norm mean or"):
        api.evaluate(finished.path, part(HELD_OUT))
    done = CliRunner().invoke(app, ["evaluate", str(finished.path), "--cohort", str(part(HELD_OUT))])
    assert isinstance(done.exception, ConfigError)


@pytest.mark.parametrize("rule", ["mean", "re-estimate", "least-entropy"])
def test_each_rule_measures_it_with_the_weights_that_the_rule_gives(
    finished: RunFolder, part: Callable[[str], Path], phantom_cohort: Cohort, rule: str, tmp_path: Path
) -> None:
    arguments = ["evaluate", str(finished.path), "--cohort", str(part(HELD_OUT)), "--unseen-batch-norm", rule]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "found")])
    assert done.exit_code == 0, done.output
    config, task = finished.config(), get_task("segmentation")
    center = Center(HELD_OUT, phantom_cohort, config, get_method("fedbn"))
    network = task.untrained(phantom_cohort.description, config.segmentation)
    shared, own = finished.load_model(task.name)[0], finished.load_own(task.name)
    full = complete_for_unseen(shared, own, rule, network, center.images(task, "test"))
    wanted = center.measure(task, full, "test")
    found = RunFolder(tmp_path / "found").read_predictions("segmentation")
    assert np.array_equal(found["dsc"], wanted["dsc"], equal_nan=True)
    others = [complete_for_unseen(shared, own, name, network, center.images(task, "test")) for name in RULES]
    means = {float(np.nanmean(center.measure(task, each, "test")["dsc"])) for each in others}
    assert len(means) == len(RULES)
    assert max(means) > 0.1


def test_the_rule_may_stand_in_the_configuration(
    finished: RunFolder, part: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(finished.path, tmp_path / "run")
    text = (tmp_path / "run" / "config.toml").read_text()
    (tmp_path / "run" / "config.toml").write_text(text.replace('norm = "refuse"', 'norm = "mean"'))
    given = api.evaluate(finished.path, part(HELD_OUT), unseen_batch_norm="mean")
    assert api.evaluate(tmp_path / "run", part(HELD_OUT)) == given


def test_predict_takes_the_tensors_of_the_center_that_is_named(
    finished: RunFolder, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    image = next(one.image for one in phantom_cohort.at("HU").radiographs if one.masks is not None)

    def masks(*options: str) -> np.ndarray:
        out = tmp_path / "-".join(["out", *options])
        done = CliRunner().invoke(app, ["predict", str(finished.path), str(image), "--out", str(out), *options])
        assert done.exit_code == 0, done.output + str(done.exception)
        return np.asarray(np.load(out / f"{image.stem}.npy"))

    own, other, mean = masks("--center", "HU"), masks("--center", "FA"), masks("--unseen-batch-norm", "mean")
    assert not np.array_equal(own, other)
    assert not np.array_equal(own, mean)
    stranger = masks("--center", "MAYO", "--unseen-batch-norm", "mean")
    assert np.array_equal(stranger, mean)


def test_predict_asks_whose_images_they_are(finished: RunFolder, phantom_cohort: Cohort, tmp_path: Path) -> None:
    images, out = [phantom_cohort.radiographs[0].image], tmp_path / "out"
    with pytest.raises(ConfigError, match=r"--center \(of DHA, FA, HMCRD, HU\), or choose --unseen-batch-norm mean"):
        api.predict(images, out=out, run=finished.path)
    with pytest.raises(ConfigError, match="'MAYO' took no part"):
        api.predict(images, out=out, run=finished.path, center="MAYO")
    with pytest.raises(ConfigError, match="predict takes them one by one"):
        api.predict(images, out=out, run=finished.path, unseen_batch_norm="re-estimate")
    with pytest.raises(ConfigError, match="the shipped weights are the same for every center"):
        api.predict(images, out=out, center="HU")
    assert not out.exists()


def test_where_all_tensors_are_shared_neither_center_nor_rule_is_taken(
    configured: Callable[[str], RunConfig], phantom_cohort: Cohort, phantom_root: Path, tmp_path: Path
) -> None:
    config = replace(configured("fedavg"), tasks=("segmentation",))
    folder = api.run(config, out=tmp_path / "fedavg")
    images = [phantom_cohort.radiographs[0].image]
    with pytest.raises(ConfigError, match="have the same weights; leave --center out"):
        api.predict(images, out=tmp_path / "out", run=folder.path, center="HU")
    with pytest.raises(ConfigError, match="unseen-batch-norm does nothing under method 'fedavg'"):
        api.evaluate(folder.path, phantom_root, unseen_batch_norm="mean")
    assert not (folder.path / "models" / "centers").exists()


def test_a_run_whose_centers_kept_their_tensors_to_themselves_says_so(
    finished: RunFolder, part: Callable[[str], Path], phantom_cohort: Cohort, tmp_path: Path
) -> None:
    """As the coordinator of a deployment has it."""
    shutil.copytree(finished.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "models" / "centers")
    with pytest.raises(RunError, match="only a simulation gathers them"):
        api.evaluate(tmp_path / "run", part("HU"))
    with pytest.raises(RunError, match="only a simulation gathers them"):
        api.predict([phantom_cohort.radiographs[0].image], out=tmp_path / "out", run=tmp_path / "run", center="HU")


def test_shared_tensors_alone_are_nothing_to_start_from(
    finished: RunFolder, configured: Callable[[str], RunConfig], phantom_cohort: Cohort
) -> None:
    config = replace(configured("fedbn"), start_from=str(finished.path))
    with pytest.raises(ConfigError, match="they kept erosion's batch normalisation"):
        starting_weights(get_task("erosion"), phantom_cohort.description, config)


def test_a_baseline_of_one_center_alone_is_trained_under_silobn_too(
    configured: Callable[[str], RunConfig], tmp_path: Path
) -> None:
    config = replace(configured("silobn"), tasks=("segmentation",), baselines=True)
    config = replace(config, segmentation=replace(config.segmentation, num_rounds=1, local_epochs=1))
    folder = api.run(config, out=tmp_path / "silobn")
    assert any(title.endswith(" alone") for title in folder.read_json("baselines.json"))
    assert any((folder.path / "overlays").iterdir())
