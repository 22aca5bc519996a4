import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ramw_fed.config import PhantomConfig, RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.federation.checkpoint import State
from ramw_fed.federation.coordinator import Outcome

sys.path.insert(0, str(Path(__file__).parent))  # worker processes import toy_tasks by name


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom with two patients a center; toy tasks only take the centers' names from it."""
    folder = tmp_path_factory.mktemp("cohorts") / "phantom"
    write_phantom(PhantomConfig(patients=12, size=48), folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("RAMW_FED_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


class Memory:
    """A recorder that keeps everything in memory."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state
        self.records: list[Mapping[str, Any]] = []
        self.outcome: Outcome | None = None
        self.opened: list[Mapping[str, str]] = []

    def resume(self) -> State | None:
        return self.state

    def watch(self, phase: str, done: int, total: int) -> None: ...

    def on_round(self, records: Sequence[Mapping[str, Any]], state: State) -> None:
        self.records += records

    def open_test(self, chosen: Mapping[str, str], decisions: Mapping[str, Any]) -> None:
        self.opened.append(chosen)

    def finish(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def final(self, task: str) -> dict[str, Any]:
        assert self.outcome is not None
        return self.outcome.state.tasks[task].weights


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture(scope="session")
def toy(root: Path) -> Callable[..., RunConfig]:
    """Configuration of a toy task: plain gradient descent, one step an epoch, constant rate."""

    def configure(*names: str, **knobs: Any) -> RunConfig:
        fixed = {
            "tasks": ",".join(f"toy_tasks:{name.upper()}" for name in names),
            "cohort": str(root),
            "method": "fedavg",
            "device": "cpu",
            "workers": 1,
        }
        table = {
            "optimizer": "sgd",
            "weight-decay": 0.0,
            "final-learning-rate": 1.0,
            "batch-size": 4096,
            "local-epochs": 1,
            "num-rounds": 1,
            "learning-rate": 0.1,
        }
        knobs = {name.replace("_", "-"): value for name, value in knobs.items()}
        table |= {name: knobs.pop(name) for name in list(knobs) if name in table}
        return resolve({**fixed, **knobs, **{name: dict(table) for name in names}})

    return configure
