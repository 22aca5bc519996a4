import os
from pathlib import Path

import pytest
import torch

from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.errors import RunError
from ramw_fed.federation.checkpoint import State, TaskState, load_checkpoint, save_checkpoint

DECIDING = RunConfig().deciding()


def state(round_number: int) -> State:
    weights = {"w": torch.tensor([1.0 * round_number]), "n": torch.tensor(round_number)}
    return State(
        round=round_number,
        tasks={
            "erosion": TaskState(weights=weights, best=weights, best_round=round_number, best_quality=0.5),
            "segmentation": TaskState(
                weights=weights, best={"w": torch.zeros(1), "n": torch.tensor(0)}, failed_rounds=2
            ),
        },
    )


def test_the_last_state_comes_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), DECIDING)
    save_checkpoint(tmp_path, state(2), DECIDING)
    back = load_checkpoint(tmp_path, DECIDING)
    assert back is not None
    assert back.round == 2
    assert back.tasks["erosion"].weights["w"].item() == 2.0
    assert back.tasks["erosion"].best_quality == 0.5
    assert back.tasks["segmentation"].best["w"].item() == 0.0
    assert back.tasks["segmentation"].best_quality is None
    assert back.tasks["segmentation"].failed_rounds == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_no_checkpoint_is_the_start(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none", DECIDING) is None


def test_a_write_that_fails_leaves_the_old_checkpoint_and_its_leftover_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, state(1), DECIDING)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(tmp_path, state(2), DECIDING)
    assert len(list(tmp_path.glob("*.part"))) == 1
    back = load_checkpoint(tmp_path, DECIDING)
    assert back is not None
    assert back.round == 1
    assert not list(tmp_path.glob("*.part"))


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), DECIDING)
    other = resolve({"seed": 3, "erosion": {"learning-rate": 0.5}}).deciding()
    with pytest.raises(RunError, match=r"erosion.learning-rate was .*, is 0.5.*seed was 0, is 3"):
        load_checkpoint(tmp_path, other)
    moved = resolve({"workers": 7, "engine": "ray", "cohort": "/elsewhere"}).deciding()
    assert load_checkpoint(tmp_path, moved) is not None


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "round-00003.safetensors").write_bytes(b"nonsense")
    with pytest.raises(RunError, match="round-00003"):
        load_checkpoint(tmp_path, DECIDING)
