"""The whole path: configuration, records, apps, grid, strategy. Numbers are closed forms worked by hand unless said."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomli_w
import torch

from ramw_fed.center import Center, initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import ConfigError, FederationError
from ramw_fed.federation import inline
from ramw_fed.federation.inline import run_inline
from ramw_fed.learning.weights_file import Card, save_weights
from ramw_fed.methods import METHODS
from ramw_fed.rounds import federate
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks import get_task

Toy = Callable[..., RunConfig]

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.federation.inline import run_inline
from ramw_fed.federation.recorder import FolderRecorder
if __name__ == "__main__":
    config = resolve(read_toml(Path(sys.argv[1])))
    run_inline(config, FolderRecorder.at(config))
"""


def final(config: RunConfig, memory: Any, task: str) -> dict[str, torch.Tensor]:
    run_inline(config, memory)
    weights: dict[str, torch.Tensor] = memory.final(task)
    return weights


def reference(config: RunConfig, root: Path, name: str) -> Mapping[str, torch.Tensor]:
    """Weights of the loop without Flower."""
    task, cohort = get_task(f"toy_tasks:{name.upper()}"), read_cohort(root)
    method = METHODS[config.method]
    centers = [Center(center, cohort, config, method) for center in config.centers or cohort.centers]
    start = initial_weights(task, cohort.description, config)
    return federate(centers, method, task, start, config.training(name).num_rounds).weights


@pytest.fixture
def at(tmp_path: Path, root: Path) -> Callable[..., str]:
    """Returns a file of weights that a run can start from."""

    def write(*point: float, task: str = "two") -> str:
        path = tmp_path / "start.safetensors"
        value = torch.tensor(point, dtype=torch.float64)
        weights = {"w": value, "running_var": torch.ones_like(value), "num_batches_tracked": torch.tensor(0)}
        description = read_cohort(root).description
        save_weights(
            path, weights, Card(task=task, training={}, description=description, cohort="", round=0, version="0")
        )
        return str(path)

    return write


# a = (1, 4), b = (0, 1), p = (1/2, 1/2); steps, rate and rounds make the local solve as exact as the case asks.
@pytest.mark.parametrize(
    ("oracle", "knobs", "expected"),
    [
        ("1.1", {"method": "fedprox", "proximal_mu": 0.0, "learning_rate": 0.4, "local_epochs": 45}, 0.5),
        ("1.2", {"method": "fedprox", "proximal_mu": 1.0, "learning_rate": 2 / 7, "local_epochs": 30}, 0.615385),
        ("1.4", {"learning_rate": 0.1, "local_epochs": 5}, 0.692502),
        ("1.5", {"method": "fedprox", "proximal_mu": 1.0, "learning_rate": 0.1, "local_epochs": 5}, 0.697469),
        ("1.7", {"learning_rate": 0.1, "local_epochs": 1, "num_rounds": 70}, 0.8),
    ],
)
def test_two_quadratics_end_at_the_fixed_point_of_the_formula(
    toy: Toy, memory: Any, oracle: str, knobs: dict[str, Any], expected: float
) -> None:
    config = toy("two", centers="HMCRD,SCGH", **({"num_rounds": 25} | knobs))
    assert final(config, memory, "two")["w"].item() == pytest.approx(expected, abs=1e-6), oracle


def test_a_strong_proximal_term_stays_at_its_fixed_point_near_the_optimum(
    toy: Toy, memory: Any, at: Callable[..., str]
) -> None:
    """Oracle 1.3: w* = (2/1002 * 4/1004 ...) = .799521 for mu = 1000; it moves too slowly to be run into."""
    exact = (4 / 1004) / (1 / 1001 + 4 / 1004)
    config = toy(
        "two",
        centers="HMCRD,SCGH",
        method="fedprox",
        proximal_mu=1000.0,
        learning_rate=2 / 2005,
        local_epochs=6,
        num_rounds=5,
        start_from=at(exact),
    )
    assert exact == pytest.approx(0.799521, abs=1e-6)
    assert final(config, memory, "two")["w"].item() == pytest.approx(exact, abs=1e-6)


# One step at rate 1 and curvature 1 lands on the minimum, so the round's mean is the mean of the minima.
@pytest.mark.parametrize(
    ("oracle", "task", "expected"),
    [
        ("3.1", "counted", [3.0, 25 / 8]),
        ("3.2", "equal", [9 / 4, 5 / 2]),
        ("3.5", "vectors", [1.88, 4.92, 5.0, 2.6, 0.82, 4.6]),
    ],
)
def test_a_round_is_the_mean_weighted_by_enrolled_patients(
    toy: Toy, memory: Any, oracle: str, task: str, expected: list[float]
) -> None:
    config = toy(task, learning_rate=1.0, centers="BTXRD,DHA,FA" + ("" if task == "vectors" else ",HMCRD"))
    assert final(config, memory, task)["w"].tolist() == pytest.approx(expected, abs=1e-6), oracle


