from pathlib import Path

import numpy as np
import pytest

from ramw_fed.data import inspection
from ramw_fed.data.findings import Collector
from ramw_fed.data.inspection import Facts, inspect, inspect_all
from ramw_fed.data.listing import list_files


def test_unchanged_files_are_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, np.ones((2, 3, 4), np.uint8))
    wanted = ["a.npy", "b.npy"]
    first = inspect_all(tmp_path, list_files(tmp_path, Collector()), wanted)
    np.save(tmp_path / "b.npy", np.zeros((2, 3, 4), np.uint8))
    opened: list[str] = []
    monkeypatch.setattr(inspection, "inspect", lambda path: opened.append(path.name) or inspect(path))
    second = inspect_all(tmp_path, list_files(tmp_path, Collector()), wanted)
    assert opened == ["b.npy"]
    assert second["a.npy"] == first["a.npy"] == inspect(tmp_path / "a.npy")
    assert second["b.npy"].fault == "mask-empty"


def test_a_broken_memory_is_forgotten(tmp_path: Path, own_cache: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3, 4), np.uint8))
    files = list_files(tmp_path, Collector())
    before = {path: path.stat().st_mtime_ns for path in (own_cache / "files").iterdir()}
    expected = inspect_all(tmp_path, files, ["a.npy"])
    memory = next(path for path in (own_cache / "files").iterdir() if before.get(path) != path.stat().st_mtime_ns)
    for content in (
        "",
        "{",
        "[]",
        '{"version": 1, "files": {"a.npy": 3}}',
        '{"version": 1, "files": {"a.npy": ["", {"x": 1}]}}',
    ):
        memory.write_text(content)
        assert inspect_all(tmp_path, files, ["a.npy"]) == expected


def test_a_file_that_vanishes_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    assert inspect(tmp_path / "gone.bmp") == Facts("", "folder-unreadable")
