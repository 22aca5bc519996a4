"""A report in a real browser: no console error, no request, tables that sort, files that can be saved."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import fake_study
import pytest

from ramw_fed import api

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing reaches a network; what was asked for is logged
)


@pytest.fixture(scope="module", params=["run", "study"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "run":
        return Path(request.getfixturevalue("finished_run")) / "report.html"
    folder = tmp_path_factory.mktemp("browsed") / "study"
    fake_study.write_study(folder)
    return api.report(folder)


@dataclass(frozen=True)
class Visit:
    """What a browser printed, said on its console, and who asked for anything."""

    dom: str
    console: list[str]
    initiators: set[str]


def browse(page: Path, tmp_path: Path, *options: str) -> Visit:
    """Open a page."""
    log = tmp_path / "net.json"
    own = [f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", *options, page.as_uri()]
    done = subprocess.run([str(CHROMIUM), *OPTIONS, *own], capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    # The browser's own requests come from no origin; those of a page that lies in a file from the origin "null".
    initiators = set(re.findall(r'"initiator":"([^"]*)"', log.read_text(encoding="utf-8"))) - {"not an origin"}
    return Visit(done.stdout, console, initiators)


def quiet(page: Path, tmp_path: Path, *options: str) -> str:
    """Open a page that must ask for nothing and complain of nothing; return what was printed."""
    visit = browse(page, tmp_path, *options)
    assert visit.console == []
    assert visit.initiators == set()
    return visit.dom


def without_policy(text: str) -> str:
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)


def with_script(page: Path, tmp_path: Path, script: str) -> Path:
    """Return a copy that also runs ``script``: what a user would do."""
    text = without_policy(page.read_text(encoding="utf-8"))
    other = tmp_path / "clicked.html"
    other.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return other


def test_a_page_opens_without_a_console_message_or_a_request(page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    quiet(page, tmp_path, f"--screenshot={shot}", "--window-size=1280,4000")
    assert shot.stat().st_size > 50_000


def test_without_its_policy_a_request_would_be_seen_and_with_it_is_stopped(page: Path, tmp_path: Path) -> None:
    foreign = '<img src="https://example.org/a.png"><script>document.title = "foreign"</script></body>'
    text = page.read_text(encoding="utf-8").replace("</body>", foreign)
    (tmp_path / "guarded.html").write_text(text, encoding="utf-8")
    (tmp_path / "open.html").write_text(without_policy(text), encoding="utf-8")
    guarded = browse(tmp_path / "guarded.html", tmp_path, "--dump-dom")
    assert guarded.initiators == set()
    assert "<title>foreign</title>" not in guarded.dom
    assert len(guarded.console) == 2  # the picture and the script, both refused
    unguarded = browse(tmp_path / "open.html", tmp_path, "--dump-dom")
    assert unguarded.initiators == {"null"}
    assert "<title>foreign</title>" in unguarded.dom


def test_a_click_on_a_head_sorts_by_the_exact_numbers_and_again_the_other_way(page: Path, tmp_path: Path) -> None:
    script = """
        const table = [...document.querySelectorAll("table")].find((one) => one.querySelector("td data[value*='.']"));
        const row = table.tBodies[0].rows[0];
        const column = [...row.cells].findIndex((cell) => cell.querySelector("data[value*='.']"));
        const head = table.tHead.rows[0].cells[column];
        const values = () => [...table.tBodies[0].rows].map((row) => row.cells[column].querySelector("data")?.value);
        head.querySelector("button").click();
        const up = [values(), head.getAttribute("aria-sort")];
        head.querySelector("button").click();
        document.title = JSON.stringify([up, [values(), head.getAttribute("aria-sort")]]);
    """
    dom = quiet(with_script(page, tmp_path, script), tmp_path, "--dump-dom")
    found = re.search(r"<title>(.*?)</title>", dom)
    assert found is not None
    for (values, state), wanted, sign in zip(json.loads(found[1]), ("ascending", "descending"), (1, -1), strict=True):
        assert state == wanted
        numbers = [float(value) for value in values if value is not None]
        assert len(numbers) > 2
        assert numbers == sorted(numbers, key=lambda number, sign=sign: sign * number)
        assert values[: len(numbers)] == [value for value in values if value is not None]  # what has none stays last


def test_a_table_is_saved_as_csv_with_exact_numbers_and_a_drawing_as_svg(page: Path, tmp_path: Path) -> None:
    script = """
        const saved = [];
        URL.createObjectURL = (blob) => { saved.push(blob); return "#"; };
        document.querySelectorAll("button.save").forEach((button) => button.click());
        Promise.all(saved.map((blob) => blob.text())).then((texts) => {
            const shown = document.createElement("pre");
            shown.textContent = JSON.stringify(texts);
            document.body.replaceChildren(shown);
        });
    """
    dom = quiet(with_script(page, tmp_path, script), tmp_path, "--dump-dom", "--virtual-time-budget=5000")
    found = re.search(r"<pre>(.*?)</pre>", dom, re.DOTALL)
    assert found is not None
    texts = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    drawings = [text for text in texts if text.startswith("<svg")]
    tables = [text for text in texts if not text.startswith("<svg")]
    text = page.read_text(encoding="utf-8")
    assert (len(drawings), len(tables)) == (text.count("<svg"), text.count("<table"))
    assert all(text.startswith('"') and text.endswith('"\r\n') for text in tables)
    exact = re.search(r'<data value="(0\.\d{10,})"', text)
    assert exact is not None
    assert any(exact[1] in table for table in tables)


def test_every_head_and_every_save_is_reached_by_keyboard(page: Path, tmp_path: Path) -> None:
    script = """
        const heads = [...document.querySelectorAll("thead th")];
        document.title = JSON.stringify([heads.length, heads.filter((head) => head.querySelector("button")).length,
            [...document.querySelectorAll("button")].filter((one) => one.tabIndex < 0).length,
            document.querySelectorAll(".scroll:not([tabindex='0'])").length]);
    """
    dom = quiet(with_script(page, tmp_path, script), tmp_path, "--dump-dom")
    found = re.search(r"<title>\[(.*?)\]</title>", dom)
    assert found is not None
    heads, sortable, unreachable, unscrollable = map(int, found[1].split(","))
    assert heads == sortable > 0
    assert (unreachable, unscrollable) == (0, 0)


def test_a_page_prints(page: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.pdf"
    quiet(page, tmp_path, f"--print-to-pdf={out}")
    assert out.read_bytes().startswith(b"%PDF")
