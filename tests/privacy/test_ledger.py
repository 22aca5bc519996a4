"""A privacy ledger: what it charges, and everything that it refuses."""

import hashlib
import json
import os
import resource
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, hmac

from ramw_fed.errors import BudgetError, LedgerError, PrivacyError
from ramw_fed.privacy import ledger as ledger_module
from ramw_fed.privacy import ledger_file
from ramw_fed.privacy.accounting import Epsilons, epsilons
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.ledger_file import Witness, linked, parse_chain
from ramw_fed.privacy.spending import Spending

# None of them can stand in hexadecimal digits by chance.
PATIENTS = ["SMITH_JOHN", "MÜLLER", "P-1017-4482"]
SHA = "a" * 64
OTHER = "b" * 64
RUN = "0123456789abcdef"


def steps(number: int, noise: float = 2.0) -> list[Event]:
    return [Event(sampling_rate=0.1, noise_multiplier=noise, steps=number)]


def tenths(events: Sequence[Event], delta: float) -> float:
    """An accountant that can be followed by hand: a tenth a step."""
    return sum(event.steps for event in events) / 10


@pytest.fixture(autouse=True)
def counted_in_tenths(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "real_accountant" in request.fixturenames:
        return
    monkeypatch.setattr(ledger_module, "claimed_epsilon", tenths)
    monkeypatch.setattr(ledger_module, "epsilons", lambda events, delta: Epsilons(*[tenths(events, delta)] * 3))


@pytest.fixture
def real_accountant() -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledgers"


@pytest.fixture
def ledger(folder: Path) -> Ledger:
    return Ledger.init(folder, "HU", PATIENTS, cap=3.0)


def file_of(folder: Path, center: str = "HU") -> Path:
    (path,) = (folder / center).glob("*.jsonl")
    return path


def reopened(folder: Path) -> Ledger:
    return Ledger.open(folder, "HU", PATIENTS)


def used(ledger: Ledger, rounds: int = 2) -> None:
    for number in range(1, rounds + 1):
        ledger.release(ledger.reserve(RUN, "erosion", number, "update", steps(5)), SHA)


# What it holds


def test_a_ledger_is_its_owners_alone_and_names_no_patient(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    files = {path.name: path for path in (folder / "HU").iterdir()}
    assert sorted(files) == sorted([f"{ledger.name}.jsonl", f"{ledger.name}.head", "lock"])
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "HU")] == [0o700, 0o700]
    content = "".join(path.read_text() for path in files.values())
    assert not any(patient in content or patient.encode().hex() in content for patient in PATIENTS)
    assert "M\\u00dcLLER" not in content


def test_patients_stand_as_hmac_under_the_ledgers_own_salt(folder: Path, ledger: Ledger) -> None:
    header = json.loads(file_of(folder).read_text().splitlines()[0])
    assert len(bytes.fromhex(header["salt"])) == 32

    def salted(text: str) -> str:  # by cryptography, where the ledger takes the standard library
        code = hmac.HMAC(bytes.fromhex(header["salt"]), hashes.SHA256())
        code.update(text.encode())
        return code.finalize().hex()

    assert header["patients"] == sorted(salted(patient.lower()) for patient in PATIENTS)
    assert ledger.opaque("MÜLLER") == salted("MÜLLER")
    again = Ledger.init(folder / "elsewhere", "HU", PATIENTS, cap=3.0)
    assert again.opaque("MÜLLER") != ledger.opaque("MÜLLER")
    assert again.name != ledger.name


def test_delta_is_a_tenth_of_one_over_the_patients_where_nothing_is_said(folder: Path) -> None:
    assert Ledger.init(folder, "HU", [*PATIENTS, "P-1017-4482"], cap=3.0).delta == 1 / 30
    assert Ledger.init(folder, "FA", PATIENTS, cap=3.0, delta=1e-5).delta == 1e-5


