from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ramw_fed.center import Center, initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.cohort import Cohort
from ramw_fed.errors import ConfigError, PrivacyError
from ramw_fed.learning.weights_file import Card, save_weights
from ramw_fed.methods import get_method
from ramw_fed.preflight import refuse_what_cannot_start
from ramw_fed.starting_weights import (
    START,
    UNPROTECTED,
    is_protected,
    notes_of_start,
    refuse_unprotected_start,
    starting_weights,
)
from ramw_fed.tasks import get_task

TASKS = ("segmentation", "erosion")
TINY = {
    "device": "cpu",
    "image-size": 32,
    "crop-size": 16,
    "local-epochs": 1,
    "norm": "group",
    "segmentation": {"depth": 3, "decoder-width": 16},
}
Given = Callable[..., Path]


@pytest.fixture
def given(phantom_cohort: Cohort, tmp_path: Path) -> Given:
    """Returns a file with seeded weights whose card says what it is told to."""

    def write(task: str, kind: str = "phantom", **notes: str) -> Path:
        config, description = resolve(TINY), replace(phantom_cohort.description, kind=kind)
        card = Card(
            task=task,
            training=config.training(task).write(),
            description=description,
            cohort="0",
            round=1,
            version="0",
            notes=notes,
        )
        save_weights(tmp_path / f"{task}.safetensors", initial_weights(get_task(task), description, config), card)
        return tmp_path / f"{task}.safetensors"

    return write


def card(given: Given, kind: str, **notes: str) -> Card:
    from ramw_fed.learning.weights_file import load_weights

    return load_weights(given("erosion", kind, **notes))[1]


def heads_only(**knobs: object) -> RunConfig:
    return resolve({**TINY, "trainable": "head", **knobs})


@pytest.mark.parametrize("task", TASKS)
def test_with_trainable_head_an_update_differs_from_the_start_in_the_head_alone(
    phantom_root: Path, phantom_cohort: Cohort, given: Given, task: str
) -> None:
    config = heads_only(**{"start-from": str(given(task)), "cohort": str(phantom_root)})
    start = starting_weights(get_task(task), phantom_cohort.description, config)
    center = Center("DHA", phantom_cohort, config, get_method("fedprox"))
    update = center.train(get_task(task), start, 1)
    moved = {name.split(".")[0] for name in start if not torch.equal(start[name], update.weights[name])}
    assert moved == {{"segmentation": "segmentation_head", "erosion": "fc"}[task]}
    assert update.squared_drift > 0


@pytest.mark.parametrize("task", TASKS)
def test_a_frozen_backbone_of_random_weights_is_refused_before_a_run(
    phantom_root: Path, given: Given, task: str
) -> None:
    other = given(TASKS[1 - TASKS.index(task)])
    for start in ("", str(other)):
        config = heads_only(tasks=task, cohort=str(phantom_root), **{"start-from": start})
        with pytest.raises(ConfigError, match=f"{task}.trainable is 'head'.*frozen random backbone.*ramw-fed pretrain"):
            refuse_what_cannot_start(config)


def test_a_run_with_frozen_backbones_goes_on_when_the_file_it_began_with_is_gone(phantom_root: Path) -> None:
    refuse_what_cannot_start(heads_only(cohort=str(phantom_root), **{"start-from": "/gone"}), resume=True)


@pytest.mark.parametrize(
    ("kind", "notes", "is_taken"),
    [
        ("phantom", {}, True),
        ("real", {"privacy": "patient"}, True),
        ("real", {}, False),
        ("real", {"privacy": "none"}, False),
        ("phantom", {START: UNPROTECTED}, False),
        ("real", {"privacy": "patient", START: UNPROTECTED}, False),
    ],
)
def test_a_private_run_takes_weights_of_phantoms_and_of_private_runs_only(
    given: Given, kind: str, notes: dict[str, str], is_taken: bool
) -> None:
    found, config = card(given, kind, **notes), resolve({**TINY, "start-from": "somewhere"})
    assert is_protected(found) == is_taken
    if is_taken:
        refuse_unprotected_start(found, config)
        return
    with pytest.raises(PrivacyError, match=r"'somewhere'.*patients without privacy.*ramw-fed pretrain"):
        refuse_unprotected_start(found, config)


def test_weights_of_a_run_on_phantoms_say_that_it_started_from_patients(given: Given, tmp_path: Path) -> None:
    task = get_task("erosion")

    def notes(path: object) -> dict[str, str]:
        return notes_of_start(task, resolve({**TINY, "start-from": str(path)}))

    assert notes(given("erosion", "real")) == notes(tmp_path / "gone.safetensors") == {START: UNPROTECTED}
    assert notes(given("erosion")) == notes(given("segmentation", "real")) == notes("") == {}


def test_a_private_run_is_refused_before_it_begins_where_it_would_start_from_patients(
    phantom_root: Path, given: Given
) -> None:
    def private(path: Path) -> RunConfig:
        knobs = {"privacy": "patient", "tasks": "erosion", "target-epsilon": 8.0, "erosion": {"loss": "weighted"}}
        return resolve({**TINY, **knobs, "cohort": str(phantom_root), "start-from": str(path)})

    refuse_what_cannot_start(private(given("erosion")))
    with pytest.raises(PrivacyError, match="patients without privacy"):
        refuse_what_cannot_start(private(given("erosion", "real")))
