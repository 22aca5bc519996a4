"""Rounds under differential privacy: paid before data are touched, kept before they leave, never trained twice.

The ledger's own rules are tested in tests/privacy; here is how rounds, engines, kills and refusals use it.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Array, Context, Message, RecordDict

from ramw_fed.center import Center, initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import ConfigError, FederationError, LedgerError, PrivacyError
from ramw_fed.federation import apps, kept_releases, records
from ramw_fed.federation import recorder as recording
from ramw_fed.federation.apps import server_app
from ramw_fed.federation.center_file import CenterFile
from ramw_fed.federation.flower_private import become_server, stamp
from ramw_fed.federation.inline import InlineGrid, InProcess
from ramw_fed.federation.opening import forget_centers, simulated_ledgers
from ramw_fed.federation.packets import Packet, pack, unpack
from ramw_fed.federation.recorder import FolderRecorder
from ramw_fed.methods import get_method
from ramw_fed.privacy import ledger_file
from ramw_fed.privacy.account import Account
from ramw_fed.privacy.accounting import epsilons
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.randomness import SEED_VARIABLE
from ramw_fed.rounds import federate
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks import get_task

Toy = Callable[..., RunConfig]
CENTERS = ("BTXRD", "DHA", "FA", "HMCRD", "HU", "SCGH")


@pytest.fixture(autouse=True)
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEED_VARIABLE, "1")


@pytest.fixture
def own_root(root: Path, tmp_path: Path) -> Path:
    """A copy of the toys' cohort whose centers have ledgers."""
    copy = tmp_path / "cohort"
    shutil.copytree(root, copy)
    open_ledgers(copy)
    return copy


def open_ledgers(root: Path, cap: float = 1000.0, **caps: float) -> None:
    for center, patients in patients_of(root).items():
        Ledger.init(simulated_ledgers(root), center, patients, cap=caps.get(center, cap), delta=1e-3)


def patients_of(root: Path) -> dict[str, set[str]]:
    cohort = read_cohort(root)
    return {name: {one.patient for one in cohort.at(name).radiographs} for name in cohort.centers}


def ledger(root: Path, center: str) -> Ledger:
    return Ledger.open(simulated_ledgers(root), center, patients_of(root)[center])