def test_all_that_a_reservation_said_is_read_back(folder: Path, ledger: Ledger) -> None:
    events = [*steps(5), Event(sampling_rate=1.0, noise_multiplier=0.1 + 0.2, steps=1)]
    made = ledger.reserve(RUN, "erosion", 3, "update", events, seeded=True)
    found = reopened(folder).find(RUN, "erosion", 3, "update")
    assert found == made
    assert found.events == tuple(events)
    assert (found.number, found.attempt, found.is_seeded, found.left) == (1, 1, True, None)
    assert found.epsilon == Epsilons(0.6, 0.6, 0.6)
    ledger.release(made, SHA)
    left = reopened(folder).find(RUN, "erosion", 3, "update")
    assert left is not None
    assert left.left == SHA
    assert reopened(folder).find(RUN, "erosion", 4, "update") is None


def test_an_entry_has_the_epsilon_of_all_before_it_by_three_accountants(
    folder: Path, ledger: Ledger, real_accountant: None
) -> None:
    used(ledger)
    found = [one.epsilon for one in reopened(folder).reservations()]
    assert found == [epsilons(steps(5), 1 / 30), epsilons(steps(10), 1 / 30)]
    assert ledger.epsilons() == found[-1]


# Reserving and releasing


def test_what_never_left_is_reserved_again_at_no_charge(folder: Path, ledger: Ledger) -> None:
    first = ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    before = file_of(folder).read_bytes()
    assert reopened(folder).reserve(RUN, "erosion", 1, "update", steps(5)) == first
    assert file_of(folder).read_bytes() == before
    assert ledger.events() == steps(5)


def test_what_may_have_left_is_charged_anew_where_that_is_asked(folder: Path, ledger: Ledger) -> None:
    first = ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    second = reopened(folder).reserve(RUN, "erosion", 1, "update", steps(5), again=True)
    assert (first.attempt, second.attempt) == (1, 2)
    assert ledger.events() == steps(5) * 2
    assert ledger.reserve(RUN, "erosion", 1, "update", steps(5)) == second


@pytest.mark.parametrize(
    "key",
    [
        ("f" * 16, "erosion", 1, "update"),
        (RUN, "segmentation", 1, "update"),
        (RUN, "erosion", 2, "update"),
        (RUN, "erosion", 1, "metrics"),
    ],
)
def test_another_run_task_round_or_release_is_charged_on_its_own(
    ledger: Ledger, key: tuple[str, str, int, str]
) -> None:
    ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    assert ledger.reserve(*key, steps(5)).number == 2
    assert ledger.events() == [*steps(5), *steps(5)]


def test_a_reservation_under_other_settings_is_refused(folder: Path, ledger: Ledger) -> None:
    ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    for other in (steps(4), steps(5, noise=2.5)):
        with pytest.raises(LedgerError, match="other noise, steps or sampling"):
            ledger.reserve(RUN, "erosion", 1, "update", other)
    assert ledger.reserve(RUN, "erosion", 1, "update", steps(4), again=True).attempt == 2
    assert ledger.events() == [*steps(5), *steps(4)]


def test_what_left_is_not_computed_a_second_time_unless_it_is_charged_anew(ledger: Ledger) -> None:
    ledger.release(ledger.reserve(RUN, "erosion", 1, "update", steps(5)), SHA)
    with pytest.raises(LedgerError, match="released already: send the same bytes again"):
        ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    assert ledger.events() == steps(5)
    second = ledger.reserve(RUN, "erosion", 1, "update", steps(5), again=True)
    assert (second.attempt, ledger.events()) == (2, [*steps(5), *steps(5)])
    assert ledger.reserve(RUN, "erosion", 1, "update", steps(5)) == second
    ledger.release(second, OTHER)
    found = ledger.find(RUN, "erosion", 1, "update")
    assert found is not None
    assert found.left == OTHER


def test_a_release_is_noted_once_and_for_one_content_only(folder: Path, ledger: Ledger) -> None:
    reservation = ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    witness = ledger.release(reservation, SHA)
    before = file_of(folder).read_bytes()
    assert reopened(folder).release(reservation, SHA) == witness == ledger.witness()
    with pytest.raises(LedgerError, match="other bytes"):
        ledger.release(reservation, OTHER)
    with pytest.raises(LedgerError, match="no SHA-256"):
        ledger.release(reservation, "SMITH")
    assert file_of(folder).read_bytes() == before


def test_a_reservation_of_another_ledger_is_not_released(folder: Path, ledger: Ledger) -> None:
    foreign = Ledger.init(folder, "FA", PATIENTS, cap=3.0).reserve(RUN, "erosion", 1, "update", steps(5))
    ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    with pytest.raises(LedgerError, match="does not know the reservation"):
        ledger.release(foreign, SHA)


