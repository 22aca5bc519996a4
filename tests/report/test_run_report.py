import csv
import json
import shutil
from pathlib import Path

import pages
import pytest

from ramw_fed.errors import RunError
from ramw_fed.report.parsing import read_page
from ramw_fed.report.run_report import write_run_report


@pytest.fixture
def copy(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def test_every_run_leaves_a_page_that_keeps_the_rules(finished_run: Path) -> None:
    assert pages.faults_of((finished_run / "report.html").read_text(encoding="utf-8")) == []


def test_the_rules_find_what_they_are_for() -> None:
    broken = '<h1>a</h1><h3 id="x">b</h3><p id="x"><img src="http://a/b.png"><table><tr><th>c</th></tr></table></b>'
    found = "; ".join(pages.faults_of(broken))
    for wanted in (
        "nest",
        "id twice: x",
        "outside",
        "heading 3 follows 1",
        "caption",
        "scope",
        "without words",
        "policy",
    ):
        assert wanted in found


def test_the_same_run_gives_the_same_bytes(finished_run: Path, copy: Path) -> None:
    assert write_run_report(copy).read_bytes() == (finished_run / "report.html").read_bytes()


def test_every_number_is_what_stands_in_the_files(finished_run: Path) -> None:
    page = read_page((finished_run / "report.html").read_text(encoding="utf-8"))
    metrics = json.loads((finished_run / "metrics.json").read_text(encoding="utf-8"))
    checked = 0
    for section in page.sections.values():
        for path, value, shown in section.numbers:
            if path.startswith("/metrics/"):
                found = metrics
                for key in path.removeprefix("/metrics/").split("/"):
                    found = found[int(key)] if isinstance(found, list) else found[key]
                assert repr(found) == value, path
                assert abs(float(shown) - found) <= 0.5
                checked += 1
    assert checked > 300


def test_every_section_of_a_run_is_there_in_order(finished_run: Path) -> None:
    page = read_page((finished_run / "report.html").read_text(encoding="utf-8"))
    wanted = ["summary", "cohort", "missed", "results-segmentation", "results-erosion", "discrimination", "cases"]
    wanted += ["training", "methods", "model-card", "tripod-ai", "sources"]
    assert [name for name in page.sections if name != "agreement"] == wanted


def test_radiographs_of_patients_are_neither_shown_nor_named_unless_asked_for(copy: Path) -> None:
    change(copy / "manifest.json", '"kind": "phantom"', '"kind": "real"')
    hidden = write_run_report(copy).read_text(encoding="utf-8")
    assert "data:image/jpeg" not in hidden
    assert "missed-cases" not in hidden
    assert "--with-images" in hidden
    shown = write_run_report(copy, with_images=True).read_text(encoding="utf-8")
    assert "data:image/jpeg" in shown
    assert "missed-cases" in shown


def test_joint_spaces_that_were_measured_are_drawn_against_the_truth(copy: Path) -> None:
    path = copy / "predictions" / "segmentation.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for place, row in enumerate(rows):
        for name in row:
            if name.startswith("joint_space_true"):
                row[name] = "1.5"
            elif name.startswith("joint_space_predicted"):
                row[name] = str(1.25 + place % 2)  # differences of -0.25 and 0.75
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = write_run_report(copy).read_text(encoding="utf-8")
    assert pages.faults_of(text) == []
    section = read_page(text).sections["agreement"]
    wanted = 0.25 if len(rows) % 2 == 0 else 0.25 - 0.5 / len(rows)
    (bias,) = [float(value) for path, value, _ in section.numbers if path == "/derived/joint_space/bias"]
    assert bias == pytest.approx(wanted)
    assert '<figure id="bland-altman">' in section.words


def test_a_model_card_with_a_gap_says_so(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    del manifest["versions"]
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    text = write_run_report(copy).read_text(encoding="utf-8")
    assert "This card is incomplete and must not go with the weights: Versions." in text


def test_a_threshold_that_the_run_chose_is_the_one_that_its_report_counts_by(decided_run: Path) -> None:
    page = read_page((decided_run / "report.html").read_text(encoding="utf-8"))
    decision = json.loads((decided_run / "decision.json").read_text(encoding="utf-8"))["erosion"]["knobs"]
    with (decided_run / "predictions" / "erosion.csv").open(newline="", encoding="utf-8") as file:
        eroded = [float(row["probability"]) for row in csv.DictReader(file) if float(row["grade"]) > 0]
    missed = sum(probability < decision["threshold"] for probability in eroded)
    assert missed != sum(probability < 0.5 for probability in eroded)  # what it was configured with
    summary = {path: float(value) for path, value, _ in page.sections["summary"].numbers}
    assert summary["/knobs/erosion/threshold"] == decision["threshold"]
    assert summary["/derived/erosion/missed"] == missed
    words = page.sections["methods"].words
    assert "largest sum of sensitivity and specificity" in words
    assert "Platt scaling" in words
    assert "was fixed" not in words


def test_a_run_without_values_of_single_radiographs_has_no_curves(copy: Path) -> None:
    shutil.rmtree(copy / "predictions")
    shutil.rmtree(copy / "overlays")
    text = write_run_report(copy).read_text(encoding="utf-8")
    assert pages.faults_of(text) == []
    assert {"discrimination", "missed", "cases"} & set(read_page(text).sections) == set()


def test_a_run_whose_test_split_stays_closed_shows_what_it_trained(copy: Path) -> None:
    for name in ("predictions", "overlays"):
        shutil.rmtree(copy / name)
    (copy / "baselines.json").unlink()
    (copy / "metrics.json").write_text("{}", encoding="utf-8")
    text = write_run_report(copy).read_text(encoding="utf-8")
    assert pages.faults_of(text) == []
    assert "The test split is closed." in text
    assert {"training", "model-card"} < set(read_page(text).sections)


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        write_run_report(tmp_path / "nothing")
    (copy / "metrics.json").unlink()
    with pytest.raises(RunError, match="did not finish"):
        write_run_report(copy)
    for other in ('{"erosion": []}', '{"erosion": {"test": {"pooled": {}}}}'):
        (copy / "metrics.json").write_text(other, encoding="utf-8")
        with pytest.raises(RunError, match=r"metrics\.json or baselines\.json of .* is not what a run writes"):
            write_run_report(copy)