@pytest.mark.parametrize(
    ("oracle", "pairs", "expected"),
    [
        ("3.3", {"a": (50, 1), "b": (50, 1), "c": (100, 3), "d": (200, 4)}, 3.0),
        ("3.4", {"a": (3, 1), "b": (2, 2), "c": (1, 10)}, 17 / 6),
        ("3.6", {"a": (1, 2), "b": (2, 1), "c": (1, 2)}, 1.5),
    ],
)
def test_losses_add_up_to_their_weighted_mean(oracle: str, pairs: dict[str, tuple[int, int]], expected: float) -> None:
    from ramw_fed.federation.round_record import add_sums

    sums = add_sums({name: {"loss": float(n * loss), "patients": float(n)} for name, (n, loss) in pairs.items()})
    assert sums["loss"] / sums["patients"] == pytest.approx(expected, abs=1e-6), oracle


@pytest.mark.parametrize("method", [{}, {"method": "fedprox", "proximal_mu": 0.5}])
def test_flower_rounds_equal_the_rounds_without_flower(
    toy: Toy, memory: Any, root: Path, method: dict[str, Any]
) -> None:
    config = toy("six", num_rounds=4, local_epochs=3, learning_rate=0.05, **method)
    weights, wanted = final(config, memory, "six"), reference(config, root, "six")
    assert set(weights) == set(wanted)
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


def test_fedprox_without_a_term_is_fedavg_to_the_bit(toy: Toy, memory: Any) -> None:
    plain = final(toy("six", num_rounds=3, local_epochs=2), memory, "six")
    zero = final(toy("six", num_rounds=3, local_epochs=2, method="fedprox", proximal_mu=0.0), memory, "six")
    assert torch.equal(plain["w"], zero["w"])


def test_one_center_federated_alone_is_local_training(toy: Toy, memory: Any, root: Path) -> None:
    config = toy("single", num_rounds=3, local_epochs=2, centers="HU")
    federated = final(config, memory, "single")
    task, cohort = get_task("toy_tasks:SINGLE"), read_cohort(root)
    center = Center("HU", cohort, config, METHODS["fedavg"])
    weights = initial_weights(task, cohort.description, config)
    for round_number in (1, 2, 3):
        weights = center.train(task, weights, round_number).weights
    assert all(torch.equal(federated[name], weights[name]) for name in weights)


def test_centers_that_hold_the_same_learn_as_one(toy: Toy, memory: Any) -> None:
    many = final(toy("alike", num_rounds=3, local_epochs=4, centers="HMCRD,SCGH,HU"), memory, "alike")
    one = final(toy("alike", num_rounds=3, local_epochs=4, centers="HU"), memory, "alike")
    assert torch.allclose(many["w"], one["w"], rtol=0, atol=1e-6)


def test_two_tasks_run_side_by_side_and_stop_each_after_its_own_rounds(toy: Toy, memory: Any) -> None:
    config = toy("two", "six", num_rounds=3)
    config = replace(config, others={**config.others, "two": replace(config.training("two"), num_rounds=1)})
    run_inline(config, memory)
    assert [(record["round"], record["task"]) for record in memory.records] == [
        (1, "six"), (1, "two"), (2, "six"), (3, "six"),
    ]  # fmt: skip


def test_a_center_without_examples_takes_no_part_in_that_task(toy: Toy, memory: Any) -> None:
    run_inline(toy("two", "six"), memory)
    records = {record["task"]: record for record in memory.records}
    assert set(records["two"]["centers"]) == {"HMCRD", "SCGH"}
    assert len(records["six"]["centers"]) == 6
    measured = {center for center, table in memory.outcome.measured["two"].tables.items() if len(table["value"])}
    assert measured == {"HMCRD", "SCGH"}


def test_the_round_of_best_validation_is_chosen_and_only_its_weights_meet_the_test_split(toy: Toy, memory: Any) -> None:
    # At rate .55 and curvature 4 the iterates overshoot: 1 - .55 * 4 = -1.2, so every round is worse than the last.
    config = toy("two", centers="SCGH", learning_rate=0.55, num_rounds=4)
    run_inline(config, memory)
    state = memory.outcome.state.tasks["two"]
    assert state.best_round == 1
    assert state.best["w"].item() == pytest.approx(1 + (0.3 - 1) * -1.2)
    assert memory.outcome.measured["two"].tables["SCGH"]["value"].tolist() == memory.outcome.chosen["two"]["w"].tolist()
    assert len(memory.opened) == 1


def test_a_task_that_nobody_can_train_is_an_error(toy: Toy, memory: Any) -> None:
    with pytest.raises(FederationError, match="no center has examples to train two"):
        run_inline(toy("two", centers="HU,FA"), memory)


def test_a_center_that_the_cohort_does_not_have_is_an_error(toy: Toy, memory: Any) -> None:
    with pytest.raises(ConfigError, match="centers names MAYO"):
        run_inline(toy("two", centers="MAYO"), memory)


