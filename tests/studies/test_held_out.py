"""The door to the test patients."""

import json
from pathlib import Path

import pytest

from ramw_fed.errors import StudyError
from ramw_fed.studies.held_out import Door, refuse_touched
from ramw_fed.studies.store import Trained
from ramw_fed.studies.training import Training


def trained(*centers: str) -> Trained:
    return Trained(rounds=2, best_round=2, quality=0.5, steps=8, enrolled=centers)


def test_nothing_is_opened_before_everything_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="freeze the choice first"):
        Door(tmp_path).open([("run", "HU", "weights")])


def test_after_test_patients_were_opened_nothing_can_be_chosen_otherwise(tmp_path: Path) -> None:
    Door(tmp_path).freeze({"run": 3})
    Door(tmp_path).open([("run", "HU", "weights")])
    Door(tmp_path).freeze({"run": 3})  # the same choice again, after a kill
    with pytest.raises(StudyError, match="another choice"):
        Door(tmp_path).freeze({"run": 4})


def test_a_center_judges_one_set_of_weights_of_a_run(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.freeze({"run": 3})
    door.open([("run", "HU", "weights")])
    door.open([("run", "HU", "weights"), ("run", "FA", "weights")])
    with pytest.raises(StudyError, match="HU judged other weights"):
        door.open([("run", "HU", "others")])
    assert door.opened() == {"run/HU": "weights", "run/FA": "weights"}


def test_what_was_measured_once_stays(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.freeze({"run": 3})
    door.seal({"run/HU": "table"})
    door.seal({"run/HU": "table", "run/FA": "table"})
    with pytest.raises(StudyError, match="measured/run/HU was changed"):
        door.seal({"run/HU": "other"})


def test_a_record_that_was_cut_short_is_no_record(tmp_path: Path) -> None:
    Door(tmp_path).freeze({"run": 3})
    path = tmp_path / "opened.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(StudyError, match="cannot be read"):
        Door(tmp_path).freeze({"run": 3})
    path.write_text(json.dumps({"chosen": {}}))
    with pytest.raises(StudyError, match="cannot be read"):
        Door(tmp_path).open([])


def test_a_model_that_saw_the_center_held_out_never_meets_its_test_patients() -> None:
    away = Training(arm="fedavg", task="segmentation", seed=0, centers=("A", "B"))
    refuse_touched("C", away, trained("A", "B"))
    with pytest.raises(StudyError, match="C is held out"):
        refuse_touched("C", away, trained("A", "B", "C"))
    with pytest.raises(StudyError, match="B is held out"):
        refuse_touched("B", away, trained("A"))
    pool = Training(arm="central", task="segmentation", seed=0, centers=("A", "B"))
    refuse_touched("C", pool, trained("A", "B"))
    with pytest.raises(StudyError, match="C is held out"):
        refuse_touched("C", pool, trained("A", "B", "C"))