@pytest.mark.parametrize("events", [[], steps(0)])
def test_a_release_that_costs_nothing_is_a_mistake(ledger: Ledger, events: list[Event]) -> None:
    with pytest.raises(PrivacyError, match="cost nothing"):
        ledger.reserve(RUN, "erosion", 1, "update", events)


# The cap


def test_over_the_cap_nothing_is_charged_and_the_file_stays_as_it_is(folder: Path, ledger: Ledger) -> None:
    ledger.reserve(RUN, "erosion", 1, "update", steps(25))
    before = {path: path.read_bytes() for path in (folder / "HU").iterdir()}
    expected = r"budget exhausted: .* epsilon 3 at delta 0\.0333333, 2\.5000 .* is spent, .* 3\.1000; take fewer steps"
    with pytest.raises(BudgetError, match=expected):
        ledger.reserve(RUN, "erosion", 2, "update", steps(6))
    assert {path: path.read_bytes() for path in (folder / "HU").iterdir()} == before
    assert ledger.reserve(RUN, "erosion", 2, "update", steps(5)).epsilon == Epsilons(3.0, 3.0, 3.0)
    with pytest.raises(BudgetError, match=r"budget exhausted"):
        reopened(folder).reserve("f" * 16, "segmentation", 1, "update", steps(1))


@pytest.mark.parametrize("excess", [-1e-6, 0.0, 0.9e-6])
def test_a_run_planned_to_exactly_the_cap_is_not_refused_by_its_last_digits(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, excess: float
) -> None:
    monkeypatch.setattr(ledger_module, "claimed_epsilon", lambda events, delta: 3.0 * (1 + excess))
    assert ledger.reserve(RUN, "erosion", 1, "update", steps(1)).number == 1


@pytest.mark.parametrize("wanted", [3.0 * (1 + 1.1e-6), float("inf"), float("nan")])
def test_beyond_a_millionth_of_the_cap_a_run_is_refused(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, wanted: float
) -> None:
    monkeypatch.setattr(ledger_module, "claimed_epsilon", lambda events, delta: wanted)
    with pytest.raises(BudgetError):
        ledger.reserve(RUN, "erosion", 1, "update", steps(1))


@pytest.mark.parametrize(
    ("cap", "delta", "patients"),
    [(0.0, None, PATIENTS), (-1.0, None, PATIENTS), (float("nan"), None, PATIENTS), (float("inf"), None, PATIENTS)]
    + [(3.0, delta, PATIENTS) for delta in (0.0, -1e-5, 1 / 3, 1.0, float("nan"))]
    + [(3.0, None, [])],
)
def test_a_senseless_cap_delta_or_no_patient_is_refused(
    folder: Path, cap: float, delta: float | None, patients: list[str]
) -> None:
    with pytest.raises(PrivacyError):
        Ledger.init(folder, "HU", patients, cap=cap, delta=delta)
    assert not folder.exists()


def test_the_claimed_epsilon_refuses_the_round_that_the_real_accountant_puts_above_the_cap(
    folder: Path, real_accountant: None
) -> None:
    """By dp-accounting's PLD at q .1, sigma 2, delta 1/30: 10 steps .0918."""
    ledger = Ledger.init(folder, "HU", PATIENTS, cap=0.0919)
    assert ledger.reserve(RUN, "erosion", 1, "update", steps(10)).epsilon.pld == pytest.approx(0.0918, abs=1e-4)  # type: ignore[union-attr]
    with pytest.raises(BudgetError):
        ledger.reserve(RUN, "erosion", 2, "update", steps(1))


# What is not opened