def test_two_worker_processes_give_the_bytes_of_none_and_do_the_work(toy: Toy, memory: Any) -> None:
    knobs = {"num_rounds": 3, "local_epochs": 2}
    here = final(toy("six", **knobs), memory, "six")
    there = final(toy("six", **knobs, workers=2), memory, "six")
    assert all(torch.equal(here[name], there[name]) for name in here)
    first, last = memory.records[0]["centers"], memory.records[-1]["centers"]
    assert {one["worker"] for one in first.values()} == {os.getpid()}
    workers = {one["worker"] for one in last.values()}
    assert len(workers) == 2
    assert os.getpid() not in workers


def test_a_worker_that_is_killed_is_replaced_and_its_work_done_again(toy: Toy, memory: Any) -> None:
    config = toy("six", num_rounds=3, local_epochs=2, workers=2)
    wanted = final(config, memory, "six")
    victims: list[int] = []

    class Killer(type(memory)):  # type: ignore[misc]
        def on_round(self, records: Any, state: Any) -> None:
            super().on_round(records, state)
            if not victims:
                victims.append(next(iter(records[0]["centers"].values()))["worker"])
                os.kill(victims[0], signal.SIGKILL)

    killer = Killer()
    got = final(config, killer, "six")
    assert torch.equal(got["w"], wanted["w"])
    assert victims[0] not in {one["worker"] for one in killer.records[-1]["centers"].values()}


def test_workers_that_keep_dying_end_the_run(toy: Toy, memory: Any) -> None:
    with pytest.raises(FederationError, match=r"worker processes died \(the last with exit code 7"):
        run_inline(toy("deadly", workers=2, centers="HU,FA"), memory)


def test_workers_may_have_other_processes_prepare_their_batches(toy: Toy, memory: Any) -> None:
    """As centers with a GPU do; a daemon may not start a process."""
    run_inline(toy("parental", workers=2, centers="HU,FA"), memory)
    assert memory.records[0]["rejections"] == []


def test_an_interrupt_ends_the_workers(toy: Toy, memory: Any) -> None:
    workers: set[int] = set()

    class Interrupted(type(memory)):  # type: ignore[misc]
        def on_round(self, records: Any, state: Any) -> None:
            workers.update(one["worker"] for one in records[0]["centers"].values())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_inline(toy("six", num_rounds=3, workers=2), Interrupted())
    assert workers
    assert not any(_is_alive(worker) for worker in workers)


def test_workers_do_not_outlive_a_parent_that_is_killed(toy: Toy, tmp_path: Path) -> None:
    """A process of its own with two workers; SIGKILL leaves it no moment to tell them."""
    config = toy("six", num_rounds=10_000, workers=2, out=str(tmp_path / "run"))
    (tmp_path / "run.toml").write_text(tomli_w.dumps(config.tree()))
    (tmp_path / "script.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "run.toml"), str(Path(__file__).parent)]
    parent = psutil.Popen(command)
    family: list[psutil.Process] = []
    try:
        folder, deadline = RunFolder(tmp_path / "run"), time.monotonic() + 120
        workers: set[int] = set()
        while len(workers) < 2:
            assert parent.poll() is None, "the run ended by itself"
            assert time.monotonic() < deadline, "no round was trained by two workers"
            workers |= {one["worker"] for record in folder.rounds() for one in record["centers"].values()}
            time.sleep(0.05)
        family = parent.children(recursive=True)  # the workers, and Python's fork server that bore them
        assert workers <= {process.pid for process in family}
        parent.kill()
        parent.wait()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []
    finally:
        for process in (parent, *family):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        parent.wait()


def _is_alive(process: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def test_no_thread_is_left_behind(toy: Toy, memory: Any) -> None:
    before = threading.active_count()
    run_inline(toy("six"), memory)
    assert threading.active_count() == before


def test_the_private_details_of_flower_are_where_the_grid_expects_them() -> None:
    from flwr.app import Message, RecordDict

    from ramw_fed.federation.flower_private import become_server, stamp

    run = become_server(11)
    assert run.run_id == 11
    message = Message(RecordDict(), 5, "train", group_id="g")
    stamp([message], ["17"])
    assert message.metadata.message_id == "17"
    assert message.metadata.run_id == 11
    reply = Message(RecordDict(), reply_to=message)
    assert reply.metadata.reply_to_message_id == "17"
    assert reply.metadata.group_id == "g"
    assert reply.metadata.src_node_id == 5


def test_send_and_receive_of_the_grid_answers_every_message(toy: Toy) -> None:
    from ramw_fed.federation.enrolment import call_roll

    config = toy("six")
    with inline.InlineGrid(6, inline.InProcess()) as grid:
        roll = call_roll(grid, config, ["six"])
    assert list(roll.nodes) == sorted(roll.nodes)
    assert list(roll.nodes.values()) == [2, 3, 4, 5, 6, 7]
