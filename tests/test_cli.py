"""The command line: what a user mistypes ends in one sentence and a status, not in a traceback."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import tomli_w
import torch

from ramw_fed import api, cli
from ramw_fed.config_sources import resolve
from ramw_fed.learning.weights_file import KEY, load_weights, save_weights

TINY = {
    "num-rounds": 1,
    "local-epochs": 1,
    "augmentation": "none",
    "image-size": 32,
    "crop-size": 16,
    "workers": 1,
    "device": "cpu",
    "resamples": 100,
    "segmentation": {"depth": 3, "decoder-width": 16},
}


@dataclass(frozen=True)
class Ending:
    """How a call of the command line ended."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What stderr says from the error's code on; a panel for wrong usage."""
        if self.status == 2:
            return " ".join(re.sub("[│╭╮╰╯─]", " ", self.err).split())
        return self.err[self.err.find("E-") :].strip()


Call = Callable[..., Ending]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def one(*arguments: object) -> Ending:
        monkeypatch.setattr(sys, "argv", ["ramw-fed", *map(str, arguments)])
        status: object = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        assert isinstance(status, int)
        return Ending(status, *capsys.readouterr())

    return one


@pytest.fixture(scope="module")
def finished(phantom_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return api.run(resolve({**TINY, "cohort": str(phantom_root)}), out=out).path


@pytest.fixture
def places(phantom_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A user's folder: configurations, a file where a folder is wanted and the other way round."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    tree = {**TINY, "cohort": str(phantom_root)}
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(tree))
    (tmp_path / "study.toml").write_text(tomli_w.dumps({**tree, "study": {"seeds": 1}}))
    (tmp_path / "alone.toml").write_text(tomli_w.dumps({**tree, "centers": ["HU"], "study": {}}))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.toml").write_text(tomli_w.dumps({**tree, "study": {}}))
    (tmp_path / "odd.toml").write_text(tomli_w.dumps({**tree, "study": {"designs": ["matrix"]}}))
    (tmp_path / "pooled.toml").write_text(tomli_w.dumps({**tree, "pool": True}))
    (tmp_path / "number.toml").write_text("segmentation = 3\n")
    (tmp_path / "list.toml").write_text("[[segmentation]]\ndepth = 3\n")
    (tmp_path / "misspelt.toml").write_text("[segmentaton]\nnum-rounds = 99\n")
    (tmp_path / "broken.toml").write_text("a = = 1\n")
    cv2.imwrite(str(tmp_path / "wrist_L.png"), np.zeros((64, 64), np.uint8))
    return {"cohort": phantom_root, "here": tmp_path}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


WRONG: dict[str, tuple[str, int, str]] = {
    # Wrong usage.
    "no such command": ("fly", 2, "No such command"),
    "no such option": ("run tiny.toml --fast", 2, "No such option"),
    "a missing argument": ("run", 2, "Missing argument"),
    "no number": ("cohort phantom new --patients many", 2, "not a valid integer"),
    "no workers": ("cohort phantom new --workers 0", 2, "Invalid value for '--workers'"),
    # Configuration.
    "no file": ("run absent.toml", 1, "E-CONFIG: no configuration can be read at absent.toml"),
    "no TOML": ("run broken.toml", 1, "E-CONFIG: broken.toml is no valid TOML"),
    "a folder for a file": ("run folder", 1, "E-CONFIG: no configuration can be read at folder"),
    "a number for a table": ("run number.toml", 1, r"E-CONFIG: segmentation is 3; a table is wanted"),
    "a list of tables": ("run list.toml", 1, r"E-CONFIG: segmentation is \[.*; a table is wanted"),
    "a misspelt table": ("run misspelt.toml", 1, r"E-CONFIG: unknown table \[segmentaton\]; did you mean segmentation"),
    "a number set for a table": ("run tiny.toml --set segmentation=3", 1, "E-CONFIG: segmentation is 3; a table"),
    "a number set for the phantom": ("run tiny.toml --set phantom=3", 1, "E-CONFIG: phantom is 3; a table is wanted"),
    "a misspelt table set": (
        "run tiny.toml --set segmentatoin.num-rounds=99",
        1,
        r"E-CONFIG: unknown table \[segmentatoin\]; did you mean segmentation",
    ),
    "a list of numbers for names": ("run tiny.toml --set tasks=[1]", 1, r"E-CONFIG: tasks is \[1\]; a list of names"),
    "no setting": ("run tiny.toml --set seed", 1, "E-CONFIG: 'seed' is no setting"),
    "a number beyond floats": (f"run tiny.toml --set proximal-mu=1{'0' * 400}", 1, "E-CONFIG: proximal-mu is 1"),
    "a knob given twice": ("run tiny.toml --workers 2 --set workers=2", 1, "E-CONFIG: workers is given as --workers"),
    # What cannot be had, before a folder is made.
    "an unknown method": ("run tiny.toml --out new --set method=moon", 1, "E-CONFIG: method 'moon' is not one of"),
    "a module for a method": ("run tiny.toml --out new --set method=os:path", 1, "E-CONFIG: 'os:path' is a module"),
    "no module's name": (
        "run tiny.toml --out new --set method=:NAME",
        1,
        "E-CONFIG: method ':NAME' cannot be imported",
    ),
    "an unknown task": ("run tiny.toml --out new --set tasks=teeth", 1, "E-CONFIG: task 'teeth' is not one of"),
    "a method in a plan": ("run tiny.toml --plan --set method=moon", 1, "E-CONFIG: method 'moon' is not one of"),
    "no GPU": ("run tiny.toml --out new --set device=cuda", 1, "E-CONFIG: device is 'cuda', but torch finds no GPU"),
    "a network of another size": (
        "run tiny.toml --out new --set erosion.encoder=vit_tiny_patch16_224",
        1,
        "E-CONFIG: erosion.encoder 'vit_tiny_patch16_224' cannot take erosion.crop-size = 16",
    ),
    "an unknown encoder": (
        "run tiny.toml --out new --set segmentation.encoder=resnet1",
        1,
        "E-CONFIG: segmentation.encoder is 'resnet1', which is not known",
    ),
    "no weights to start from": ("run tiny.toml --out new --set start-from=absent", 1, "E-RUN: no weights can be read"),
    "an unknown center": ("run tiny.toml --out new --set centers=XX", 1, "E-CONFIG: centers names XX"),
    "no cohort": ("run tiny.toml --out new --cohort absent", 1, "E-COHORT: .*absent cannot be used"),
    # Where results are to lie.
    "a run over a file": ("run tiny.toml --out file", 1, "E-RUN: no folder can be made at file"),
    "a run below a file": ("run tiny.toml --out file/new", 1, "E-RUN: no folder can be made at file/new"),
    "a run where nobody writes": ("run tiny.toml --out /proc/new", 1, "E-RUN: no folder can be made at /proc/new"),
    "a run over other work": ("run tiny.toml --out folder", 1, "E-RUN: folder is not empty"),
    "other work overwritten": ("run tiny.toml --out folder --overwrite", 1, "E-RUN: folder holds more than a run"),
    "a phantom where nobody writes": ("cohort phantom /proc/new", 1, "E-SYSTEM: /proc/"),
    "a phantom over other work": ("cohort phantom folder", 1, "E-COHORT: .*folder exists and is not an empty folder"),
    "parts where nobody writes": ("cohort part {cohort} /proc/new", 1, "E-SYSTEM: /proc/new"),
    "a check of nothing": ("cohort check absent --json", 1, ""),
    # Studies.
    "a study's file for a run": ("run study.toml", 1, r"E-CONFIG: \[study\] is the table of a study"),
    "a study of an unknown design": ("study odd.toml --out new", 1, "E-CONFIG: study.designs has 'matrix'; known: "),
    "a study that sets what is its own": (
        "study pooled.toml --out new",
        1,
        "E-CONFIG: pool is set by the study itself",
    ),
    "a study over other work": ("study study.toml --out folder", 1, "E-STUDY: folder holds something else"),
    "a study over a file": ("study study.toml --out file", 1, "E-RUN: no folder can be made at file"),
    "a study without a cohort": ("study study.toml --cohort absent --plan", 1, "E-COHORT: .*absent cannot be used"),
    "a study of one center": ("study alone.toml --plan", 1, "E-STUDY: no task has two centers"),
    "a report of a study that did not finish": ("report begun", 1, "E-STUDY: the study in begun has not finished"),
    "a comparison with a study": ("compare begun begun", 1, "E-PREDICTION: begun holds a study"),
    "a run without an image": ("predict begun --out new", 1, "E-CONFIG: no image was named"),
    "a study of too few patients": ("study study.toml --power", 1, "E-RAMW: .*at least 2 patients a center"),
    # Images.
    "an absent image": ("predict absent.png --out new", 1, "E-CONFIG: .*absent.png cannot be found"),
    "a folder for an image": ("predict folder --out new", 1, "E-CONFIG: .*folder is a folder"),
    "a wrong side": ("predict wrist_L.png --out new --side X", 1, "E-CONFIG: side is 'X'"),
    "predictions over a file": ("predict wrist_L.png --out file", 1, "E-RUN: no folder can be made at file"),
    "no image at all": ("predict file --out new", 1, "E-COHORT: "),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mistake_ends_in_one_sentence_and_writes_nothing(wrong: str, call: Call, places: dict[str, Path]) -> None:
    line, status, sentence = WRONG[wrong]
    before = contents(places["here"])
    ending = call(*(word.format(**places) if "{" in word else word for word in line.split()))
    assert ending.status == status, ending
    assert re.search(sentence, ending.sentence) if sentence else not ending.err
    assert "Traceback" not in ending.out + ending.err
    assert contents(places["here"]) == before


def _break_json(run: Path) -> None:
    (run / "metrics.json").write_text("{")


def _break_metrics(run: Path) -> None:
    (run / "metrics.json").write_text('{"erosion": []}')


def _drop_manifest(run: Path) -> None:
    (run / "manifest.json").unlink()


def _break_manifest(run: Path) -> None:
    (run / "manifest.json").write_text("[]")


def _break_rounds(run: Path) -> None:
    (run / "metrics.json").unlink()
    (run / "rounds.jsonl").write_text('7\n{"round": "one"}\n')


def _swap_weights(run: Path) -> None:
    shutil.copy(run / "models" / "erosion.safetensors", run / "models" / "segmentation.safetensors")


def _other_network(run: Path) -> None:
    _, card = load_weights(run / "models" / "segmentation.safetensors")
    save_weights(run / "models" / "segmentation.safetensors", {"a": torch.zeros(1)}, card)


def _break_card(run: Path) -> None:
    path = run / "models" / "segmentation.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata={KEY: "{"})


def _empty_card(run: Path) -> None:
    path = run / "models" / "segmentation.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata={KEY: "[]"})


def _drop_config(run: Path) -> None:
    (run / "config.toml").unlink()


_RESUME = "run tiny.toml --out run --resume"
_EVALUATE = "evaluate run --cohort {cohort}"
_PREDICT = "predict run wrist_L.png --out new"

BROKEN: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "metrics cut short": (_break_json, _RESUME, "E-RUN: .*metrics.json is no JSON"),
    "metrics of another form": (_break_metrics, _RESUME, "E-RUN: metrics.json or baselines.json of .* is not what"),
    "a manifest removed": (_drop_manifest, _RESUME, "E-RUN: .* is finished but has no manifest.json"),
    "a manifest of another form": (_break_manifest, _RESUME, "E-RUN: .*manifest.json holds no table"),
    "rounds of another form": (_break_rounds, _RESUME, "E-RUN: line 1 of .*rounds.jsonl is no record of a round"),
    "no run to evaluate": (_drop_config, _EVALUATE, "E-RUN: run holds no run"),
    "a task's weights for another": (_swap_weights, _EVALUATE, "E-RUN: .* holds weights of 'erosion'"),
    "another network to evaluate": (_other_network, _EVALUATE, "E-RUN: the run's segmentation model is another"),
    "a card cut short": (_break_card, _EVALUATE, "E-RUN: the 'ramw-fed' entry of .* cannot be read"),
    "an empty card": (_empty_card, _PREDICT, "E-RUN: the 'ramw-fed' entry of .* cannot be read"),
    "weights of another network": (_other_network, _PREDICT, "E-RUN: the weights of segmentation are not of the"),
    "another task's weights to predict": (_swap_weights, _PREDICT, "E-RUN: .* holds weights of 'erosion'"),
    "a run that is none": (_drop_config, _PREDICT, "E-CONFIG: run is a folder; image files are wanted"),
    "an evaluation into a full folder": (lambda run: None, f"{_EVALUATE} --out run", "E-RUN: run is not empty"),
    "an evaluation below a file": (lambda run: None, f"{_EVALUATE} --out file/new", "E-RUN: no folder can be made at"),
    "an unknown split": (lambda run: None, f"{_EVALUATE} --split all", "E-CONFIG: split is 'all'"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_damaged_run_is_named_with_its_file(fault: str, call: Call, places: dict[str, Path], finished: Path) -> None:
    damage, line, sentence = BROKEN[fault]
    run = places["here"] / "run"
    shutil.copytree(finished, run)
    damage(run)
    before = contents(places["here"])
    ending = call(*(word.format(**places) for word in line.split()))
    assert ending.status == 1, ending
    assert re.search(sentence, ending.sentence), ending
    assert "Traceback" not in ending.out + ending.err
    assert contents(places["here"]) == before


@pytest.mark.parametrize("out", [".", "../{here.name}", "link"])
def test_a_radiograph_is_never_replaced_by_the_picture_drawn_of_it(
    out: str, call: Call, places: dict[str, Path]
) -> None:
    (places["here"] / "link").symlink_to(places["here"])
    before = (places["here"] / "wrist_L.png").read_bytes()
    ending = call("predict", "wrist_L.png", "--out", out.format(**places))
    assert ending.status == 1
    assert re.search(r"E-CONFIG: .*wrist_L.png would replace an image that is to be read", ending.sentence)
    assert (places["here"] / "wrist_L.png").read_bytes() == before
    assert not (places["here"] / "wrist_L.npy").exists()


def test_a_result_that_is_a_link_to_a_radiograph_is_not_written_through_it(call: Call, places: dict[str, Path]) -> None:
    (places["here"] / "new").mkdir()
    (places["here"] / "new" / "wrist_L.png").symlink_to(places["here"] / "wrist_L.png")
    ending = call("predict", "wrist_L.png", "--out", "new")
    assert (ending.status, "would replace" in ending.sentence) == (1, True)


def test_a_picture_that_cannot_be_written_is_not_lost_without_a_word(call: Call, places: dict[str, Path]) -> None:
    (places["here"] / "new" / "wrist_L.png").mkdir(parents=True)
    ending = call("predict", "wrist_L.png", "--out", "new")
    assert (ending.status, ending.sentence.startswith("E-SYSTEM: new/wrist_L.png: Is a directory")) == (1, True)


def test_names_are_printed_as_they_are(call: Call, places: dict[str, Path], finished: Path) -> None:
    image = places["here"] / "w[red]:boom:_R.bmp"
    cv2.imwrite(str(image), np.zeros((64, 64), np.uint8))
    ending = call("predict", finished, image, "--out", "new[/bold]")
    assert ending.status == 0, ending
    assert "w[red]:boom:_R.bmp" in ending.out


def test_a_run_folder_named_like_markup_is_printed_as_it_is(
    call: Call, places: dict[str, Path], finished: Path
) -> None:
    shutil.copytree(finished, places["here"] / "r[/bold]")
    ending = call("run", "tiny.toml", "--out", "r[/bold]", "--resume")
    assert ending.status == 0, ending
    assert "r[/bold]: metrics.json, models/" in ending.out


def test_a_plan_without_examples_says_so(call: Call, places: dict[str, Path]) -> None:
    bones_only = places["here"] / "bones"
    shutil.copytree(places["cohort"], bones_only)
    shutil.rmtree(bones_only / "SvdHBEScoreClassification")
    ending = call("run", "tiny.toml", "--cohort", bones_only, "--plan", "--set", "tasks=erosion")
    assert ending.status == 1
    assert ending.sentence.startswith("E-FEDERATION: no center has examples to train erosion; check the cohort's")


def test_a_users_own_task_may_have_one_table_and_only_of_its_own_name(call: Call, places: dict[str, Path]) -> None:
    own = ("run", "tiny.toml", "--set", "tasks=ramw_fed.tasks:EROSION")
    ending = call(*own, "--set", "finger.num-rounds=2", "--out", "new")
    assert ending.sentence.startswith("E-CONFIG: [finger] is the table of no task of this run; its tasks are erosion")
    ending = call(*own, "--set", "finger.num-rounds=2", "--set", "toe.num-rounds=2", "--out", "new")
    assert ending.sentence.startswith("E-CONFIG: unknown table [finger], [toe]")
    assert not (places["here"] / "new").exists()


def test_an_unexpected_error_is_one_sentence_without_its_text_and_a_traceback_only_with_debug(
    call: Call, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("patient 0815")

    monkeypatch.setattr(api, "check_cohort", fail)
    ending = call("cohort", "check", "folder")
    assert ending.status == 1
    assert ending.err.startswith("E-FAULT: KeyError, which is a fault of ramw-fed's")
    assert ending.err.count("\n") == 1
    assert "0815" not in ending.err
    assert "Traceback" in call("cohort", "check", "folder", "--debug").err


def test_a_finished_run_is_shown_as_tables_or_as_json(call: Call, places: dict[str, Path], finished: Path) -> None:
    shutil.copytree(finished, places["here"] / "run")
    assert "erosion on the test split" in call(*_RESUME.split()).out
    shown = call(*_RESUME.split(), "--json")
    assert json.loads(shown.out) == json.loads((finished / "metrics.json").read_text())


def test_evaluating_writes_the_metrics_also_into_a_new_folder(
    call: Call, places: dict[str, Path], finished: Path
) -> None:
    ending = call("evaluate", finished, "--cohort", places["cohort"], "--out", "new/evaluation", "--json")
    assert ending.status == 0, ending
    written = json.loads((places["here"] / "new" / "evaluation" / "metrics.json").read_text())
    assert written == json.loads(ending.out) == json.loads((finished / "metrics.json").read_text())


def test_what_only_predictions_take_is_refused_for_a_run(call: Call, places: dict[str, Path], finished: Path) -> None:
    ending = call("evaluate", finished, "--cohort", places["cohort"], "--centers", "HU", "--allow-leakage")
    assert ending.sentence.startswith("E-CONFIG: only --predictions takes --allow-leakage, --centers;")


def test_the_phantoms_options_say_their_meaning_and_default(call: Call) -> None:
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", call("cohort", "phantom", "--help").out).split())
    assert "Patients over all centers. [default: 168]" in said
    assert "Share of scored joints with an erosion, over all centers. [default: 0.12]" in said


def test_predictions_take_the_readers_knobs(call: Call, places: dict[str, Path]) -> None:
    np.save(places["here"] / "folder" / "9999_9999_L.npy", np.zeros((14, 64, 64), np.uint8))
    own = ("evaluate", "--predictions", "folder", "--cohort", places["cohort"])
    ending = call(*own, "--centers", " ZZ, HU")
    assert ending.sentence.startswith("E-CONFIG: centers names ZZ; the cohort has")
    ending = call(*own, "--quarantine", "0.6")
    assert ending.sentence.startswith("E-CONFIG: quarantine is 0.6; at most 0.5 is wanted")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_simulated_center_says_is_shown_once(
    workers: int,
    call: Call,
    places: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "path", [str(places["here"]), *sys.path])
    name = f"own_tasks_{workers}"
    (places["here"] / f"{name}.py").write_text(
        "from dataclasses import replace\n"
        "from ramw_fed.tasks import EROSION\n"
        "def fail(*_):\n"
        "    raise ValueError('the moon is full')\n"
        "FAILING = replace(EROSION, examples=fail)\n"
    )
    line = f"run tiny.toml --out new --set tasks={name}:FAILING --workers {workers}"
    ending = call(*line.split(), "--set", "centers=FA,HU")
    assert ending.status == 1
    assert caplog.text.count("a center says: ValueError: the moon is full") == 1, caplog.text
    assert "Traceback" not in caplog.text + ending.err
    assert "E-FEDERATION: not every center could enrol" in ending.err
    caplog.clear()
    call("--debug", *line.split(), "--overwrite")
    assert "in fail" in caplog.text


def test_ctrl_c_says_how_to_go_on(call: Call, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "run", interrupt)
    ending = call("run", "tiny.toml", "--out", "new")
    assert (ending.status, ending.err.strip()) == (
        130,
        "stopped; `--resume` goes on with a run, the same command with a study",
    )