def test_a_missing_ledger_is_not_a_fresh_start(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    with pytest.raises(LedgerError, match=r"no privacy ledger .* put it back from a copy; or, .* never .* ledger init"):
        Ledger.open(folder, "FA", PATIENTS)
    shutil.rmtree(folder)
    with pytest.raises(LedgerError, match="put it back from a copy"):
        reopened(folder)
    for call in (ledger.events, lambda: ledger.reserve(RUN, "erosion", 9, "update", steps(1))):
        with pytest.raises(LedgerError):
            call()
    assert not folder.exists()


def test_a_lost_file_beside_its_head_is_not_made_anew(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    file_of(folder).unlink()
    for call in (
        lambda: reopened(folder),
        lambda: Ledger.init(folder, "HU", PATIENTS, cap=3.0),
        lambda: Ledger.init(folder, "HU", PATIENTS, cap=3.0, carry_over=True),
    ):
        with pytest.raises(LedgerError, match=r"is lost: .* put it back"):
            call()
    with pytest.raises(LedgerError, match=r"is gone; put it and .*\.head back"):
        ledger.events()


def test_a_lost_head_is_refused(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    file_of(folder).with_suffix(".head").unlink()
    with pytest.raises(LedgerError, match=r"\.head is missing; put"):
        reopened(folder)


def test_a_ledger_of_another_center_is_refused(folder: Path, ledger: Ledger) -> None:
    shutil.copytree(folder / "HU", folder / "FA")
    with pytest.raises(LedgerError, match=r"of 'FA' holds that of 'HU'"):
        Ledger.open(folder, "FA", PATIENTS)


def test_a_copy_under_another_name_is_refused(folder: Path, ledger: Ledger) -> None:
    for path in list((folder / "HU").glob(f"{ledger.name}*")):
        shutil.copy(path, path.with_name("0123456789abcdef" + path.suffix))
    with pytest.raises(LedgerError, match="under the name"):
        reopened(folder)


def test_a_ledger_of_another_version_is_refused(folder: Path, ledger: Ledger) -> None:
    (line,) = parse_chain(file_of(folder).read_bytes())
    body = {name: value for name, value in line.items() if name not in ("number", "previous", "sha256", "time")}
    file_of(folder).unlink()
    ledger_file.write_chain(folder / "HU" / f"{ledger.name}.jsonl", linked((), {**body, "version": 2}))
    with pytest.raises(LedgerError, match="install the version that wrote it"):
        reopened(folder)


def refuses(folder: Path) -> bool:
    try:
        reopened(folder)
    except LedgerError as error:
        return "put" in str(error) and "back" in str(error)
    return False


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]


def test_a_flipped_byte_anywhere_breaks_the_chain(folder: Path, ledger: Ledger) -> None:
    used(ledger, 1)
    content = file_of(folder).read_bytes()
    for place in range(len(content)):
        with pytest.raises(ValueError, match=r"entry|last line"):
            parse_chain(flipped(content, place))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".head"])
def test_a_ledger_with_a_flipped_byte_is_not_opened(folder: Path, ledger: Ledger, suffix: str) -> None:
    used(ledger)
    path = file_of(folder).with_suffix(suffix)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(flipped(content, place))
        assert refuses(folder), f"bit {place % 8} of byte {place} flipped"
    path.write_bytes(content)
    assert len(reopened(folder).events()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".head"])
def test_a_ledger_cut_off_at_any_byte_is_not_opened(folder: Path, ledger: Ledger, suffix: str) -> None:
    used(ledger)
    path = file_of(folder).with_suffix(suffix)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place])
        assert refuses(folder), f"cut off at byte {place}"


def hashed(entry: dict[str, object]) -> bytes:
    """A line as someone writes it who knows how."""

    def text(value: object) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    return text({**entry, "sha256": hashlib.sha256(text(entry)).hexdigest()})


def changed(lines: list[bytes]) -> dict[str, list[bytes]]:
    entry = json.loads(lines[3])
    cheaper = {**entry, "events": [{**entry["events"][0], "steps": 0}]}
    rehashed = hashed({name: value for name, value in cheaper.items() if name != "sha256"})
    last = json.loads(lines[4])
    elsewhere = hashed({name: value for name, value in last.items() if name != "sha256"} | {"number": 5})
    spaced = json.dumps(entry, sort_keys=True).encode()
    return {
        "without its last line": lines[:-1],
        "without its last two": lines[:-2],
        "without a line in the middle": [*lines[:2], *lines[3:]],
        "with a line twice": [*lines, lines[-1]],
        "with two lines exchanged": [lines[0], lines[2], lines[1], *lines[3:]],
        "with an entry that costs less": [*lines[:3], json.dumps(cheaper, sort_keys=True).encode(), lines[4]],
        "with an entry that costs less and bears the right hash": [*lines[:3], rehashed, lines[4]],
        "with an entry under another number": [*lines[:4], elsewhere],
        "with other blanks": [*lines[:3], spaced, lines[4]],
        "with an empty line": [*lines, b""],
        "with a number for a line": [*lines, b"7"],
    }