@pytest.fixture
def configured(toy: Toy, own_root: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    def configure(*names: str, **knobs: Any) -> RunConfig:
        fixed = {
            "privacy": "patient",
            "noise_multiplier": 1.0,
            "evaluation": "unprotected",
            "norm": "group",
            "patients_per_step": 2,
            "num_rounds": 3,
            "cohort": str(own_root),
            "out": str(tmp_path / "run"),
        }
        return toy(*(names or ("bare",)), **(fixed | knobs))

    return configure


class Wire(InProcess):
    """What leaves the centers, as a listener on the line would have it."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: list[bytes] = []

    def results(self, timeout_s: float) -> list[Any]:
        done = super().results(timeout_s)
        for reply, _ in done:
            if not reply.has_error() and reply.metadata.message_type == "train":
                self.blobs.append(reply.content.array_records["packet"]["answer"].data)
        return done


def run(config: RunConfig, executor: InProcess | None = None) -> RunFolder:
    with InlineGrid(6, executor or InProcess()) as grid:
        server_app(config, FolderRecorder.at(config))(grid, grid.context(0))
    return RunFolder(Path(config.out))


def released(root: Path) -> dict[str, int]:
    """How many updates each center's ledger says have left."""
    return {name: sum(one.left is not None for one in ledger(root, name).reservations()) for name in CENTERS}


def test_a_private_run_is_the_loop_without_flower(configured: Any, own_root: Path) -> None:
    config = configured(method="fedprox", proximal_mu=0.3)
    folder = run(config)
    cohort, task, method = read_cohort(own_root), get_task("toy_tasks:BARE"), get_method("fedprox")
    centers = [Center(center, cohort, config, method) for center in cohort.centers]
    accounts = {
        one.name: Account(ledger(own_root, one.name), config, one.name, {"bare": one.num_training_patients(task)})
        for one in centers
    }
    start = initial_weights(task, cohort.description, config)
    _, card = folder.load_model("bare")
    wanted = federate(centers, method, task, start, card.round, accounts).weights
    found, _ = folder.load_model("bare")
    assert torch.equal(found["w"], wanted["w"])
    assert not torch.equal(found["w"], start["w"])
    assert card.notes["privacy"] == "patient"


def test_two_runs_with_one_seed_are_equal_and_without_it_they_are_not(
    configured: Any, own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for number in range(4):
        if number == 2:
            monkeypatch.delenv(SEED_VARIABLE)
        folder = run(configured(out=str(tmp_path / f"run{number}")))
        weights.append(folder.load_model("bare")[0]["w"])
        privacy = folder.read_json("manifest.json")["privacy"]
        assert ("no privacy" in privacy["randomness"]) is (number < 2)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[2], weights[0])
    assert not torch.equal(weights[2], weights[3])


def test_the_manifest_says_unit_epsilon_delta_accountant_sampling_and_releases(configured: Any, own_root: Path) -> None:
    folder = run(configured("bare", "other", evaluation="none"))
    assert folder.read_json("manifest.json")["run"] == ledger(own_root, "HU").reservations()[0].run
    privacy = folder.read_json("manifest.json")["privacy"]
    assert privacy["unit"].startswith("patient")
    assert privacy["sampling"].startswith("Poisson")
    assert "dp-accounting" in privacy["accountant"]["claimed"]
    assert set(privacy["centers"]) == set(CENTERS)
    for name, own in privacy["centers"].items():
        events = ledger(own_root, name).events()
        assert len(events) == 6  # three rounds of two tasks
        assert own["epsilon"] == epsilons(events, 1e-3).as_dict()
        assert own["delta"] == 1e-3
        assert own["tasks"]["bare"]["rounds"] == 3
    # BTXRD has three patients: of 2 expected in a step, q = 2/3, and an epoch is 1.5 steps, rounded to 2.
    assert privacy["centers"]["BTXRD"]["tasks"]["bare"] == {
        "patients": 3,
        "sampling_rate": pytest.approx(2 / 3),
        "steps": 2,
        "rounds": 3,
    }
    assert privacy["largest_epsilon"] == max(own["epsilon"]["pld"] for own in privacy["centers"].values())
    costs = {one["what"]: one["cost"] for one in privacy["releases"]}
    assert costs["test metrics"].startswith("off")
    assert costs["choice of the best round"].startswith("fixed")
    assert all(costs.values())


def test_without_evaluation_nothing_of_validation_or_test_patients_leaves(
    configured: Any, own_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("patients were evaluated")

    monkeypatch.setattr(Center, "validate", never)
    monkeypatch.setattr(Center, "measure", never)
    folder = run(configured(evaluation="none"))
    assert folder.read_json("metrics.json") == {}
    assert not (folder.path / "test-opened.json").exists()
    assert folder.load_model("bare")[1].round == 3  # the last, as was fixed beforehand
    told = folder.read_json("manifest.json")["centers"]["bare"]
    assert all((one["validation"], one["test"]) == (0, 0) for one in told.values())
    assert all(one["examples"] == one["patients"] for one in told.values())
    assert all(center["loss"] is None for record in folder.rounds() for center in record["centers"].values())


def test_a_center_refuses_to_evaluate_although_it_is_asked(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunConfig, "is_evaluated", property(lambda self: True))  # a coordinator of its own mind ..
    refused = apps._refuse_to_tell

    def as_installed(order: Any) -> None:  # .. and a center that reads the configuration
        with monkeypatch.context() as patch:
            patch.setattr(RunConfig, "is_evaluated", property(lambda self: self.evaluation != "none"))
            refused(order)

    monkeypatch.setattr(apps, "_refuse_to_tell", as_installed)
    with pytest.raises(FederationError, match=r"E-PRIVACY|did not measure"):
        run(configured(evaluation="none"))


def test_a_center_whose_budget_ends_withdraws_before_data_are_touched_and_the_others_go_on(
    configured: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(simulated_ledgers(tmp_path / "cohort"))
    config = configured()
    one_round = Account(_spare_ledger(tmp_path), config, "HU", {"bare": 7}).event("bare")
    allowed = epsilons([one_round, one_round], 1e-3).claimed
    open_ledgers(tmp_path / "cohort", HU=allowed * 1.001)
    before: list[bytes] = []
    trained: list[tuple[str, int]] = []
    train = Center.train

    def watched(self: Center, task: Any, weights: Any, round_number: int, private: Any = None) -> Any:
        trained.append((self.name, round_number))
        if round_number == 3 and not before:
            before.append(_ledger_bytes(tmp_path / "cohort", "HU"))
        return train(self, task, weights, round_number, private)

    monkeypatch.setattr(Center, "train", watched)
    folder = run(config)
    last = folder.rounds()[-1]
    assert set(last["centers"]) == set(CENTERS) - {"HU"}
    assert [(one["center"], one["code"]) for one in last["rejections"]] == [("HU", "E-BUDGET")]
    assert ("HU", 2) in trained
    assert ("HU", 3) not in trained
    assert _ledger_bytes(tmp_path / "cohort", "HU") == before[0]
    assert folder.read_json("manifest.json")["privacy"]["centers"]["HU"]["spent"] <= allowed * 1.001


def _spare_ledger(tmp_path: Path) -> Ledger:
    return Ledger.init(tmp_path / "spare", "HU", {"somebody"}, cap=1000.0, delta=1e-3)


def _ledger_bytes(root: Path, center: str) -> bytes:
    (path,) = (simulated_ledgers(root) / center).glob("*.jsonl")
    return path.read_bytes()


def test_a_new_run_does_not_reset_what_was_spent(configured: Any, own_root: Path, tmp_path: Path) -> None:
    spent = []
    for number in range(3):
        run(configured(num_rounds=1, out=str(tmp_path / f"run{number}")))
        spent.append(ledger(own_root, "HU").epsilons().claimed)
    assert spent[0] < spent[1] < spent[2]
    assert len(ledger(own_root, "HU").events()) == 3


def test_a_missing_or_changed_ledger_ends_the_run_before_it_begins(
    configured: Any, own_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = next((simulated_ledgers(own_root) / "FA").glob("*.jsonl"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1000", b"2000", 1))
    with pytest.raises(FederationError, match="E-LEDGER"):
        run(configured())
    shutil.rmtree(path.parent)
    with pytest.raises(FederationError, match="E-LEDGER"):
        run(configured())
    assert "ledger init" in caplog.text


def test_an_older_ledger_than_the_run_is_refused(configured: Any, own_root: Path, tmp_path: Path) -> None:
    folder = simulated_ledgers(own_root)

    class Restores(InProcess):
        """Before round 2 somebody puts the whole folder of ledgers back as it was after the start."""

        def submit(self, message: Message, context: Context) -> None:
            super().submit(message, context)
            if '"round": 2' in str(message.content["order"]["ticket"]) and (tmp_path / "copy").exists():
                shutil.rmtree(folder)
                shutil.move(tmp_path / "copy", folder)

    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(FederationError, match="E-LEDGER"):
        run(configured(max_failed_rounds=1), Restores())


def test_what_left_is_sent_again_and_never_trained_again(
    configured: Any, own_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire()
    config = configured()
    saved = recording.save_checkpoint
    killed: list[int] = []

    def die(folder: Path, state: Any, deciding: Any) -> Path:
        if state.round == 2 and not killed:
            killed.append(1)
            raise KeyboardInterrupt
        return saved(folder, state, deciding)

    monkeypatch.setattr(recording, "save_checkpoint", die)
    with pytest.raises(KeyboardInterrupt):
        run(config, wire)
    first = sorted(wire.blobs[6:12])
    trained: list[int] = []
    train = Center.train

    def count(self: Center, task: Any, weights: Any, round_number: int, private: Any = None) -> Any:
        trained.append(round_number)
        return train(self, task, weights, round_number, private)

    monkeypatch.setattr(Center, "train", count)
    again = Wire()
    run(config, again)
    assert sorted(again.blobs[:6]) == first
    assert trained == [3] * 6
    assert len(ledger(own_root, "SCGH").events()) == 3


def test_a_run_killed_in_its_first_round_is_not_charged_under_another_name(
    configured: Any, own_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(num_rounds=1)
    saved = recording.save_checkpoint

    def die(folder: Path, state: Any, deciding: Any) -> Path:
        if state.round == 1:
            raise KeyboardInterrupt
        return saved(folder, state, deciding)

    with monkeypatch.context() as patch:
        patch.setattr(recording, "save_checkpoint", die)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    run(config)
    assert len(ledger(own_root, "HU").events()) == 1


def test_an_update_that_was_lost_after_it_may_have_left_is_charged_anew(
    configured: Any, own_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(num_rounds=1)
    saved = recording.save_checkpoint

    def die(folder: Path, state: Any, deciding: Any) -> Path:
        if state.round == 1:
            raise KeyboardInterrupt
        return saved(folder, state, deciding)

    with monkeypatch.context() as patch:
        patch.setattr(recording, "save_checkpoint", die)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    for kept in (Path(config.out) / "checkpoints" / "centers").rglob("update-*"):
        kept.unlink()
    run(config)
    assert len(ledger(own_root, "HU").events()) == 2


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


WRITE_POINTS = [f"ledger:{point}" for point in ledger_file.POINTS] + ["kept:before", "kept:after", "sent"]


@pytest.mark.parametrize("kills", [13, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_never_under_count(
    configured: Any, own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    """What a listener on the line has is never more than what the ledgers say has left, whenever a process dies."""
    wire: dict[str, set[str]] = {name: set() for name in CENTERS}
    state = {"countdown": 0, "point": ""}

    def point(name: str) -> None:
        if name == state["point"]:
            state["countdown"] -= 1
            if state["countdown"] == 0:
                raise Killed

    save, answer = kept_releases.KeptReleases.save, apps.records.update_answer

    def kept(self: Any, *args: Any) -> None:
        point("kept:before")
        save(self, *args)
        point("kept:after")

    def sent(message: Message, order: Any, packed: bytes) -> Message:
        header = unpack(packed).header
        wire[str(header["center"])].add(hashlib.sha256(packed).hexdigest())
        point("sent")
        return answer(message, order, packed)

    monkeypatch.setattr(ledger_file, "_point", lambda name: point(f"ledger:{name}"))
    monkeypatch.setattr(kept_releases.KeptReleases, "save", kept)
    monkeypatch.setattr(apps.records, "update_answer", sent)
    config = configured(num_rounds=8, evaluation="none", centers=CENTERS[:2])
    killed = runs = 0
    while killed < kills:
        state |= {"point": WRITE_POINTS[killed % len(WRITE_POINTS)], "countdown": 1 + killed % 7}
        try:
            run(replace(config, out=str(tmp_path / f"run{runs}")))
            runs += 1
        except Killed:
            killed += 1
        for name in CENTERS[:2]:
            account = ledger(own_root, name)
            left = {one.left for one in account.reservations() if one.left}
            assert wire[name] <= left, (killed, state)
            assert len(account.events()) >= len(wire[name])
    assert all(wire[name] for name in CENTERS[:2])


def test_rounds_in_three_processes_spend_what_rounds_in_one_spend(
    configured: Any, own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(configured(out=str(tmp_path / "one")))
    events = ledger(own_root, "HU").events()
    wanted = ledger(own_root, "HU").epsilons()
    shutil.rmtree(simulated_ledgers(own_root))
    open_ledgers(own_root)
    saved = recording.save_checkpoint
    config = configured(out=str(tmp_path / "three"))
    for stop in (1, 2, 9):

        def then_die(folder: Path, state: Any, deciding: Any, stop: int = stop) -> Path:
            path = saved(folder, state, deciding)
            if state.round == stop:
                raise Killed
            return path

        monkeypatch.setattr(recording, "save_checkpoint", then_die)
        try:
            run(config)
        except Killed:
            assert stop < 9
        forget_centers()  # as a new process would
    assert ledger(own_root, "HU").events() == events
    assert ledger(own_root, "HU").epsilons() == wanted


CHARGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another sampling rate": lambda charge: charge.update(sampling_rate=0.01),
    "fewer steps": lambda charge: charge.update(steps=1),
    "no noise": lambda charge: charge.update(noise_multiplier=0.0),
    "less noise than the run's": lambda charge: charge.update(noise_multiplier=0.001),
    "other noise than the run's": lambda charge: charge.update(noise_multiplier=1.5),
    "an epsilon of nothing": lambda charge: charge.update(epsilon={"pld": 0.0, "prv": 0.0, "rdp": 0.0}),
    "more spent than its cap": lambda charge: charge.update(spent=1e6),
    "delta of 1": lambda charge: charge.update(delta=1.0),
    "delta of one in two": lambda charge: charge.update(delta=0.5),
    "nan": lambda charge: charge.update(spent=float("nan")),
    "text": lambda charge: charge.update(cap="high"),
    "no epsilon": lambda charge: charge.update(epsilon={}),
    "a fact more": lambda charge: charge.update(patient="7"),
}


@pytest.mark.parametrize("fault", CHARGES)
def test_an_update_with_another_charge_is_not_taken(configured: Any, fault: str) -> None:
    class Lies(InProcess):
        def results(self, timeout_s: float) -> list[Any]:
            done = super().results(timeout_s)
            for reply, _ in done:
                if not reply.has_error() and reply.metadata.message_type == "train":
                    change(reply, lambda header: CHARGES[fault](header["charge"]) if header["center"] == "HU" else None)
            return done

    folder = run(configured(num_rounds=1), Lies())
    (record,) = folder.rounds()
    assert set(record["centers"]) == set(CENTERS) - {"HU"}
    assert [one["center"] for one in record["rejections"]] == ["HU"]


def test_an_update_that_is_not_taken_is_owed_all_the_same(configured: Any, own_root: Path) -> None:
    class Forgets(InProcess):
        def results(self, timeout_s: float) -> list[Any]:
            done = super().results(timeout_s)
            for reply, _ in done:
                if not reply.has_error() and reply.metadata.message_type == "train":
                    change(reply, lambda header: header.update(examples=0) if header["center"] == "HU" else None)
            return done

    folder = run(configured(num_rounds=2, evaluation="none"), Forgets())
    assert "HU" not in folder.rounds()[-1]["centers"]
    privacy = folder.read_json("manifest.json")["privacy"]
    assert privacy["centers"]["HU"]["epsilon"]["pld"] == ledger(own_root, "HU").epsilons().pld
    assert privacy["untold"] == []


def change(reply: Message, edit: Callable[[dict[str, Any]], Any]) -> None:
    record = reply.content.array_records["packet"]
    packet = unpack(record["answer"].data)
    header = json.loads(json.dumps(dict(packet.header)))
    edit(header)
    blob = pack(Packet(header=header, tensors=packet.tensors))
    record["answer"] = Array("uint8", (len(blob),), "safetensors", blob)


class Deployed:
    """One center with a file of its own, and a coordinator that may ask what it likes."""

    def __init__(self, config: RunConfig, root: Path, tmp_path: Path, **settings: Any) -> None:
        self.config = replace(config, out="")
        self.file = tmp_path / "center.toml"
        own = {"name": "HU", "data": str(root), "ledger": str(simulated_ledgers(root)), **settings}
        self.file.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in own.items()))
        self.start = initial_weights(get_task("toy_tasks:BARE"), read_cohort(root).description, config)

    def ask(self, purpose: str, *, number: int = 1, split: str = "val", base: str = "", **knobs: Any) -> Message:
        packed = b"" if purpose == "enrol" else records.pack_weights(self.start)
        wanted = base or (records.fingerprint(packed) if packed else "")
        ticket = records.Ticket(
            run="0" * 16,
            purpose=purpose,  # type: ignore[arg-type]
            task="" if purpose == "enrol" else "bare",
            round=number,
            base=wanted,
            nonce="0" * 32,
        )
        content = records.order_content(ticket, replace(self.config, **knobs), split=split, packed=packed)  # type: ignore[arg-type]
        message = Message(content, 2, records.MESSAGE_TYPES[purpose], group_id="0" * 32)  # type: ignore[index]
        stamp([message], ["1"])
        context = Context(1, 2, {"center-file": str(self.file)}, RecordDict(), {})
        return apps.client_app()(message, context)


@pytest.fixture
def deployed(
    configured: Any, own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Deployed]:
    monkeypatch.delenv(SEED_VARIABLE)
    become_server(1)
    config = configured(evaluation="none")

    def make(**settings: Any) -> Deployed:
        return Deployed(config, own_root, tmp_path, **{"own-code": list(config.tasks), **settings})

    return make


def code(reply: Message) -> str:
    return (reply.error.reason or "").split()[0] if reply.has_error() else ""


def test_a_coordinator_cannot_change_a_run_to_see_more(deployed: Any, own_root: Path) -> None:
    one = deployed()
    assert code(one.ask("enrol", number=0)) == ""
    assert code(one.ask("train")) == ""
    assert code(one.ask("measure", split="test")) == "E-PRIVACY"
    assert code(one.ask("measure", split="test", evaluation="unprotected")) == "E-PRIVACY"
    assert code(one.ask("validate", evaluation="unprotected")) == "E-PRIVACY"
    generous = deployed(**{"unprotected-evaluation": True})  # the hospital's own word; the run's was another
    assert code(generous.ask("measure", split="test", evaluation="unprotected")) == "E-PRIVACY"
    assert code(generous.ask("train", number=2, seed=5)) == "E-PRIVACY"
    assert len(ledger(own_root, "HU").events()) == 1


def test_training_patients_are_never_measured(deployed: Any) -> None:
    one = deployed(**{"unprotected-evaluation": True})
    assert code(one.ask("measure", split="train", evaluation="unprotected")) == "E-PRIVACY"
    assert code(one.ask("measure", split="test", evaluation="unprotected")) == ""


def test_a_private_run_does_not_choose_which_files_are_left_out(deployed: Any) -> None:
    assert code(deployed().ask("enrol", number=0, quarantine=0.1)) == "E-PRIVACY"
    assert code(deployed().ask("enrol", number=0, allow_leakage=True)) == "E-PRIVACY"


def test_an_enrolment_is_the_same_whatever_stands_in_a_patients_files(deployed: Any, own_root: Path) -> None:
    one = deployed()
    before = records.read_registration(one.ask("enrol", number=0))
    path = next((own_root / "SegmentationImages").rglob("*.bmp"), None) or next(own_root.rglob("*.bmp"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    forget_centers()
    assert records.read_registration(one.ask("enrol", number=0)) == before


@pytest.mark.parametrize("number", [0, -3, 4, 10**30, "1", None, True])
def test_rounds_that_the_run_does_not_have_cost_nothing(deployed: Any, own_root: Path, number: Any) -> None:
    assert code(deployed().ask("train", number=number)) in ("E-UPDATE", "E-PRIVACY")
    assert ledger(own_root, "HU").events() == []


@pytest.mark.parametrize("base", ["x/../../../../y", "a" * 64, "A" * 64])
def test_the_weights_name_is_their_hash_or_nothing_is_done(deployed: Any, own_root: Path, base: str) -> None:
    assert code(deployed().ask("train", base=base)) == "E-UPDATE"
    assert ledger(own_root, "HU").events() == []


def test_an_older_ledger_is_found_in_another_run_too(deployed: Any, own_root: Path, tmp_path: Path, toy: Toy) -> None:
    one = deployed()
    folder = simulated_ledgers(own_root)
    shutil.copytree(folder, tmp_path / "copy")
    assert code(one.ask("train")) == ""
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    assert code(one.ask("train", number=2)) == "E-LEDGER"
    shutil.rmtree(folder)  # nor does a plain run become allowed by taking it away
    one.config = toy("bare", norm="group")
    assert code(one.ask("enrol", number=0)) == "E-PRIVACY"


def test_what_may_have_left_before_a_ledger_was_restored_is_charged_anew(
    deployed: Any, own_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = deployed()

    def die(*_: Any) -> None:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "release", die)
        assert code(one.ask("train")) == "E-LEDGER"
    assert len(ledger(own_root, "HU").events()) == 1
    one.start = {"w": one.start["w"] + 1}  # the same round, of other weights
    assert code(one.ask("train")) == ""
    assert len(ledger(own_root, "HU").events()) == 2
    assert code(one.ask("train")) == ""  # and once more: the same bytes again
    assert len(ledger(own_root, "HU").events()) == 2


def test_seconds_are_not_told(configured: Any) -> None:
    folder = run(configured(num_rounds=1))
    assert {one["seconds"] for one in folder.rounds()[0]["centers"].values()} == {0.0}


def test_a_loss_that_reads_other_patients_is_refused(configured: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FederationError, match="E-PRIVACY"):
        run(configured("peeking", max_failed_rounds=1))
    assert "depends on the others" in caplog.text


def test_batch_statistics_are_refused(configured: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FederationError, match="E-PRIVACY"):
        run(configured("six", max_failed_rounds=1))


def test_a_center_trains_as_its_configuration_says_or_not_at_all(configured: Any, own_root: Path, toy: Toy) -> None:
    task = get_task("toy_tasks:BARE")
    private = Center("HU", read_cohort(own_root), configured(), get_method("fedavg"))
    plain = Center("HU", read_cohort(own_root), toy("bare", norm="group"), get_method("fedavg"))
    weights = initial_weights(task, private.description, private.config)
    with pytest.raises(PrivacyError, match="say otherwise"):
        private.train(task, weights, 1)
    account = Account(ledger(own_root, "HU"), private.config, "HU", {"bare": 7})
    steps = account.steps("bare", private.training_patients(task), 1)
    with pytest.raises(PrivacyError, match="say otherwise"):
        plain.train(task, weights, 1, steps)


def test_a_hospital_can_demand_privacy_and_refuses_a_seed(
    configured: Any, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "center.toml"
    path.write_text('name = "HU"\ndata = "data"\n')
    own = CenterFile.open(path)
    own.refuse_unprotected(toy("bare"))
    Ledger.init(tmp_path / "ledger", "HU", {"somebody"}, cap=1.0, delta=1e-3)
    with pytest.raises(PrivacyError, match="whose promise this run would break"):
        own.refuse_unprotected(toy("bare"))
    replace(own, require_privacy="never").refuse_unprotected(toy("bare"))
    own = replace(own, require_privacy="always", ledger=str(tmp_path / "none"))
    with pytest.raises(PrivacyError, match="require-privacy"):
        own.refuse_unprotected(toy("bare"))
    with pytest.raises(PrivacyError, match="unprotected-evaluation"):
        own.refuse_unprotected(configured(evaluation="unprotected"))
    with pytest.raises(PrivacyError, match=SEED_VARIABLE):
        own.refuse_unprotected(configured(evaluation="none"))
    monkeypatch.delenv(SEED_VARIABLE)
    own.refuse_unprotected(configured(evaluation="none"))


def test_a_seed_for_noise_is_no_knob(toy: Toy) -> None:
    with pytest.raises(ConfigError, match=r"noise-seed.*cryptographic"):
        toy("bare", noise_seed=3)


def test_the_report_states_the_guarantee(configured: Any) -> None:
    from ramw_fed.report.document import Table
    from ramw_fed.report.model_card import model_card
    from ramw_fed.report.run_facts import read_run
    from ramw_fed.report.run_privacy import privacy

    folder = run(configured(evaluation="none"))
    read = read_run(folder.path)
    section = privacy(read)
    assert section is not None
    tables = {block.name: block for block in section.blocks if isinstance(block, Table)}
    assert [row[0][0] for row in tables["privacy-centers"].rows] == list(CENTERS)
    card = str(asdict(model_card(read.facts)))
    assert "differential privacy of each patient" in card
    assert "none: no differential" not in card
