"""A study as the engine leaves it, with thresholds and probabilities that its runs chose, in folds."""

import json
import re
import shutil
from pathlib import Path

import pages
import pytest

from ramw_fed import api
from ramw_fed.report.parsing import read_page
from ramw_fed.studies.config import Study


@pytest.fixture(scope="module")
def study(phantom_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "chosen"
    own = {"designs": ["matched-arms"], "methods": ["fedavg"], "seeds": 1, "folds": 3, "metrics": ["auroc"]}
    knobs = {"tasks": "erosion", "cohort": str(phantom_root), "centers": ["HU", "SCGH"], "workers": 1, "device": "cpu"}
    erosion = {"crop-size": 16, "num-rounds": 1, "local-epochs": 1, "threshold-rule": "youden", "calibration": "platt"}
    api.study(Study.of("chosen", {**knobs, "resamples": 100, "erosion": erosion, "study": own}), out=folder)
    api.report(folder)
    return folder


def test_its_report_counts_by_the_thresholds_of_its_runs_and_is_intact(study: Path) -> None:
    text = (study / "report.html").read_text(encoding="utf-8")
    assert pages.faults_of(text) == []
    stated = json.loads((study / "study.json").read_text(encoding="utf-8"))["trainings"]
    runs = [study / one["folder"] for one in stated if one["arm"] == "fedavg"]
    decisions = [json.loads((run / "decision.json").read_text(encoding="utf-8"))["erosion"] for run in runs]
    wanted = {one["knobs"].get("threshold", 0.5) for one in decisions}  # one fold may have one class to choose by
    assert len(decisions) == 3
    assert len(wanted) > 1
    shown = {
        float(value)
        for path, value, _ in read_page(text).sections["missed"].numbers
        if path.startswith("/derived/thresholds/fedavg/")
    }
    assert shown == wanted
    assert api.verify(study / "report.html").alterations == ()


def test_steps_that_its_log_does_not_have_are_found(study: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study, tmp_path / "copy"))
    text = (folder / "study.json").read_text(encoding="utf-8")
    (folder / "study.json").write_text(re.sub(r'"steps": \d+', '"steps": 7777', text, count=1), encoding="utf-8")
    api.report(folder)
    assert [one.where for one in api.verify(folder / "report.html").alterations] == ["study.json/trainings/0/steps"]
