"""Processes that share a study's work and do not outlive it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

import torch

from ramw_fed.errors import StudyError

Job = TypeVar("Job")
Result = TypeVar("Result")


def share(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Result]]:
    """Yield each job with its result as they are done; the first error ends all.

    Args:
        work: A function of a module: it is called in another process.
        jobs: Those expected to last longest first.
        workers: Processes; with one, or one job, this process does the work itself.

    Raises:
        StudyError: A process died.
    """
    if workers == 1 or len(jobs) == 1:
        for job in jobs:
            yield job, work(job)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload(["ramw_fed.studies.store"])
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context, initializer=_start, initargs=(theirs,), max_tasks_per_child=None
    )
    try:
        pending: dict[Future[Result], Job] = {pool.submit(work, job): job for job in jobs}
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                yield pending.pop(future), future.result()
    except BrokenProcessPool as error:
        raise StudyError(
            "a process of the study died, mostly for want of memory: give fewer --workers, and run it again; finished "
            "runs are kept"
        ) from error
    finally:
        ours.close()  # ends what is under way
        pool.shutdown(wait=True, cancel_futures=True)


def _start(parent: Connection) -> None:
    """Live as long as the parent: a process that trained on would write into a run that is being resumed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Connection) -> None:
    try:
        parent.recv()
    except (EOFError, OSError):
        os._exit(1)
