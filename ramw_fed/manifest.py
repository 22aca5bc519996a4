"""What a run was made with, and what it cost."""

import platform
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

VERSION = metadata.version("ramw-fed")
_PACKAGES = ("flwr", "numpy", "opencv-python-headless", "segmentation-models-pytorch", "timm", "torch", "torchvision")


def versions() -> dict[str, str]:
    """Return the versions on which a run's bytes depend."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"ramw-fed": VERSION, "python": platform.python_version(), **packages}


def git_commit() -> str | None:
    """Return the commit of the checkout that the package runs from, ``-dirty`` where it differs; None outside one."""
    here = Path(__file__)
    try:
        # An environment may lie inside somebody else's checkout, which does not track the package.
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


class Meter:
    """Watches memory and processor time of this process and its children while a block runs.

    Where the system tells (Linux), pages that processes share are counted once, by proportional set size: worker
    processes share their imports. Asking walks every page of every process: not more often than each few seconds. The
    processor time of a child that ends is the one last seen.

    Attributes:
        peak_mb: Largest memory seen, of all processes together.
    """

    def __init__(self, every_s: float = 3.0) -> None:
        self.peak_mb = 0.0
        self._cpu_s: dict[int, float] = {}
        self._every_s = every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    @property
    def cpu_s(self) -> float:
        """Processor time of all processes that were seen, in seconds since their starts."""
        return sum(self._cpu_s.values())

    def _watch(self) -> None:
        while not self._done.is_set():
            self._look()
            self._done.wait(self._every_s)

    def _look(self) -> None:
        own = psutil.Process()
        total = 0
        for process in (own, *own.children(recursive=True)):
            try:
                times, full = process.cpu_times(), process.memory_full_info()
            except psutil.Error:  # it ended while we asked
                continue
            self._cpu_s[process.pid] = times.user + times.system
            total += getattr(full, "pss", full.rss)
        self.peak_mb = max(self.peak_mb, total / 2**20)


def own_peak_mb() -> float | None:
    """Return the largest memory (resident set) that this process alone has had since its start; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, kibibytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def workers_of(rounds: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return which process made each update: ``{"erosion 3": {"HU": 4711}}``."""
    return {
        f"{record['task']} {record['round']}": {name: center["worker"] for name, center in record["centers"].items()}
        for record in rounds
    }


def summarize_seconds(total: float, phases: Mapping[str, float]) -> dict[str, float]:
    """Return wall seconds, rounded; what is neither training nor evaluation is communication and bookkeeping."""
    train, evaluate = phases.get("train", 0.0), phases.get("evaluate", 0.0)
    parts = {"total": total, "train": train, "evaluate": evaluate, "communicate": max(0.0, total - train - evaluate)}
    return {name: round(seconds, 2) for name, seconds in parts.items()}
