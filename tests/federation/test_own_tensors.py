"""What centers keep: it never travels, and runs that are killed, retried or shared out among workers end alike.

The network is a batch normalisation and a line; wanted is the plain loop of ``ramw_fed.rounds``.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Message
from torch import Tensor

from ramw_fed.center import Center, initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import ConfigError, FederationError, StateError
from ramw_fed.federation import recorder as recording
from ramw_fed.federation.apps import server_app
from ramw_fed.federation.center_file import CenterFile
from ramw_fed.federation.inline import InlineGrid, InProcess, run_inline
from ramw_fed.federation.own_tensors import OwnTensors
from ramw_fed.federation.packets import unpack
from ramw_fed.federation.recorder import FolderRecorder
from ramw_fed.federation.records import read_order
from ramw_fed.learning.weights_file import Card, load_weights
from ramw_fed.methods import get_method
from ramw_fed.rounds import Federated, federate
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks import get_task

Toy = Callable[..., RunConfig]
METHODS = ("fedbn", "silobn")
STATISTICS = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
OWN = {"fedbn": STATISTICS | {"norm.weight", "norm.bias"}, "silobn": STATISTICS}
ALL = OWN["fedbn"] | {"line.weight", "line.bias"}


@pytest.fixture
def configured(toy: Toy, tmp_path: Path) -> Callable[..., RunConfig]:
    def configure(*names: str, **knobs: Any) -> RunConfig:
        fixed = {"method": "fedbn", "num_rounds": 4, "local_epochs": 2, "out": str(tmp_path / "run")}
        return toy(*(names or ("normed",)), **(fixed | knobs))

    return configure


def finish(config: RunConfig, executor: InProcess | None = None) -> dict[str, bytes]:
    """Run, or go on, and return the bytes that must not depend on how."""
    if executor is None:
        run_inline(config, FolderRecorder.at(config))
    else:
        with InlineGrid(6, executor) as grid:
            server_app(config, FolderRecorder.at(config))(grid, grid.context(0))
    out = Path(config.out)
    files = [out / "metrics.json", *(out / "models").rglob("*.safetensors"), *(out / "predictions").iterdir()]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def reference(config: RunConfig, root: Path, name: str, rounds: int = 0) -> Federated:
    """What the loop without Flower ends with."""
    task, cohort, method = get_task(f"toy_tasks:{name.upper()}"), read_cohort(root), get_method(config.method)
    centers = [Center(center, cohort, config, method) for center in config.centers or cohort.centers]
    start = initial_weights(task, cohort.description, config)
    return federate(centers, method, task, start, rounds or config.training(name).num_rounds)


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def kept(config: RunConfig, center: str, task: str = "normed") -> list[Path]:
    """Return the files that a simulated center keeps, by round."""
    (run,) = (Path(config.out) / "checkpoints" / "centers").iterdir()
    return sorted((run / center / task).iterdir())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_ends_with_the_tensors_of_the_rounds_without_flower(
    configured: Any, root: Path, method: str, workers: int
) -> None:
    config = configured("normed", "placed", method=method, workers=workers)
    finish(config)
    folder = RunFolder(Path(config.out))
    for name in ("normed", "placed"):
        shared, card = folder.load_model(name)
        wanted = reference(config, root, name, card.round)
        assert set(shared) == ALL - OWN[method]
        assert equal(shared, wanted.weights)
        own = folder.load_own(name)
        assert set(own) == set(wanted.own)
        assert all(set(own[center]) == OWN[method] and equal(own[center], wanted.own[center]) for center in own)
    assert not equal(own["FA"], own["HU"])


@pytest.mark.parametrize("method", METHODS)
def test_no_tensor_of_a_center_travels_or_comes_into_a_checkpoint(
    configured: Any, root: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    config = configured(method=method, num_rounds=3)
    up: list[set[str]] = []
    down: list[tuple[int, set[str]]] = []

    class Watched(InProcess):
        def submit(self, message: Message, context: Context) -> None:
            order = read_order(message)
            if order.ticket.purpose != "enrol":
                down.append((order.ticket.own, set(order.weights)))
            super().submit(message, context)

        def results(self, timeout_s: float) -> list[Any]:
            done = super().results(timeout_s)
            blobs = [reply.content.array_records["packet"]["answer"].data for reply, _ in done]
            up.extend(set(unpack(blob).tensors) for blob in blobs)
            return done

    saved: list[Any] = []
    monkeypatch.setattr(recording, "save_checkpoint", lambda folder, state, _: saved.append(state))
    finish(config, Watched())
    start = initial_weights(get_task("toy_tasks:NORMED"), read_cohort(root).description, config)
    assert not any(names & OWN[method] for names in up)
    assert ALL - OWN[method] in up
    # Only the common start of the first round comes with tensors that then are each center's own.
    assert [names for own, names in down if own == 0] == [ALL] * 6
    assert all(names == ALL - OWN[method] for own, names in down if own)
    for state in saved:
        task = state.tasks["normed"]
        assert set(task.weights) == set(task.best) == ALL - OWN[method]
        assert equal(task.own_start, {name: start[name] for name in OWN[method]})


class Deaf(InProcess):
    """Gives a center's orders to train in one round to nobody: they are answered with an error."""

    def __init__(self, center: str, round_number: int) -> None:
        super().__init__()
        self.silenced = center, round_number
        self.orders: list[tuple[str, str, int, int]] = []

    def submit(self, message: Message, context: Context) -> None:
        order, center = read_order(message), sorted(CENTERS)[int(context.node_config["partition-id"])]
        ticket = order.ticket
        self.orders.append((ticket.purpose, center, ticket.round, ticket.own))
        if ticket.purpose == "train" and (center, ticket.round) == self.silenced:
            message.content.config_records["order"]["ticket"] = "none"
        super().submit(message, context)