def test_lines_taken_out_exchanged_or_edited_are_refused(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    path = file_of(folder)
    lines = path.read_bytes().splitlines()
    for what, edited in changed(lines).items():
        path.write_bytes(b"".join(line + b"\n" for line in edited))
        assert refuses(folder), f"a ledger {what} was opened"


def test_a_chain_with_an_entry_under_another_number_is_none(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    lines = file_of(folder).read_bytes().splitlines()
    edited = b"".join(line + b"\n" for line in changed(lines)["with an entry under another number"])
    with pytest.raises(ValueError, match="entry 4 does not follow"):
        parse_chain(edited)


@pytest.mark.parametrize("head", ["", "7", "[]", "{}", '{"number":true,"sha256":"a"}', '{"number":-1,"sha256":"a"}'])
def test_a_head_that_is_none_is_refused(folder: Path, ledger: Ledger, head: str) -> None:
    used(ledger)
    file_of(folder).with_suffix(".head").write_text(head)
    assert refuses(folder)


def test_a_head_with_another_byte_is_refused(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    path = file_of(folder).with_suffix(".head")
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(LedgerError, match="not as it was written"):
        reopened(folder)


def test_a_shorter_chain_whose_hashes_were_all_computed_anew_is_refused_by_the_head(
    folder: Path, ledger: Ledger
) -> None:
    used(ledger)
    path = file_of(folder)
    head = path.with_suffix(".head").read_bytes()
    rest = [dict(line) for line in parse_chain(path.read_bytes())]
    del rest[3:]
    lines: tuple[ledger_file.Line, ...] = ()
    for line in [*rest, rest[2], rest[2]]:
        lines = linked(lines, {name: value for name, value in line.items() if name not in ("previous", "sha256")})
    ledger_file.write_chain(path, lines)
    assert len(reopened(folder).events()) == 1
    path.with_suffix(".head").write_bytes(head)
    assert refuses(folder)


# An older copy


def test_an_older_copy_beside_the_newer_head_is_refused(folder: Path, ledger: Ledger) -> None:
    used(ledger, 1)
    older = file_of(folder).read_bytes()
    ledger.reserve(RUN, "erosion", 2, "update", steps(5))
    file_of(folder).write_bytes(older)
    with pytest.raises(LedgerError, match="it ends at entry 2, its head knows entry 3: it is older"):
        reopened(folder)


def test_an_older_copy_of_the_whole_folder_is_found_out_by_what_the_run_has_seen(
    folder: Path, ledger: Ledger, tmp_path: Path
) -> None:
    first = ledger.release(ledger.reserve(RUN, "erosion", 1, "update", steps(5)), SHA)
    shutil.copytree(folder, tmp_path / "copy")
    second = ledger.release(ledger.reserve(RUN, "erosion", 2, "update", steps(5)), SHA)
    ledger.refuse_older(first)
    ledger.refuse_older(second)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    older = reopened(folder)
    older.refuse_older(first)
    with pytest.raises(LedgerError, match=r"older than this run, or was made anew: .* entry 4 .* ends at 2"):
        older.refuse_older(second)
    shutil.rmtree(folder)
    with pytest.raises(LedgerError, match="made anew"):
        Ledger.init(folder, "HU", PATIENTS, cap=3.0).refuse_older(Witness(0, first.sha256))


def test_a_ledger_that_carries_on_what_the_run_has_seen_is_not_older(folder: Path, ledger: Ledger) -> None:
    used(ledger, 1)
    seen = ledger.reserve(RUN, "erosion", 2, "update", steps(5))
    joined = Ledger.init(folder, "HU", [*PATIENTS, "new"], cap=3.0, carry_over=True)
    joined.refuse_older(Witness(seen.number, seen.sha256))
    with pytest.raises(LedgerError, match="older than this run"):
        joined.refuse_older(Witness(seen.number, SHA))
    with pytest.raises(LedgerError, match="older than this run"):
        Ledger.init(folder, "FA", PATIENTS, cap=3.0).refuse_older(Witness(seen.number, seen.sha256))


def test_a_head_that_is_behind_is_set_right(folder: Path, ledger: Ledger) -> None:
    head = file_of(folder).with_suffix(".head")
    used(ledger, 1)
    behind = head.read_bytes()
    ledger.reserve(RUN, "erosion", 2, "update", steps(5))
    right = head.read_bytes()
    head.write_bytes(behind)
    assert len(reopened(folder).events()) == 2
    assert head.read_bytes() == right


# Other patients


def test_some_of_the_patients_are_charged_in_the_ledger_of_all(folder: Path, ledger: Ledger) -> None:
    some = Ledger.open(folder, "HU", PATIENTS[:2])
    some.reserve(RUN, "erosion", 1, "update", steps(5))
    assert (some.name, some.num_patients, ledger.events()) == (ledger.name, 3, steps(5))


def test_no_patients_have_no_ledger(folder: Path, ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no patients"):
        Ledger.open(folder, "HU", [])


@pytest.mark.parametrize("patients", [[*PATIENTS, "new"], ["P-1017-4482", "new"], PATIENTS, ["P-1017-4482"]])
def test_no_patient_gets_a_second_ledger(folder: Path, ledger: Ledger, patients: list[str]) -> None:
    used(ledger)
    with pytest.raises(LedgerError, match=r"in another ledger already .* --carry-over"):
        Ledger.init(folder, "HU", patients, cap=3.0)
    if "new" in patients:
        with pytest.raises(LedgerError, match=r"in another ledger already .* --carry-over"):
            Ledger.open(folder, "HU", patients)
    assert len(list((folder / "HU").glob("*.jsonl"))) == 1


def test_patients_of_whom_none_is_in_a_ledger_get_their_own(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    assert Ledger.init(folder, "HU", ["new"], cap=1.0).events() == []
    assert Ledger.open(folder, "HU", ["new"]).cap == 1.0
    assert len(reopened(folder).events()) == 2
    with pytest.raises(LedgerError, match=r"\(2 in .*, 0 closed\)"):
        Ledger.open(folder, "HU", ["new", "P-1017-4482"])


def test_who_joins_carries_over_all_that_was_spent(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    last = ledger.reserve(RUN, "erosion", 3, "update", steps(2), seeded=True)
    joined = Ledger.init(folder, "HU", [*PATIENTS, "new"], cap=3.0, carry_over=True)
    assert joined.events() == [*steps(5), *steps(5), *steps(2)]
    assert joined.delta == 1 / 40
    carried = joined.reservations()
    assert [one.left for one in carried] == [SHA, SHA, None]
    assert [one.is_seeded for one in carried] == [False, False, True]
    assert carried[2].origin == last.sha256
    with pytest.raises(BudgetError, match=r"1\.2000 of it is spent"):
        joined.reserve(RUN, "segmentation", 1, "update", steps(19))
    for patients in (PATIENTS, [*PATIENTS, "new"], ["new"]):
        assert Ledger.open(folder, "HU", patients).name == joined.name


def test_from_a_closed_ledger_nothing_more_is_spent(folder: Path, ledger: Ledger) -> None:
    released = ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    witness = ledger.release(released, SHA)
    open_one = ledger.reserve(RUN, "erosion", 2, "update", steps(5))
    joined = Ledger.init(folder, "HU", [*PATIENTS, "new"], cap=3.0, carry_over=True)
    for call in (
        lambda: ledger.reserve(RUN, "erosion", 3, "update", steps(1)),
        lambda: ledger.reserve(RUN, "erosion", 2, "update", steps(5)),
        lambda: ledger.release(open_one, SHA),
    ):
        with pytest.raises(LedgerError, match="was closed while it was in use"):
            call()
    assert ledger.release(released, SHA) == witness  # it left already
    # The new patients' share of a reservation by another ledger is not known to be the same: it is charged anew.
    assert joined.reserve(RUN, "erosion", 2, "update", steps(5)).attempt == 1
    assert joined.events() == [*steps(5), *steps(5), *steps(5)]


def test_what_several_ledgers_spent_is_carried_over_once_each(folder: Path) -> None:
    first = Ledger.init(folder, "HU", ["a", "b"], cap=3.0)
    second = Ledger.init(folder, "HU", ["c"], cap=3.0)
    first.reserve(RUN, "erosion", 1, "update", steps(1))
    second.reserve(RUN, "erosion", 1, "update", steps(2))
    both = Ledger.init(folder, "HU", ["a", "c"], cap=3.0, carry_over=True)
    assert sorted(both.events()) == [*steps(1), *steps(2)]
    both.reserve(RUN, "erosion", 2, "update", steps(4))
    # "b" was only in the first; it and the third one's patients bring 1 + 2 + 4, the first and second not twice.
    all_of_them = Ledger.init(folder, "HU", ["a", "b", "c"], cap=3.0, carry_over=True)
    assert sorted(all_of_them.events()) == [*steps(1), *steps(2), *steps(4)]
    only_b = Ledger.open(folder, "HU", ["b"])
    assert only_b.name == all_of_them.name


def test_what_is_carried_on_twice_is_still_known_as_the_same(folder: Path) -> None:
    made = Ledger.init(folder, "HU", ["a"], cap=3.0).reserve(RUN, "erosion", 1, "update", steps(1))
    Ledger.init(folder, "HU", ["a", "b"], cap=3.0, carry_over=True)
    (twice,) = Ledger.init(folder, "HU", ["b", "c"], cap=3.0, carry_over=True).reservations()
    assert twice.origin == made.sha256
    (thrice,) = Ledger.init(folder, "HU", ["a", "c"], cap=3.0, carry_over=True).reservations()
    assert (thrice.origin, thrice.events) == (made.sha256, made.events)


def test_who_left_with_another_is_still_charged_for_the_time_before(folder: Path) -> None:
    Ledger.init(folder, "HU", ["a", "b"], cap=3.0).reserve(RUN, "erosion", 1, "update", steps(1))
    Ledger.init(folder, "HU", ["b", "c"], cap=3.0, carry_over=True).reserve(RUN, "erosion", 2, "update", steps(2))
    with pytest.raises(LedgerError, match="1 closed"):
        Ledger.open(folder, "HU", ["a"])
    with pytest.raises(LedgerError, match="1 closed"):
        Ledger.init(folder, "HU", ["a", "d"], cap=3.0)
    assert Ledger.init(folder, "HU", ["a", "d"], cap=3.0, carry_over=True).events() == steps(1)
    assert sorted(Ledger.open(folder, "HU", ["b", "c"]).events()) == [*steps(1), *steps(2)]


def test_carrying_over_gives_the_same_patients_another_cap(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    lower = Ledger.init(folder, "HU", PATIENTS, cap=0.5, carry_over=True)
    assert (lower.cap, lower.events()) == (0.5, ledger.events())
    with pytest.raises(BudgetError):
        lower.reserve(RUN, "erosion", 3, "update", steps(1))


def test_a_ledger_spent_from_after_it_was_carried_over_is_found_out(folder: Path, ledger: Ledger) -> None:
    older = {path: path.read_bytes() for path in (folder / "HU").iterdir()}
    Ledger.init(folder, "HU", [*PATIENTS, "new"], cap=3.0, carry_over=True)
    for path, content in older.items():
        path.write_bytes(content)
    for patients in (PATIENTS, [*PATIENTS, "new"]):
        with pytest.raises(LedgerError, match="contradict each other"):
            Ledger.open(folder, "HU", patients)
    ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    with pytest.raises(LedgerError, match="contradict each other"):
        Ledger.open(folder, "HU", ["P-1017-4482"])
    joined = Ledger.init(folder, "HU", PATIENTS, cap=3.0, carry_over=True)
    assert joined.events() == steps(5)


def test_a_ledger_that_lacks_what_a_closed_one_spent_is_found_out(folder: Path, ledger: Ledger) -> None:
    used(ledger)
    Ledger.init(folder, "HU", ["P-1017-4482", "new"], cap=3.0, carry_over=True)
    without = Ledger.init(folder / "apart", "HU", ["P-1017-4482", "new"], cap=3.0)
    for path in (folder / "HU").glob("*"):
        if path.stem not in (ledger.name, "lock"):
            path.unlink()
    for path in (folder / "apart" / "HU").glob(f"{without.name}*"):
        shutil.copy(path, folder / "HU" / path.name)
    with pytest.raises(LedgerError, match="contradict each other"):
        Ledger.open(folder, "HU", ["P-1017-4482", "new"])


# The disk


def test_an_entry_is_on_the_disk_before_a_call_returns_and_before_its_head(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill cannot show what a loss of power would: so the order of what the system is asked for is looked at."""
    asked: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        asked.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        sync(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        asked.append(target.suffix)
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    each = ["content", ".jsonl", "folder", "content", ".head", "folder"]
    reservation = ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    assert asked == each
    ledger.release(reservation, SHA)
    assert asked == 2 * each


def test_on_a_full_disk_nothing_may_leave_and_the_ledger_stays(folder: Path, ledger: Ledger) -> None:
    """The kernel itself refuses to write more than a limit, as it does where the disk is full."""
    reservation = ledger.reserve(RUN, "erosion", 1, "update", steps(5))
    before = {path: path.read_bytes() for path in (folder / "HU").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    calls: list[Callable[[], object]] = [
        lambda: ledger.reserve(RUN, "erosion", 2, "update", steps(5)),
        lambda: ledger.release(reservation, SHA),
    ]
    for call in calls:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
        try:
            with pytest.raises(LedgerError, match="nothing may leave"):
                call()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in (folder / "HU").iterdir()} == before


@pytest.mark.parametrize("file", ["ledger", "head"])
@pytest.mark.parametrize("step", ["opened", "written", "synced", "renamed", "lasting"])
def test_an_error_of_the_system_at_any_point_stops_the_release_and_the_next_one_is_charged_once(
    folder: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, file: str, step: str
) -> None:
    reservation = ledger.reserve(RUN, "erosion", 1, "update", steps(5))

    def fail(name: str) -> None:
        if name == f"{file} {step}":
            raise OSError(28, "No space left on device", str(folder / "SMITH"))

    monkeypatch.setattr(ledger_file, "_point", fail)
    with pytest.raises(LedgerError, match="No space left on device"):
        ledger.release(reservation, SHA)
    with pytest.raises(LedgerError, match="No space left on device") as caught:
        ledger.reserve(RUN, "erosion", 2, "update", steps(5))
    assert "SMITH" not in str(caught.value)
    monkeypatch.setattr(ledger_file, "_point", lambda name: None)
    ledger.release(reservation, SHA)
    ledger.reserve(RUN, "erosion", 2, "update", steps(5))
    assert reopened(folder).events() == [*steps(5), *steps(5)]
    assert [path.name for path in (folder / "HU").glob("*.part")] == []


def test_a_folder_that_may_not_be_written_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ledgers").write_text("a file where a folder is wanted")
    with pytest.raises(LedgerError, match="cannot be made"):
        Ledger.init(folder, "HU", PATIENTS, cap=3.0)


# Summing up


def test_spending_is_told_run_by_run(folder: Path, ledger: Ledger) -> None:
    used(ledger, 1)
    ledger.reserve("f" * 16, "segmentation", 1, "update", steps(3), seeded=True)
    ledger.reserve(RUN, "segmentation", 1, "update", steps(4))
    ledger.reserve(RUN, "segmentation", 1, "metrics", steps(1))
    found = Spending.of(reopened(folder))
    assert (found.center, found.patients, found.cap) == ("HU", 3, 3.0)
    other, own = found.runs
    assert (other.run, other.tasks, other.rounds, other.steps) == ("f" * 16, ("segmentation",), 1, 3)
    assert (other.released, other.reserved, other.is_seeded, other.is_carried) == (0, 1, True, False)
    assert (own.run, own.tasks, own.rounds, own.steps) == (RUN, ("erosion", "segmentation"), 2, 10)
    assert (own.released, own.reserved, own.is_seeded) == (1, 2, False)
    assert found.epsilon == epsilons(ledger.events(), ledger.delta)
    assert (other.epsilon, own.epsilon) == (epsilons(steps(8), 1 / 30).pld, found.epsilon.pld)
    assert found.left == 3.0 - found.epsilon.pld
    assert json.loads(json.dumps(found.as_dict()))["runs"][1]["run"] == RUN
