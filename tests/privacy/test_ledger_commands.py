"""``ramw-fed privacy ledger``: whose ledgers it makes, where, and what it shows and refuses."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ramw_fed import cli, privacy_ledgers
from ramw_fed.data.checks import check_cohort
from ramw_fed.data.parting import part_by_center
from ramw_fed.data.reading import read_cohort
from ramw_fed.privacy.accounting import epsilons
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.ledger import Ledger

EVENTS = [Event(sampling_rate=0.5, noise_multiplier=4.0, steps=3)]
RUN = "0123456789abcdef"
CENTERS = ["BTXRD", "DHA", "FA", "HMCRD", "HU", "SCGH"]

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def one(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ramw-fed", "privacy", "ledger", *map(str, arguments)])
        status: object = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        assert isinstance(status, int)
        return status, *capsys.readouterr()

    return one


@pytest.fixture
def root(phantom_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantom_root, tmp_path / "cohort"))


@pytest.fixture
def real_root(root: Path) -> Path:
    description = root / "cohort.toml"
    description.write_text(description.read_text().replace('kind = "phantom"', 'kind = "real"'))
    return root


def patients_at(root: Path, center: str) -> set[str]:
    return {one.patient for one in read_cohort(root, allow_leakage=True).at(center).radiographs}


def opened(root: Path, center: str = "HU") -> Ledger:
    return Ledger.open(root / "privacy", center, patients_at(root, center))


def test_a_simulation_has_a_ledger_a_center_in_its_cohorts_folder(root: Path, call: Call) -> None:
    status, out, err = call("init", root, "--epsilon-cap", 3)
    assert (status, err) == (0, "")
    assert sorted(path.name for path in (root / "privacy").iterdir()) == CENTERS
    for center in CENTERS:
        count = len(patients_at(root, center))
        assert f"{center}: {count} patients, cap 3 at delta {1 / (10 * count):.3g}" in out
        assert (opened(root, center).num_patients, opened(root, center).cap) == (count, 3.0)


def test_ledgers_are_no_part_of_the_cohort(root: Path, call: Call) -> None:
    before, found = read_cohort(root).sha256, check_cohort(root)
    assert call("init", root, "--epsilon-cap", 3)[0] == 0
    (root / "privacy" / "HU" / "0123456789abcdef.jsonl.part").write_text("of a process that was killed")
    assert read_cohort(root).sha256 == before
    assert check_cohort(root) == found


def test_files_that_are_no_ledgers_are_found_in_a_folder_called_privacy(root: Path) -> None:
    (root / "privacy" / "HU").mkdir(parents=True)
    (root / "privacy" / "HU" / "scan.png").write_bytes(b"no image")
    places = [place for one in check_cohort(root).items if one.code == "file-unknown" for place in one.places]
    assert places == ["privacy/HU/scan.png"]


def test_ledgers_do_not_go_to_the_centers_with_their_radiographs(root: Path, tmp_path: Path, call: Call) -> None:
    assert call("init", root, "--epsilon-cap", 3)[0] == 0
    for folder in part_by_center(root, tmp_path / "parts").values():
        assert not (folder / "privacy").exists()


def test_init_again_changes_nothing_and_says_what_is_spent(root: Path, call: Call) -> None:
    call("init", root, "--epsilon-cap", 3)
    opened(root).reserve(RUN, "erosion", 1, "update", EVENTS)
    shutil.rmtree(root / "privacy" / "FA")
    status, out, _ = call("init", root, "--epsilon-cap", 3)
    spent = epsilons(EVENTS, opened(root).delta).pld
    assert status == 0
    assert f"of which {spent:.4f} is spent" in out
    assert opened(root, "FA").events() == []


def test_another_cap_is_carried_over_or_refused(root: Path, call: Call) -> None:
    call("init", root, "--epsilon-cap", 3)
    opened(root).reserve(RUN, "erosion", 1, "update", EVENTS)
    for other in (["--epsilon-cap", 8], ["--epsilon-cap", 3, "--delta", 1e-5], ["--epsilon-cap", 3, "--delta", 0]):
        status, _, err = call("init", root, *other)
        assert status == 1
        assert "E-LEDGER" in err
        assert "--carry-over" in err
    assert call("init", root, "--epsilon-cap", 8, "--carry-over")[0] == 0
    assert (opened(root).cap, opened(root).events()) == (8.0, EVENTS)


@pytest.mark.parametrize("cap", ["0", "-1", "nan", "inf"])
def test_a_senseless_cap_makes_no_ledger(root: Path, call: Call, cap: str) -> None:
    status, _, err = call("init", root, "--epsilon-cap", cap)
    assert status == 1
    assert "E-PRIVACY" in err
    assert not (root / "privacy").exists()


def test_only_phantoms_may_be_forgotten(root: Path, call: Call) -> None:
    call("init", root, "--epsilon-cap", 3)
    opened(root).reserve(RUN, "erosion", 1, "update", EVENTS)
    next((root / "privacy" / "FA").glob("*.jsonl")).write_text("damaged")
    assert call("init", root, "--epsilon-cap", 1, "--renew")[0] == 0
    assert (opened(root).cap, opened(root).events(), opened(root, "FA").events()) == (1.0, [], [])


def test_what_was_spent_on_real_patients_is_never_forgotten(real_root: Path, call: Call) -> None:
    call("init", real_root, "--epsilon-cap", 3)
    opened(real_root).reserve(RUN, "erosion", 1, "update", EVENTS)
    status, _, err = call("init", real_root, "--epsilon-cap", 3, "--renew")
    assert status == 1
    assert "E-CONFIG: --renew forgets what was spent, which is for phantoms only" in err
    assert opened(real_root).events() == EVENTS


def test_a_runs_configuration_names_its_cohort(root: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "run.toml").write_text(f'cohort = "{root}"\n')
    assert call("init", tmp_path / "run.toml", "--epsilon-cap", 3)[0] == 0
    assert opened(root).cap == 3.0


def test_a_runs_configuration_without_a_cohort_has_its_phantoms(
    root: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        privacy_ledgers.api, "phantom_folder", lambda config, workers: asked.append(config.seed) or root
    )
    (tmp_path / "run.toml").write_text("[phantom]\nseed = 9\n")
    assert call("init", tmp_path / "run.toml", "--epsilon-cap", 3)[0] == 0
    assert (asked, opened(root).cap) == ([9], 3.0)


def test_a_hospital_has_one_ledger_where_its_own_file_says(root: Path, tmp_path: Path, call: Call) -> None:
    own = tmp_path / "center.toml"
    own.write_text('name = "HU"\ndata = "cohort"\n')
    assert call("init", own, "--epsilon-cap", 3)[0] == 0
    assert sorted(path.name for path in (tmp_path / "ledger").iterdir()) == ["HU"]
    assert Ledger.open(tmp_path / "ledger", "HU", patients_at(root, "HU")).cap == 3.0
    own.write_text('name = "HU"\ndata = "cohort"\nledger = "other/place"\n')
    status, _, err = call("show", own)
    assert status == 1
    assert "E-LEDGER: there is no privacy ledger" in err
    assert not (root / "privacy").exists()


def test_a_hospital_whose_folder_has_no_radiograph_of_it_is_refused(root: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "center.toml").write_text('name = "Elsewhere"\ndata = "cohort"\n')
    status, _, err = call("init", tmp_path / "center.toml", "--epsilon-cap", 3)
    assert status == 1
    assert "holds no radiograph of 'Elsewhere'" in err


def spent(root: Path, call: Call) -> None:
    call("init", root, "--epsilon-cap", 3)
    ledger = opened(root)
    ledger.release(ledger.reserve(RUN, "erosion", 1, "update", EVENTS), "a" * 64)
    ledger.reserve(RUN, "erosion", 2, "update", EVENTS)
    ledger.reserve("f" * 16, "segmentation", 1, "update", EVENTS, seeded=True)


def test_the_ledger_shows_what_each_run_spent(root: Path, call: Call) -> None:
    spent(root, call)
    status, out, _ = call(root)
    assert (status, out) == call("show", root)[:2]
    two, three = (epsilons(EVENTS * number, opened(root).delta) for number in (2, 3))
    table = out[out.index("HU: ") :].split("SCGH: ")[0]
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if RUN[:2] in line[:5]]
    assert lines == [[RUN, "erosion", "2", "6", "1", "1", f"{two.pld:.4f}", ""]]
    assert "seeded: no privacy" in table
    assert f"spent {three.pld:.4f} (PLD, which decides; PRV {three.prv:.4f}, RDP {three.rdp:.4f})" in table
    assert f"left {3 - three.pld:.4f}" in table


def test_the_ledger_as_json_names_no_patient(root: Path, call: Call) -> None:
    spent(root, call)
    shutil.rmtree(root / "privacy" / "FA")
    status, out, err = call("show", root, "--json")
    assert status == 0
    assert "no ledger: FA" in err
    shown = json.loads(out)
    assert shown["without"] == ["FA"]
    assert [one["center"] for one in shown["ledgers"]] == [name for name in CENTERS if name != "FA"]
    own = next(one for one in shown["ledgers"] if one["center"] == "HU")
    assert [run["run"] for run in own["runs"]] == [RUN, "f" * 16]
    assert own["epsilon"]["pld"] == epsilons(EVENTS * 3, own["delta"]).pld
    assert own["left"] == 3.0 - own["epsilon"]["pld"]
    assert set(own) == {"center", "ledger", "patients", "cap", "delta", "epsilon", "left", "runs"}
    assert type(own["patients"]) is int


def test_a_damaged_ledger_is_not_shown(root: Path, call: Call) -> None:
    spent(root, call)
    path = next((root / "privacy" / "HU").glob("*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b'"steps":3', b'"steps":1'))
    for arguments in (["show", root], ["init", root, "--epsilon-cap", 3], [root, "--json"]):
        status, out, err = call(*arguments)
        assert (status, out) == (1, "")
        assert "E-LEDGER" in err
        assert "was altered or cut off: entry 1 is not as it was written; put" in err


def test_where_nothing_was_made_it_says_how(root: Path, call: Call) -> None:
    status, _, err = call("show", root)
    assert status == 1
    assert "`ramw-fed privacy ledger init`" in err


def test_a_center_that_changed_its_name_has_not_changed_its_patients(root: Path, call: Call) -> None:
    Ledger.init(root / "privacy", "Old/Name", patients_at(root, "HU"), cap=3.0)
    status, _, error = call("init", root, "--epsilon-cap", "3")
    assert status == 1
    assert "'HU' are in the ledger of 'Old/Name'" in error
    assert not (root / "privacy" / "HU").exists()