CENTERS = ("BTXRD", "DHA", "FA", "HMCRD", "HU", "SCGH")


def test_a_round_of_the_others_leaves_a_centers_own_tensors_as_they_were(configured: Any, root: Path) -> None:
    """HU is not heard in round 2: it goes on from its tensors of round 1. Wanted: the same loop written out."""
    config = configured(num_rounds=3)
    deaf = Deaf("HU", 2)
    finish(config, deaf)
    assert ("train", "HU", 3, 1) in deaf.orders
    assert ("validate", "HU", 2, 1) in deaf.orders
    assert ("train", "FA", 3, 2) in deaf.orders
    task, cohort, method = get_task("toy_tasks:NORMED"), read_cohort(root), get_method("fedbn")
    centers = {name: Center(name, cohort, config, method) for name in CENTERS}
    shared, start = method.part(initial_weights(task, cohort.description, config))
    own: dict[str, Mapping[str, Tensor]] = dict.fromkeys(CENTERS, start)
    for number in (1, 2, 3):
        asked = [name for name in CENTERS if (name, number) != ("HU", 2)]
        updates = {name: centers[name].train(task, {**shared, **own[name]}, number) for name in asked}
        shares = {name: float(centers[name].enrol(task).patients) for name in asked}
        shared = method.aggregate(shared, {name: update.weights for name, update in updates.items()}, shares)
        own |= {name: update.own for name, update in updates.items()}
    last = {path.name: path for path in kept(config, "HU")}["round-00003.safetensors"]
    assert equal(load_weights(last)[0], own["HU"])


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class Dying(InProcess):
    """Is killed when it has worked on so many messages: in the middle of a round, some centers ahead of others."""

    def __init__(self, messages: int) -> None:
        super().__init__()
        self.left = messages

    def results(self, timeout_s: float) -> list[Any]:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().results(timeout_s)


# 6 enrol, then 6 train and 6 validate a round, then 6 measure: in and between rounds, and while it measures.
@pytest.mark.parametrize("messages", [9, 15, 18, 21, 27, 33, 45, 55, 57])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_at_any_message_ends_with_the_same_bytes(
    configured: Any, tmp_path: Path, method: str, messages: int
) -> None:
    wanted = finish(configured(method=method, out=str(tmp_path / "whole")))
    config = configured(method=method)
    with pytest.raises(Killed):
        finish(config, Dying(messages))
    assert finish(config) == wanted
    assert "models/centers/HU/normed.safetensors" in wanted


