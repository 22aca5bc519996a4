"""What a run cost."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ramw_fed.manifest import Meter, git_commit, own_peak_mb, versions

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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_the_own_peak_is_in_mb_and_stays_after_the_memory_is_given_back() -> None:
    held = bytearray(b"x" * 400_000_000)
    now = psutil.Process().memory_info().rss / 2**20  # psutil: bytes
    del held
    peak = own_peak_mb()
    assert peak is not None
    assert now - 1 <= peak < now + 20_000
    assert psutil.Process().memory_info().rss / 2**20 < now - 300


def test_versions_name_what_bytes_depend_on() -> None:
    assert {"torch", "numpy", "flwr", "ramw-fed", "python"} <= set(versions())


def test_the_commit_is_the_one_that_git_says_is_checked_out_and_none_outside_a_checkout() -> None:
    head = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    said = subprocess.run(head, capture_output=True, text=True)
    found = git_commit()
    assert (found and found.removesuffix("-dirty")) == (said.stdout.strip() if said.returncode == 0 else None)


def test_a_package_that_lies_untracked_in_another_checkout_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    (tmp_path / "manifest.py").write_text("")
    monkeypatch.setattr("ramw_fed.manifest.__file__", str(tmp_path / "manifest.py"))
    assert git_commit() is None
    subprocess.run(["git", "-C", str(tmp_path), "add", "manifest.py"], check=True)
    assert git_commit() is not None
