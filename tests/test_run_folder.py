"""The folder of a run: whole files, one door to the test split, no mixing of runs."""

import json

import numpy as np
import pytest
import torch

from ramw_fed.config_sources import resolve
from ramw_fed.data.layout import RAMW600
from ramw_fed.errors import RunError
from ramw_fed.learning.weights_file import Card, load_weights, save_weights
from ramw_fed.run_folder import RunFolder


def test_the_test_split_is_opened_once(tmp_path) -> None:
    run = RunFolder.create(tmp_path / "run", resolve({}))
    run.open_test_split({"erosion": "aa"})
    run.write_json("metrics.json", {})
    with pytest.raises(RunError, match="opened before"):
        run.open_test_split({"erosion": "aa"})


def test_a_killed_run_may_measure_again_with_the_same_weights_but_not_with_others(tmp_path) -> None:
    run = RunFolder.create(tmp_path / "run", resolve({}))
    run.open_test_split({"erosion": "aa"})
    run.open_test_split({"erosion": "aa"})
    with pytest.raises(RunError, match="opened before"):
        run.open_test_split({"erosion": "bb"})


def test_a_folder_with_something_in_it_is_not_written_over_unasked(tmp_path) -> None:
    config = resolve({})
    RunFolder.create(tmp_path / "run", config).write_json("metrics.json", {})
    with pytest.raises(RunError, match="not empty"):
        RunFolder.create(tmp_path / "run", config)
    RunFolder.create(tmp_path / "run", config, overwrite=True)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_overwriting_spares_a_folder_that_holds_more_than_a_run(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="more than a run"):
        RunFolder.create(tmp_path, resolve({}), overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_resuming_with_another_configuration_is_refused_and_the_difference_printed(tmp_path) -> None:
    RunFolder.create(tmp_path / "run", resolve({"seed": 1}))
    RunFolder.create(tmp_path / "run", resolve({"seed": 1, "workers": 1}), resume=True)
    with pytest.raises(RunError, match="seed was 1, is 2"):
        RunFolder.create(tmp_path / "run", resolve({"seed": 2}), resume=True)


def test_rounds_that_were_logged_but_not_saved_are_dropped_and_a_cut_line_ignored(tmp_path) -> None:
    run = RunFolder.create(tmp_path / "run", resolve({}))
    for number in (1, 2, 3):
        run.append_round({"round": number})
    with (run.path / "rounds.jsonl").open("a") as file:
        file.write('{"round": 4, "los')
    assert [record["round"] for record in run.rounds()] == [1, 2, 3]
    run.keep_rounds(2)
    assert [record["round"] for record in run.rounds()] == [1, 2]


@pytest.mark.parametrize("line", ["7", "[]", '{"loss": 1}', '{"round": "one"}'])
def test_a_line_that_is_no_record_of_a_round_is_refused(tmp_path, line: str) -> None:
    run = RunFolder.create(tmp_path / "run", resolve({}))
    (run.path / "rounds.jsonl").write_text(line + "\n")
    with pytest.raises(RunError, match=r"line 1 of .* is no record of a round"):
        run.rounds()


@pytest.mark.parametrize("text", ["", "{", "[]", "\udc80"])
def test_a_file_that_is_no_table_is_refused(tmp_path, text: str) -> None:
    run = RunFolder.create(tmp_path / "run", resolve({}))
    (run.path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=r"manifest.json (is no JSON|holds no table)"):
        run.read_json("manifest.json")


def test_a_file_that_a_finished_run_lacks_is_not_asked_to_be_resumed(tmp_path) -> None:
    run = RunFolder.create(tmp_path / "run", resolve({}))
    with pytest.raises(RunError, match="--resume"):
        run.read_json("manifest.json")
    run.write_json("metrics.json", {})
    with pytest.raises(RunError, match="was removed after the run"):
        run.read_json("manifest.json")


def test_a_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="no folder can be made at"):
            RunFolder.create(path, resolve({}))


def test_nan_never_reaches_a_json_file(tmp_path) -> None:
    run = RunFolder.create(tmp_path / "run", resolve({}))
    with pytest.raises(ValueError, match="JSON"):
        run.write_json("metrics.json", {"dsc": float("nan")})


def test_weights_come_back_with_their_card_and_equal_weights_are_equal_bytes(tmp_path) -> None:
    card = Card(task="erosion", training={"norm": "batch"}, description=RAMW600, cohort="ab", round=3, version="0")
    weights = {"b": torch.arange(3.0), "a": torch.tensor([1, 2])}
    save_weights(tmp_path / "one.safetensors", weights, card)
    save_weights(tmp_path / "two.safetensors", dict(reversed(weights.items())), card)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    loaded, again = load_weights(tmp_path / "one.safetensors")
    assert torch.equal(loaded["b"], weights["b"])
    assert loaded["a"].dtype == torch.int64
    assert again.description == RAMW600
    assert json.loads(again.to_json())["round"] == 3


def test_a_file_that_ramw_fed_did_not_write_is_refused(tmp_path) -> None:
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "card.safetensors", metadata={"ramw-fed": "{}"})
    with pytest.raises(RunError, match=r"entry of .* cannot be read"):
        load_weights(tmp_path / "card.safetensors")
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(RunError, match="not written by ramw-fed"):
        load_weights(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(RunError, match="no weights can be read"):
        load_weights(tmp_path / "text.safetensors")


def test_predictions_are_a_row_each_and_columns_of_several_numbers_are_spread(tmp_path) -> None:
    run = RunFolder.create(tmp_path / "run", resolve({}))
    run.write_predictions("erosion", {"name": np.array(["a", "b"]), "dsc": np.array([[1.0, 0.5], [0.25, 0.0]])})
    lines = (run.path / "predictions" / "erosion.csv").read_text().splitlines()
    assert lines == ["name,dsc_0,dsc_1", "a,1.0,0.5", "b,0.25,0.0"]
