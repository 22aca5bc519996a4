"""Curves of the rounds, read back as TensorBoard reads them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ramw_fed.report import scalars


def record(number: int, *, quality: float | None = 0.5, loss: float = 1.0) -> dict[str, Any]:
    told = {"loss": loss, "update_norm": 2.0, "cosine": -0.25, "seconds": 0.125, "steps": 7}
    return {"round": number, "task": "erosion", "quality": quality, "centers": {"HU": told, "Klinik Süd": told}}


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Name of each curve to its (step, value)."""
    events = EventAccumulator(str(folder)).Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_every_curve_has_a_point_a_round(tmp_path: Path) -> None:
    scalars.append(tmp_path / "curves", record(1, quality=-0.5))
    scalars.append(tmp_path / "curves", record(2, loss=0.5))
    found = read(tmp_path / "curves")
    wanted = {
        "erosion/validation": [(1, -0.5), (2, 0.5)],
        "erosion-loss": [(1, 1.0), (2, 0.5)],
        "erosion-update_norm": [(1, 2.0), (2, 2.0)],
        "erosion-cosine": [(1, -0.25), (2, -0.25)],
        "erosion-seconds": [(1, 0.125), (2, 0.125)],
    }
    for name, points in wanted.items():
        for tag in (name,) if "/" in name else (f"{name}/HU", f"{name}/Klinik Süd"):
            assert found.pop(tag) == points
    assert not found


def test_what_was_not_measured_has_no_point(tmp_path: Path) -> None:
    scalars.append(tmp_path, record(1, quality=None))
    scalars.append(tmp_path, record(2, loss=float("inf")))
    found = read(tmp_path)
    assert found["erosion/validation"] == [(2, 0.5)]
    assert found["erosion-loss/HU"] == [(1, 1.0)]


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_rounds_that_were_not_saved_are_dropped_with_what_a_kill_cut_short(tmp_path: Path, cut: int) -> None:
    for number in (1, 2, 3):
        scalars.append(tmp_path, record(number))
    path = tmp_path / scalars.EVENTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    scalars.keep_rounds(tmp_path, 2)
    for number in (3, 4):
        scalars.append(tmp_path, record(number, loss=3.0))
    assert read(tmp_path)["erosion-loss/HU"] == [(1, 1.0), (2, 1.0), (3, 3.0), (4, 3.0)]
    assert [entry.name for entry in tmp_path.iterdir()] == [scalars.EVENTS]


def test_nothing_to_drop_is_no_error(tmp_path: Path) -> None:
    scalars.keep_rounds(tmp_path / "new", 3)
    assert not (tmp_path / "new").exists()


def test_a_center_does_not_import_tensorboard() -> None:
    program = "import json, sys, client.app; print(json.dumps([m for m in sys.modules if 'tensorboard' in m]))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []
