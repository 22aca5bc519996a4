"""The inline engine: the same apps on this machine, centers in worker processes, no Ray.

Any worker serves any center: a center's context lies here and travels with its messages. With one worker the centers
run in this process, which costs nothing beside the work itself.
"""

import atexit
import contextlib
import itertools
import os
import signal
import time
from collections import deque
from collections.abc import Iterable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Protocol, Self

from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from ramw_fed.config import RunConfig
from ramw_fed.errors import FederationError
from ramw_fed.federation.apps import client_app, server_app
from ramw_fed.federation.center_words import ShownOnce, Words, centers_tell
from ramw_fed.federation.coordinator import Recorder
from ramw_fed.federation.flower_private import become_server, stamp
from ramw_fed.federation.opening import PARTITION, forget_centers, simulated_centers

# Worker processes that may die, for want of memory or by a foreign hand, before the run is given up.
_MAX_DEATHS = 4
_RUN_ID = 1

Result = tuple[Message, Context]
"""A reply, and what the center keeps."""


def run_inline(config: RunConfig, recorder: Recorder) -> None:
    """Federate on this machine.

    Args:
        config: ``cohort`` is an absolute path.
        recorder: Who keeps what comes out.

    Raises:
        FederationError: Centers failed, or worker processes kept dying.
    """
    forget_centers()
    centers = simulated_centers(config)
    workers = min(config.workers, len(centers) * len(config.tasks))
    with InlineGrid(len(centers), WorkerPool(workers) if workers > 1 else InProcess()) as grid:
        server_app(config, recorder)(grid, grid.context(0))


class Executor(Protocol):
    """Runs a center's app on messages; results come in any order."""

    def submit(self, message: Message, context: Context) -> None:
        """Take a message to work on."""
        ...

    def results(self, timeout_s: float) -> list[Result]:
        """Return what is done, waiting at most ``timeout_s`` for a first one."""
        ...

    def close(self) -> None:
        """Stop, whatever is under way."""
        ...


