"""The ray engine: the same apps in Flower's own simulation, each center's work in a Ray actor."""

import importlib.util
import logging
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run

from ramw_fed.config import RunConfig
from ramw_fed.errors import ConfigError, FederationError
from ramw_fed.federation.apps import client_app, server_app
from ramw_fed.federation.coordinator import Recorder
from ramw_fed.federation.opening import simulated_centers

# Room for the messages under way; weights are small.
_OBJECT_STORE_BYTES = 512 * 2**20


def run_ray(config: RunConfig, recorder: Recorder) -> None:
    """Federate in Flower's simulation on this machine; ``workers`` is the number of Ray actors.

    Args:
        config: ``cohort`` is an absolute path.
        recorder: Who keeps what comes out.

    Raises:
        ConfigError: Ray is not installed.
        FederationError: Centers failed, or Ray did.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("engine 'ray' needs Ray: pip install 'ramw-fed[simulation]', or take engine inline")
    from flwr.simulation import run_simulation

    num_centers = len(simulated_centers(config))
    stop = threading.Event()
    finished: list[bool] = []
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        server_app(config, recorder)(_Stoppable(grid, stop), context)
        finished.append(True)

    with _quiet_flower(), _short_folder() as folder:
        try:
            run_simulation(app, client_app(), num_centers, backend_config=_backend(config, folder))
        except RuntimeError as error:
            if isinstance(error, FederationError):
                raise
            raise FederationError(
                f"Flower's simulation broke down ({error}); see above, or take engine inline"
            ) from error
        finally:
            stop.set()
    if not finished:
        raise FederationError("Flower's simulation ended before the federation did; take engine inline")


def _backend(config: RunConfig, folder: str) -> dict[str, dict[str, Any]]:
    """Return the settings of Flower's Ray backend: one processor an actor, so as many actors as workers."""
    uses_gpu = config.device != "cpu" and torch.cuda.is_available()
    return {
        "init_args": {
            "address": "local",
            "num_cpus": config.workers,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "log_to_driver": True,  # a center's own words on an error reach this terminal, and no further
            "logging_level": "error",
            "_temp_dir": folder,
        },
        "client_resources": {"num_cpus": 1, "num_gpus": 1 / config.workers if uses_gpu else 0.0},
    }


class _Stoppable(Grid):
    """Flower's grid, which gives up once the simulation under it has ended: nobody would ever answer."""

    def __init__(self, inner: Grid, stop: threading.Event) -> None:
        self._inner = inner
        self._stop = stop

    def _check(self) -> None:
        if self._stop.is_set():
            raise FederationError("Flower's simulation ended while answers were still awaited")

    def set_run(self, run: Run) -> None:
        self._inner.set_run(run)

    @property
    def run(self) -> Run:
        return self._inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return self._inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        self._check()
        return self._inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self._check()
        return self._inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self._check()
        return self._inner.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self._inner.send_and_receive(messages, timeout=timeout)


@contextmanager
def _short_folder() -> Iterator[str]:
    """Give Ray a folder of its own: its sockets' paths must stay under 108 characters."""
    folder = tempfile.mkdtemp(prefix="rf-", dir="/tmp" if len(tempfile.gettempdir()) > 20 else None)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quiet_flower() -> Iterator[None]:
    """Flower tells of every message on the terminal; errors still come through."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
