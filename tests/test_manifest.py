"""What a run cost."""

import multiprocessing
import time

import numpy as np

from ramw_fed.manifest import Meter, git_commit, versions


def _hold(megabytes: int, seconds: float) -> None:
    held = np.ones(megabytes * 2**17)  # 8 bytes each
    until = time.process_time() + seconds
    while time.process_time() < until:
        held += 1


def test_memory_and_processor_time_of_children_are_counted() -> None:
    with Meter(every_s=0.1) as meter:
        child = multiprocessing.get_context("spawn").Process(target=_hold, args=(200, 0.5))
        child.start()
        child.join()
    with Meter(every_s=0.1) as alone:
        time.sleep(0.05)
    assert meter.peak_mb > alone.peak_mb + 150
    assert meter.cpu_s > 0.3


def test_versions_name_what_bytes_depend_on() -> None:
    assert {"torch", "numpy", "flwr", "ramw-fed", "python"} <= set(versions())
    assert git_commit() is None or len(git_commit().removesuffix("-dirty")) >= 40