class InlineGrid(Grid):
    """Flower's grid without a network: node ``k`` (from 1) stands for the center of partition ``k - 1``."""

    def __init__(self, num_centers: int, executor: Executor) -> None:
        self._run = become_server(_RUN_ID)
        self._executor = executor
        self._contexts = {_node(number): _context(number, num_centers) for number in range(num_centers)}
        self._names = map(str, itertools.count(1))
        self._replies: dict[str, Message] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.close()

    def set_run(self, run: Run) -> None:
        """Take another run's name."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def context(self, node: int) -> Context:
        """Return what is kept for a node; node 0 is the coordinator."""
        return self._contexts[node] if node else Context(_RUN_ID, 0, {}, RecordDict(), {})

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message; Flower's older way of making one."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the nodes of all centers."""
        return sorted(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Queue messages in the order in which they come; return their names."""
        taken = list(messages)
        names = [next(self._names) for _ in taken]
        stamp(taken, names)
        for message in taken:
            self._executor.submit(message, self._contexts[message.metadata.dst_node_id])
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies to these messages that have come, waiting a moment for one."""
        for reply, context in self._executor.results(timeout_s=0.5):
            self._replies[reply.metadata.reply_to_message_id] = reply
            # Two tasks of a center may have been under way at once; each keeps records of its own.
            self._contexts[context.node_id].state.update(context.state)
        return [self._replies.pop(name) for name in sorted(set(message_ids) & set(self._replies), key=int)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Push, then pull until every reply has come or ``timeout`` seconds are over."""
        pending, replies = set(self.push_messages(messages)), []
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while pending and time.monotonic() < deadline:
            come = self.pull_messages(pending)
            pending -= {reply.metadata.reply_to_message_id for reply in come}
            replies += come
        return replies


class InProcess:
    """Runs centers in this process, one message when asked for results."""

    def __init__(self) -> None:
        self._app = client_app()
        self._waiting: deque[tuple[Message, Context]] = deque()
        self._tell = ShownOnce()

    def submit(self, message: Message, context: Context) -> None:
        """Queue a message."""
        self._waiting.append((message, context))

    def results(self, timeout_s: float) -> list[Result]:
        """Work on the oldest message."""
        if not self._waiting:
            return []
        message, context = self._waiting.popleft()
        with centers_tell(self._tell):
            return [(self._app(message, context), context)]

    def close(self) -> None:
        """Drop what is queued."""
        self._waiting.clear()


class _Worker:
    """One process that serves centers, and what it is working on."""

    def __init__(self) -> None:
        context = get_context("forkserver")
        # The fork server pays the imports of torch once for all workers.
        context.set_forkserver_preload(["ramw_fed.federation.apps"])
        self.pipe, theirs = context.Pipe()
        # No daemon: those may not start processes, and on a GPU others prepare a center's batches.
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs,))
        self.process.start()
        theirs.close()
        self.job: tuple[Message, Context] | None = None

    def stop(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class WorkerPool:
    """Runs centers in worker processes; the message that was submitted first goes to the worker that is free first."""

    def __init__(self, num_workers: int) -> None:
        self._waiting: deque[tuple[Message, Context]] = deque()
        self._deaths = 0
        self._tell = ShownOnce()
        self._workers: list[_Worker] = []
        atexit.register(self.close)  # an interpreter that ends waits for processes that are no daemons
        for _ in range(num_workers):
            self._workers.append(_Worker())

    def submit(self, message: Message, context: Context) -> None:
        """Give the message to an idle worker, or queue it."""
        self._waiting.append((message, context))
        self._hand_out()

    def results(self, timeout_s: float) -> list[Result]:
        """Return finished work; a worker that died is replaced."""
        self._hand_out()
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        ready = wait([*busy, *(worker.process.sentinel for worker in self._workers)], timeout_s)
        done = [self._collect(busy[pipe]) for pipe in ready if isinstance(pipe, Connection)]
        for worker in [worker for worker in self._workers if worker.process.sentinel in ready]:
            self._replace(worker)
        self._hand_out()
        return [result for result in done if result is not None]

    def close(self) -> None:
        """End the workers; what they were working on is lost."""
        atexit.unregister(self.close)
        self._waiting.clear()
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.job is None and self._waiting:
                worker.job = self._waiting.popleft()
                with contextlib.suppress(OSError):  # it is dead; its sentinel will say so
                    worker.pipe.send(worker.job)

    def _collect(self, worker: _Worker) -> Result | None:
        try:
            result: Result | Words = worker.pipe.recv()
        except (EOFError, OSError):
            return None
        if isinstance(result, Words):  # the answer comes behind them
            self._tell(result)
            return None
        worker.job = None
        return result

    def _replace(self, worker: _Worker) -> None:
        """Start another worker for one that died, and do its work again: the same bytes, as if nothing had happened."""
        worker.stop()
        self._deaths += 1
        if self._deaths > _MAX_DEATHS:
            raise FederationError(
                f"{self._deaths} worker processes died (the last with exit code {worker.process.exitcode}; -9 mostly "
                "means that memory ran out): use fewer workers, smaller images or batches, then --resume"
            )
        self._workers[self._workers.index(worker)] = _Worker()
        if worker.job is not None:
            self._waiting.appendleft(worker.job)


def _serve(pipe: Connection) -> None:
    """Answer messages until the pipe closes; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    become_server(_RUN_ID)
    app = client_app()
    while True:
        try:
            message, context = pipe.recv()
            with centers_tell(pipe.send):
                reply = app(message, context)
            pipe.send((reply, context))
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone: nobody is left to tell


def _node(number: int) -> int:
    return number + 2  # 1 is the coordinator's


def _context(number: int, num_centers: int) -> Context:
    config: UserConfig = {PARTITION: number, "num-partitions": num_centers}
    return Context(_RUN_ID, _node(number), config, RecordDict(), {})


__all__ = ["InlineGrid", "run_inline"]
