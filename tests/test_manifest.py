"""What a run cost."""

import subprocess
import sys
import time

from ramw_fed.manifest import Meter, git_commit, versions

# Holds 400 MB and works for half a second of processor time.
HOLD = """
import time
held = bytearray(b"x" * 400_000_000)
until = time.process_time() + 0.5
while time.process_time() < until:
    held[0] = 1
"""


def test_memory_and_processor_time_of_children_are_counted() -> None:
    with Meter(every_s=0.1) as alone:
        time.sleep(0.05)
    with Meter(every_s=0.1) as meter:
        subprocess.run([sys.executable, "-c", HOLD], check=True)
    assert meter.peak_mb > alone.peak_mb + 300
    assert meter.cpu_s > alone.cpu_s + 0.2


def test_versions_name_what_bytes_depend_on() -> None:
    assert {"torch", "numpy", "flwr", "ramw-fed", "python"} <= set(versions())
    assert git_commit() is None or len(git_commit().removesuffix("-dirty")) >= 40
