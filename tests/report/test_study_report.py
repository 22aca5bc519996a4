import json
import random
import re
import shutil
from pathlib import Path

import fake_study
import numpy as np
import pages
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ramw_fed import api
from ramw_fed.errors import RunError
from ramw_fed.report.overlays import write_png
from ramw_fed.report.page import seal
from ramw_fed.report.parsing import read_page
from ramw_fed.report.study_facts import study_sources
from ramw_fed.report.study_report import write_study_report
from ramw_fed.verification import StudyFiles, Verification, verify_report

DIGITS = re.compile(r"\d")
FILES = StudyFiles(
    tables={"table.csv": fake_study.read_table, "table.parquet": fake_study.read_parquet},
    seals=fake_study.seals,
    analyse=fake_study.analyse,
    logged=fake_study.logged,
)
SUBJECTS = {"study": FILES.subject()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with its report; whoever changes a file puts it back."""
    folder = tmp_path_factory.mktemp("studies") / "fake"
    fake_study.write_study(folder)
    return api.report(folder).parent


def verify(study: Path, *, quick: bool = False) -> Verification:
    return verify_report(study / "report.html", SUBJECTS, quick=quick)


def test_a_studys_page_keeps_the_rules_and_has_a_section_a_design(study: Path) -> None:
    text = (study / "report.html").read_text(encoding="utf-8")
    assert pages.faults_of(text) == []
    assert set(fake_study.DESIGNS) < set(read_page(text).sections)


def test_the_same_study_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    fake_study.write_study(tmp_path / "other")
    assert write_study_report(tmp_path / "other").read_bytes() == (study / "report.html").read_bytes()


def test_contrasts_stand_in_the_summary_with_their_reading(study: Path) -> None:
    analysis = json.loads((study / "analysis.json").read_text(encoding="utf-8"))
    found = analysis["designs"]["matched-arms"]["segmentation"]["dsc"]["contrasts"][0]
    summary = read_page((study / "report.html").read_text(encoding="utf-8")).sections["summary"]
    address = "/analysis/designs/matched-arms/segmentation/dsc/contrasts/0/value"
    assert (address, repr(found["value"])) in [(path, value) for path, value, _ in summary.numbers]
    assert "fedprox - fedavg (all patients pooled): " in summary.words
    assert "fedprox - local (within centers): " in summary.words
    assert found["reading"] in summary.words


def test_a_table_of_contrasts_says_over_whom_what_its_difference_is_and_both_models(study: Path) -> None:
    section = read_page((study / "report.html").read_text(encoding="utf-8")).sections["matched-arms"]
    assert re.search(r"fedprox - local</th>\s*<td>within centers<", section.words)
    assert "Hodges-Lehmann median shift" in section.words
    at = "/analysis/designs/matched-arms/segmentation/dsc"
    paths = {path for path, *_ in section.numbers}
    assert {f"{at}/contrasts/0/mixed/value", f"{at}/contrasts/0/fixed/value", f"{at}/arms/local/within/value"} <= paths
    assert "DHA and FA</td><td>DHA<" in section.words
    assert "which weigh by their pairs of an eroded and an intact joint" in section.words


def test_means_within_centers_are_not_called_means_over_centers(study: Path) -> None:
    sections = read_page((study / "report.html").read_text(encoding="utf-8")).sections
    for name in ("cross-site-matrix", "leave-one-center-out"):
        assert "mean over centers" not in sections[name].words
        assert "which weigh by their patients" in sections[name].words


def test_what_was_not_declared_is_not_said_to_be(study: Path, tmp_path: Path) -> None:
    stated = json.loads((study / "study.json").read_text(encoding="utf-8"))
    folder = after_report(study, tmp_path)
    (folder / "study.json").write_text(json.dumps({**stated, "contrasts": [], "margins": {}}), encoding="utf-8")
    analysis = (folder / "analysis.json").read_text(encoding="utf-8")
    (folder / "analysis.json").write_text(analysis.replace('"margin": 0.02,', '"margin": 0.0,'), encoding="utf-8")
    knobs = (folder / "config.toml").read_text(encoding="utf-8")
    (folder / "config.toml").write_text(f"allow-leakage = true\n{knobs}", encoding="utf-8")
    api.report(folder)
    for place, is_declared in ((study, True), (folder, False)):
        sections = read_page((place / "report.html").read_text(encoding="utf-8")).sections
        assert ("the margin declared beforehand" in sections["matched-arms"].words) is is_declared
        assert ("no margin was declared" in sections["matched-arms"].words) is not is_declared
        assert ("Contrasts were declared beforehand" in sections["methods"].words) is is_declared
        assert ("lie on one side of a split" in sections["methods"].words) is is_declared
        assert ("its results are optimistic" in sections["methods"].words) is not is_declared


def test_methods_say_what_the_checklist_counts_as_reported(study: Path, tmp_path: Path) -> None:
    folder = after_report(study, tmp_path)
    stated = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    (folder / "study.json").write_text(json.dumps({**stated, "tune": {"learning-rate": ["0.1", "0.2"]}}))
    knobs = 'num-rounds = 9\nproximal-mu = 0.25\n[erosion]\nloss = "focal"\nthreshold-rule = "youden"\n'
    (folder / "config.toml").write_text(f"{knobs}[study]\nseeds = 2\n", encoding="utf-8")
    api.report(folder)
    words = read_page((folder / "report.html").read_text(encoding="utf-8")).sections["methods"].words
    wanted = ["with encoder tu-test_resnet at 96 px", "9 rounds of 3 local epochs", "adamw at 0.006", "mu = 0.25"]
    wanted += ["the focal loss with gamma = 2", "every joint once a pass", "largest sum of sensitivity and specificity"]
    wanted += ["learning-rate of 0.1, 0.2"]
    assert [one for one in wanted if one not in words] == []


def joints(study: Path, arm: str) -> list[tuple[float, float, str]]:
    """Return probability, grade and patient of an arm's joints under its first seed."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for row in fake_study.read_table(study):
        if (row["task"], row["arm"], row["seed"]) == ("erosion", arm, "0"):
            key = (row["patient"], row["test_center"], row["item"])
            found.setdefault(key, {})[row["measure"]] = float(row["value"])
    return [(one["probability"], one["grade"], key[0]) for key, one in found.items()]


def numbers_of(study: Path, section: str) -> dict[str, float]:
    page = read_page((study / "report.html").read_text(encoding="utf-8"))
    return {path: float(value) for path, value, _ in page.sections[section].numbers}


def missed_of(study: Path, arm: str) -> float:
    found = numbers_of(study, "missed")
    return sum(
        value for path, value in found.items() if path.startswith(f"/derived/erosion/{arm}/") and "missed" in path
    )


def test_a_threshold_above_the_tasks_tables_is_the_one_of_all_models(study: Path, tmp_path: Path) -> None:
    folder = after_report(study, tmp_path)
    (folder / "config.toml").write_text("threshold = 0.3\n[study]\nseeds = 2\n", encoding="utf-8")
    api.report(folder)
    wanted = sum(probability < 0.3 for probability, grade, _ in joints(folder, "fedavg") if grade > 0)
    assert missed_of(folder, "fedavg") == wanted != missed_of(study, "fedavg")
    assert numbers_of(folder, "missed")["/derived/thresholds/central/0"] == 0.3


def test_models_that_chose_their_thresholds_are_counted_by_their_own_and_folds_are_not_ranked_together(
    study: Path, tmp_path: Path
) -> None:
    folder = after_report(study, tmp_path)
    lines = [
        re.sub(r"^(([^,]*,){5}),", rf"\g<1>{'1/3' if re.search('erosion,000[0-2],', line) else '2/3'},", line)
        if ",erosion," in line
        else line
        for line in (study / "table.csv").read_text(encoding="utf-8").splitlines()
    ]
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    stated = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    run = next(one for one in stated["trainings"] if (one["arm"], one["task"], one["seed"]) == ("fedavg", "erosion", 0))
    run["fold"] = "2/3"
    (folder / "study.json").write_text(json.dumps(stated), encoding="utf-8")
    place = folder / run["folder"]
    (place / "config.toml").write_text('tasks = "erosion"\n', encoding="utf-8")
    (place / "decision.json").write_text('{"erosion": {"knobs": {"threshold": 0.25}}}', encoding="utf-8")
    api.report(folder)
    first = {f"000{patient}" for patient in range(3)}
    own = [(p < (0.5 if patient in first else 0.25)) for p, grade, patient in joints(study, "fedavg") if grade > 0]
    assert missed_of(folder, "fedavg") == sum(own) != missed_of(study, "fedavg")
    assert missed_of(folder, "fedprox") == missed_of(study, "fedprox")
    assert numbers_of(folder, "missed")["/derived/thresholds/fedavg/0"] == 0.25
    eroded = [grade > 0 for _, grade, patient in joints(study, "central") if patient in first]
    assert numbers_of(folder, "discrimination")["/derived/prevalence/central"] == sum(eroded) / len(eroded)
    words = read_page((folder / "report.html").read_text(encoding="utf-8")).sections["discrimination"].words
    assert "under the first seed, fold 1/3" in words
    assert f"{run['folder']}/decision.json" in study_sources(folder)


def test_scores_of_centers_with_models_of_their_own_are_not_ranked_together(study: Path, tmp_path: Path) -> None:
    folder = after_report(study, tmp_path)
    stated = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    (folder / "study.json").write_text(json.dumps({**stated, "own_models": ["fedavg"]}), encoding="utf-8")
    api.report(folder)
    words = read_page((folder / "report.html").read_text(encoding="utf-8")).sections["discrimination"].words
    assert "Left out: fedavg" in words
    assert 'id="calibration-fedprox"' in words
    assert 'id="calibration-fedavg"' not in words


def test_cases_say_which_model_drew_them(study: Path, tmp_path: Path) -> None:
    folder = after_report(study, tmp_path)
    write_png(folder / "overlays" / "HU.png", np.zeros((8, 8, 3), np.uint8))
    api.report(folder)
    words = read_page((folder / "report.html").read_text(encoding="utf-8")).sections["cases"].words
    assert "Drawn by FedProx" in words
    assert "first seed and fold" in words


def test_fewer_than_five_seeds_are_said_to_rank_nothing(study: Path) -> None:
    assert "Fewer than five seeds" in (study / "report.html").read_text(encoding="utf-8")


def test_a_study_without_a_design_or_single_joints_leaves_those_sections_out(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    fake_study.write_study(folder)
    analysis = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
    del analysis["designs"]["scale-up"], analysis["designs"]["matched-arms"]["erosion"]
    (folder / "analysis.json").write_text(json.dumps(analysis), encoding="utf-8")
    lines = (folder / "table.csv").read_text(encoding="utf-8").splitlines()
    (folder / "table.csv").write_text("\n".join(line for line in lines if "erosion" not in line), encoding="utf-8")
    text = write_study_report(folder).read_text(encoding="utf-8")
    assert pages.faults_of(text) == []
    assert not {"scale-up", "discrimination", "missed"} & set(read_page(text).sections)


def test_a_study_that_nobody_touched_is_intact(study: Path) -> None:
    found = verify(study)
    assert found.alterations == ()
    assert found.remarks == ()


@pytest.mark.parametrize("edits", [50, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["report.html", "table.csv"])
def test_each_edit_of_one_digit_is_found(study: Path, name: str, edits: int) -> None:
    rng, path = random.Random(name), study / name
    before = path.read_bytes()
    text = before.decode()
    places = [found.start() for found in DIGITS.finditer(text)]
    missed = 0
    for _ in range(edits):
        place = rng.choice(places)
        other = rng.choice([digit for digit in "0123456789" if digit != text[place]])
        path.write_bytes(f"{text[:place]}{other}{text[place + 1 :]}".encode())
        missed += verify(study, quick=True).is_intact
    path.write_bytes(before)
    assert missed == 0
    assert verify(study, quick=True).is_intact


def test_a_changed_value_of_the_table_names_its_model_and_what_follows_from_it(study: Path) -> None:
    path = study / "table.csv"
    before = path.read_text(encoding="utf-8")
    row = next(line for line in before.splitlines() if ",fedavg,fedavg,1," in line and ",HU,segmentation," in line)
    path.write_text(before.replace(row, f"{row.rpartition(',')[0]},0.5"), encoding="utf-8")
    found = verify(study)
    path.write_text(before, encoding="utf-8")
    named = {one.where for one in found.alterations}
    centers = "+".join(fake_study.CENTERS)
    assert f"table.csv, rows of matched-arms/fedavg/fedavg/1////{centers}/HU/segmentation" in named
    assert sum("rows of" in one for one in named) == 1
    address = "designs/matched-arms/segmentation/dsc/arms/fedavg/centers/HU/value"
    assert {f"analysis.json/{address}", f"/analysis/{address}"} <= named
    assert f"analysis.json/{address.replace('HU', 'DHA')}" not in named


def after_report(study: Path, tmp_path: Path) -> Path:
    """Return a copy whose files can be changed and its report made anew: only the last looks may find that."""
    return Path(shutil.copytree(study, tmp_path / "study"))


def test_a_parquet_that_says_otherwise_than_the_table_is_found_behind_a_report_made_from_it(
    study: Path, tmp_path: Path
) -> None:
    folder = after_report(study, tmp_path)
    rows = fake_study.read_parquet(folder)
    rows[0]["value"] = "0.25"
    pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")
    api.report(folder)
    named = {one.where for one in verify(folder).alterations}
    first = "/".join(rows[0][name] for name in fake_study.MODEL[1:])
    assert named == {"table.parquet", f"table.parquet, rows of {first}"}


def test_openings_and_steps_that_the_study_does_not_state_are_found(study: Path, tmp_path: Path) -> None:
    folder = after_report(study, tmp_path)
    opened = json.loads((folder / "opened.json").read_text(encoding="utf-8"))
    del opened["opened"]["fedavg-segmentation-0/HU"]
    (folder / "opened.json").write_text(json.dumps(opened), encoding="utf-8")
    log = folder / "runs" / "fedavg-segmentation-1" / "rounds.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace('"steps": 9', '"steps": 8', 1), encoding="utf-8")
    assert "opened.json" in {one.where for one in verify(folder, quick=True).alterations}
    api.report(folder)
    named = {one.where: one.what for one in verify(folder).alterations}
    assert set(named) == {"study.json/trainings/0/opened", "study.json/trainings/1/steps"}
    assert named["study.json/trainings/1/steps"] == "the file says 270, opened.json and rounds.jsonl give 269"


def test_a_number_changed_on_a_page_that_was_sealed_anew_is_named(study: Path) -> None:
    path = study / "report.html"
    before = path.read_text(encoding="utf-8")
    address = "/analysis/designs/cross-site-matrix/erosion/auroc/cells/HU/FA/value"
    edited = re.sub(
        rf'<data value="0[^"]*" data-path="{address}">', f'<data value="0.9" data-path="{address}">', before
    )
    assert edited != before
    path.write_text(seal(edited), encoding="utf-8")
    assert verify(study, quick=True).is_intact
    found = verify(study)
    path.write_text(before, encoding="utf-8")
    assert [one.where for one in found.alterations] == [address]


def test_a_folder_without_a_finished_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[study]\n", encoding="utf-8")
    (tmp_path / "study.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="did not finish"):
        api.report(tmp_path)