def test_a_round_that_was_trained_but_not_saved_is_trained_again(
    configured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = finish(configured(out=str(tmp_path / "whole")))
    config, calls = configured(), []

    def die(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        save(*arguments)

    save = recording.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(recording, "save_checkpoint", die)
        with pytest.raises(Killed):
            finish(config)
    assert finish(config) == wanted


def test_what_can_no_longer_be_asked_for_is_removed(configured: Any) -> None:
    config = configured(num_rounds=8)
    finish(config)
    best = RunFolder(Path(config.out)).load_model("normed")[1].round
    names = {path.name for path in kept(config, "HU")}
    assert names <= {f"round-{number:05d}.safetensors" for number in (best, 7, 8)}
    assert len(names) < 4


@pytest.mark.parametrize("method", METHODS)
def test_the_best_weights_are_measured_with_the_own_tensors_of_their_round(
    configured: Any, root: Path, method: str
) -> None:
    """The steps are far too long, so that the first round is the best; wanted is the network of the plain loop."""
    config = configured(method=method, num_rounds=5, learning_rate=0.8)
    finish(config)
    folder = RunFolder(Path(config.out))
    _, card = folder.load_model("normed")
    assert card.round < 4
    wanted, last = (reference(config, root, "normed", number) for number in (card.round, 5))
    task, cohort = get_task("toy_tasks:NORMED"), read_cohort(root)
    table = folder.read_predictions("normed")
    for name in CENTERS:
        center = Center(name, cohort, config, get_method(method))
        own, later = (center.measure(task, {**wanted.weights, **of.own[name]}, "test") for of in (wanted, last))
        assert table["value"][table["center"] == name].tolist() == own["value"].tolist()
        assert own["value"].tolist() != later["value"].tolist()
    assert {path.name for path in kept(config, "HU")} == {
        f"round-{number:05d}.safetensors" for number in (card.round, 4, 5)
    }


def killed_after(config: RunConfig, rounds: int) -> None:
    with pytest.raises(Killed):
        finish(config, Dying(6 + 12 * rounds))


def test_a_center_that_lost_its_tensors_stops_the_run_with_what_to_do(
    configured: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured()
    killed_after(config, 2)
    for path in kept(config, "HU"):
        path.unlink()
    with pytest.raises(FederationError, match=r"HU: E-STATE .*Put it back from a copy, then resume"):
        finish(config)
    assert "the tensors that 'HU' kept of normed after round 2 are lost" in caplog.text
    assert RunFolder(Path(config.out)).rounds()[-1]["round"] == 2


def test_tensors_of_another_run_are_refused(configured: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, other = configured(), configured(out=str(tmp_path / "other"))
    killed_after(config, 2)
    killed_after(other, 2)
    shutil.copy(kept(other, "HU")[-1], kept(config, "HU")[-1])
    with pytest.raises(FederationError, match="not this run's"):
        finish(config)
    assert "kept of run" in caplog.text


@pytest.mark.parametrize("change", ["truncate", "alter", "other center", "other round"])
def test_tensors_that_are_not_those_that_were_kept_are_refused(tmp_path: Path, cohort: Cohort, change: str) -> None:
    own, card = store(tmp_path), card_of(cohort)
    own.save({"norm.running_mean": torch.tensor([2.0])}, card)
    own.save({"norm.running_mean": torch.tensor([3.0])}, replace(card, round=2))
    assert own.load("normed", 1)["norm.running_mean"].item() == 2.0
    path = own._path("normed", 1)
    if change == "truncate":
        path.write_bytes(path.read_bytes()[:-2])
    elif change == "alter":
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\x80\x3f")
    elif change == "other center":
        OwnTensors(tmp_path, own.run, "FA").save({"norm.running_mean": torch.tensor([2.0])}, card)
        shutil.copy(OwnTensors(tmp_path, own.run, "FA")._path("normed", 1), path)
    else:
        shutil.copy(own._path("normed", 2), path)
    reasons = {"truncate": "lost", "alter": "changed after", "other center": "'FA' kept", "other round": "round 2: put"}
    with pytest.raises(StateError, match=reasons[change]):
        own.load("normed", 1)


@pytest.mark.parametrize("run", ["../../etc", "", "0123456789abcdeg", "0123456789abcdef\n"])
def test_a_run_cannot_name_a_folder_of_the_center(tmp_path: Path, run: str) -> None:
    with pytest.raises(StateError, match="no name of a run"):
        OwnTensors(tmp_path, run, "HU")


def test_a_center_that_only_tests_has_nothing_of_its_own_and_is_named(configured: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="HU can be measured on idle but has nothing to train it on"):
        finish(configured("idle"))
    finish(configured("idle", method="fedavg", out=str(tmp_path / "fedavg")))


def test_without_a_run_folder_the_centers_have_nowhere_to_keep_them(configured: Any, memory: Any) -> None:
    with pytest.raises(FederationError, match="E-CONFIG"):
        run_inline(configured(out="", max_failed_rounds=1), memory)


def test_the_state_of_a_deployed_center_lies_where_its_file_says(tmp_path: Path) -> None:
    path = tmp_path / "center.toml"
    path.write_text('name = "HU"\ndata = "cohort"\n')
    assert CenterFile.open(path).state == str((tmp_path / "state").resolve())
    path.write_text('name = "HU"\ndata = "cohort"\nstate = "/var/lib/ramw-fed"\n')
    assert CenterFile.open(path).state == "/var/lib/ramw-fed"
    path.write_text('name = "HU"\ndata = "cohort"\nstate = ""\n')
    with pytest.raises(ConfigError, match="state"):
        CenterFile.open(path)


@pytest.fixture
def cohort(root: Path) -> Cohort:
    return read_cohort(root)


def store(folder: Path) -> OwnTensors:
    return OwnTensors(folder, "0123456789abcdef", "HU")


def card_of(cohort: Cohort) -> Card:
    return Card(task="normed", training={}, description=cohort.description, cohort="", round=1, version="0")


def test_the_record_of_a_round_counts_what_went_down(configured: Any) -> None:
    config = configured(num_rounds=2)
    finish(config)
    lines = (Path(config.out) / "rounds.jsonl").read_text().splitlines()
    first, second = (json.loads(line)["centers"]["HU"]["bytes_down"] for line in lines)
    assert first > second
