"""Edits of one digit: each is found, and nothing is found where nothing was changed."""

import html
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ramw_fed import api
from ramw_fed.cli import app
from ramw_fed.errors import RunError
from ramw_fed.report.page import seal

DIGITS = re.compile(r"\d")


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy; whoever changes a file puts it back."""
    return Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("verified") / "run"))


def read(path: Path) -> str:
    """Return a text with its line ends as they are."""
    return path.read_bytes().decode()


@contextmanager
def holding(path: Path, text: str) -> Iterator[None]:
    """Let a file hold another text for a while."""
    before = path.read_bytes()
    try:
        path.write_bytes(text.encode())
        yield
    finally:
        path.write_bytes(before)


def with_another_digit(text: str, rng: random.Random, places: list[int]) -> str:
    place = rng.choice(places)
    other = rng.choice([digit for digit in "0123456789" if digit != text[place]])
    return text[:place] + other + text[place + 1 :]


def test_a_report_that_nobody_touched_is_intact(run: Path) -> None:
    found = api.verify(run / "report.html")
    assert found.alterations == ()
    assert found.remarks == ()


def test_a_report_of_a_run_that_chose_its_threshold_is_intact(decided_run: Path) -> None:
    assert api.verify(decided_run / "report.html").alterations == ()


@pytest.mark.parametrize("edits", [20, pytest.param(250, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["report.html", "metrics.json", "predictions/erosion.csv", "predictions/segmentation.csv"]
)
def test_each_edit_of_one_digit_is_found(run: Path, name: str, edits: int) -> None:
    rng, path = random.Random(name), run / name
    text = read(path)
    places = [found.start() for found in DIGITS.finditer(text)]
    missed = 0
    for _ in range(edits):
        with holding(path, with_another_digit(text, rng, places)):
            missed += api.verify(run / "report.html", quick=True).is_intact
    assert missed == 0
    assert api.verify(run / "report.html", quick=True).is_intact


def test_numbers_changed_on_a_page_that_was_sealed_anew_are_named(run: Path) -> None:
    rng, path = random.Random(0), run / "report.html"
    text = read(path)
    numbers = list(re.finditer(r'<data value="([^"]*\d[^"]*)" data-path="([^"]*)">', text))
    chosen = sorted(rng.sample(numbers, 60), key=lambda found: found.start(), reverse=True)
    edited = text
    for number in chosen:
        places = [found.start() for found in DIGITS.finditer(text, *number.span(1))]
        edited = with_another_digit(edited, rng, places)
    with holding(path, seal(edited)):
        assert api.verify(path, quick=True).is_intact  # the seal is right, so it takes more to find them
        found = api.verify(path)
    assert [one.where for one in found.alterations] == [html.unescape(number[2]) for number in reversed(chosen)]


def test_what_is_shown_of_a_number_and_the_words_around_it_are_compared_too(run: Path) -> None:
    path = run / "report.html"
    text = read(path)
    edits = (
        (r'(data-path="/metrics/segmentation/test/pooled/dsc/value">)[^<]*', r"\g<1>.999", "/metrics/segmentation"),
        ("does not exceed", "exceeds", "section summary"),
        ("default-src 'none'", "default-src *", "page"),
        (r'<section id="missed".*?</section>', "", "section missed"),
    )
    for pattern, instead, where in edits:
        edited = re.sub(pattern, instead, text, count=1, flags=re.DOTALL)
        assert edited != text
        with holding(path, seal(edited)):
            found = api.verify(path)
        assert found.alterations
        assert found.alterations[0].where.startswith(where)


def test_a_changed_row_is_named_with_its_center_and_the_numbers_that_follow_from_it(run: Path) -> None:
    path = run / "predictions" / "erosion.csv"
    text = read(path)
    row = next(line for line in text.splitlines()[1:] if line.endswith(",0"))
    center = row.split(",")[0]
    with holding(path, text.replace(row, f"{row[:-1]}1")):
        found = api.verify(run / "report.html")
    named = {one.where for one in found.alterations}
    assert {"predictions/erosion.csv", f"predictions/erosion.csv, rows of {center}"} <= named
    assert not any("segmentation" in one or ("rows of" in one and center not in one) for one in named)
    assert f"metrics.json/erosion/test/centers/{center}/brier/value" in named
    assert "/derived/erosion/eroded" in named


def test_metrics_changed_with_the_page_made_from_them_are_found_by_the_tables(run: Path) -> None:
    path, page = run / "metrics.json", run / "report.html"
    other = re.sub(r'("value": 0\.)\d', r"\g<1>9", read(path), count=1)
    with holding(path, other), holding(page, ""):
        api.report(run)
        assert api.verify(page, quick=True).is_intact
        assert not api.verify(page).is_intact


def test_files_that_cannot_be_read_any_more_are_an_alteration(run: Path) -> None:
    path = run / "predictions" / "erosion.csv"
    text = read(path)
    with holding(path, text.replace("Metacarpal1st", "Metacarpal2st")):
        found = api.verify(run / "report.html")
    assert "files" in {one.where for one in found.alterations}


def test_drawings_of_another_matplotlib_are_not_compared_and_that_is_said(run: Path) -> None:
    path = run / "report.html"
    text = read(path)
    tool = '<meta name="ramw-fed-tool-matplotlib" content="'
    edited = re.sub(rf'{tool}[^"]*', f"{tool}1.5", text).replace("<path d=", "<path d= ")
    with holding(path, seal(edited)):
        found = api.verify(path)
    assert "drawings were not compared" in found.remarks[0]
    assert "section results-segmentation" not in {one.where for one in found.alterations}


def test_the_command_line_tells_by_its_exit_status(run: Path) -> None:
    path = run / "report.html"
    text = read(path)
    good = CliRunner().invoke(app, ["verify", str(path), "--quick"])
    with holding(path, text.replace("Summary", "Sumnary")):
        bad = CliRunner().invoke(app, ["verify", str(path), "--quick"])
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert "intact" in good.output
    assert "seal: the page is not as it was sealed" in bad.output


def test_what_is_no_report_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no file"):
        api.verify(tmp_path / "report.html")
    (tmp_path / "report.html").write_text("<p>", encoding="utf-8")
    with pytest.raises(RunError, match="no report"):
        api.verify(tmp_path / "report.html")
