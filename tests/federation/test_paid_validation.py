"""Validation that is paid for: noisy sums, charged to the ledger like an update, kept, and sent again as they are."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, Message
from test_private_rounds import CENTERS, WRITE_POINTS, Killed, ledger, open_ledgers, run

from ramw_fed.center import Center, initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import ConfigError, FederationError, PrivacyError
from ramw_fed.federation import apps, kept_releases
from ramw_fed.federation import recorder as recording
from ramw_fed.federation.center_file import CenterFile
from ramw_fed.federation.inline import InProcess
from ramw_fed.federation.opening import simulated_ledgers
from ramw_fed.federation.packets import Packet, pack, unpack
from ramw_fed.federation.privacy_record import privacy_record
from ramw_fed.methods import get_method
from ramw_fed.privacy import ledger_file
from ramw_fed.privacy.account import VALIDATION, Account
from ramw_fed.privacy.accounting import claimed_epsilon, epsilons
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.randomness import SEED_VARIABLE
from ramw_fed.privacy.sums import PatientSums
from ramw_fed.privacy.workload import noise_of, run_workloads, validations
from ramw_fed.rounds import federate
from ramw_fed.tasks import get_task

Toy = Callable[..., RunConfig]
NOISE = 2.0
# Patients of toy_tasks.SIX, training and validation alike.
PATIENTS = dict(zip(CENTERS, range(3, 9), strict=True))


@pytest.fixture(autouse=True)
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEED_VARIABLE, "1")


@pytest.fixture
def own_root(root: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "cohort"
    shutil.copytree(root, copy)
    open_ledgers(copy)
    return copy


@pytest.fixture
def configured(toy: Toy, own_root: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    def configure(*names: str, **knobs: Any) -> RunConfig:
        fixed = {
            "privacy": "patient",
            "noise_multiplier": 1.0,
            "evaluation": "paid",
            "evaluation_noise": NOISE,
            "norm": "group",
            "patients_per_step": 2,
            "num_rounds": 2,
            "cohort": str(own_root),
            "out": str(tmp_path / "run"),
        }
        return toy(*(names or ("paid",)), **(fixed | knobs))

    return configure


class Wire(InProcess):
    """The validations that leave, in the order in which a listener on the line has them."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: list[bytes] = []

    def results(self, timeout_s: float) -> list[Any]:
        done = super().results(timeout_s)
        for reply, _ in done:
            if not reply.has_error() and reply.metadata.message_type == "evaluate.validate":
                self.blobs.append(reply.content.array_records["packet"]["answer"].data)
        return done


def told(blob: bytes) -> dict[str, Any]:
    return json.loads(json.dumps(dict(unpack(blob).header)))


def test_updates_and_validations_are_charged_and_the_manifest_says_what_they_cost(
    configured: Any, own_root: Path
) -> None:
    folder = run(configured("paid", "due", num_rounds=2))
    found = folder.read_json("manifest.json")
    for name in CENTERS:
        reservations = ledger(own_root, name).reservations()
        charged = sorted((one.round_number, one.task, one.what) for one in reservations)
        wanted = [
            (number, task, what) for number in (1, 2) for task in ("due", "paid") for what in ("update", VALIDATION)
        ]
        assert charged == wanted
        assert all(one.left for one in reservations)
        paid = [event for one in reservations if one.what == VALIDATION for event in one.events]
        assert paid == [Event(sampling_rate=1.0, noise_multiplier=NOISE, steps=1)] * 4
        own = found["privacy"]["centers"][name]
        assert own["epsilon"] == epsilons(ledger(own_root, name).events(), 1e-3).as_dict()
        assert own["noise_multiplier"] == 1.0
        assert own["validations"]["epsilon"] == claimed_epsilon(paid, 1e-3)
        assert own["validations"]["tasks"]["due"] == {
            "patients": PATIENTS[name],
            "sampling_rate": 1.0,
            "steps": 1,
            "rounds": 2,
        }
        enrolled = found["centers"]["paid"][name]
        assert (enrolled["validation"], enrolled["test"]) == (PATIENTS[name], 0)
    costs = {one["what"]: one["cost"] for one in found["privacy"]["releases"]}
    paid_for = "covered by epsilon: noise multiplier 2, at most 2 releases of due, 2 releases of paid"
    assert costs["validation metrics of each round"] == paid_for
    assert costs["choice of the best round"] == paid_for
    assert costs["test metrics"].startswith("off")
    assert folder.read_json("metrics.json") == {}
    assert not (folder.path / "test-opened.json").exists()


def test_what_leaves_is_the_sum_with_noise_and_the_best_round_follows_from_it(configured: Any, own_root: Path) -> None:
    """Each round's weights are those of the loop without Flower; the sums are made of them by hand, with the noise."""
    config = configured(num_rounds=3, learning_rate=0.01)
    folder = run(config)
    cohort, task, method = read_cohort(own_root), get_task("toy_tasks:PAID"), get_method("fedavg")
    centers = [Center(center, cohort, config, method) for center in cohort.centers]
    start = initial_weights(task, cohort.description, config)
    qualities = []
    for number, record in enumerate(folder.rounds(), start=1):
        shutil.rmtree(simulated_ledgers(own_root))
        open_ledgers(own_root)
        accounts = {name: Account(ledger(own_root, name), config, name, {"paid": PATIENTS[name]}) for name in CENTERS}
        weights = federate(centers, method, task, start, number, accounts).weights
        noisy = 0.0
        for center in centers:
            own = accounts[center.name].sums("paid", center.validation_patients(task), number)
            loss = task.validate(center._load(task, weights), center._read(task, "val"), None, center.device)["loss"]
            one = center.validate(task, weights, own)["loss"]
            patients = PATIENTS[center.name]
            assert abs(one - (loss / 2 - patients)) > 1e-3  # not without noise
            noisy += 2 * (one + patients)
        assert record["validation"] == pytest.approx({"loss": noisy, "patients": sum(PATIENTS.values())})
        qualities.append(-noisy / sum(PATIENTS.values()))
    assert [record["quality"] for record in folder.rounds()] == pytest.approx(qualities)
    assert folder.load_model("paid")[1].round == 1 + max(range(3), key=qualities.__getitem__)


def test_the_noise_of_two_validations_of_the_same_weights_differs_by_round_center_and_attempt(
    configured: Any, own_root: Path
) -> None:
    config = configured()
    keys = [("HU", 1, 1), ("HU", 2, 1), ("HU", 1, 2), ("FA", 1, 1)]
    found = []
    for name, number, attempt in keys:
        account = Account(ledger(own_root, name), config, name, {"paid": 3})
        sums = account.sums("paid", np.array(["a"]), number, attempt=attempt)
        found.append(float(sums.release(np.zeros((1, 1)))[0]))
    assert len(set(found)) == 4


def test_a_center_whose_budget_ends_says_nothing_more_and_no_round_is_chosen_without_it(
    configured: Any, own_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(num_rounds=3)
    account = Account(ledger(own_root, "HU"), config, "HU", {"paid": PATIENTS["HU"]})
    update, sums = account.event("paid"), account.event("paid", VALIDATION)
    cap = claimed_epsilon([update, sums, update], 1e-3) * 1.0001
    shutil.rmtree(simulated_ledgers(own_root))
    open_ledgers(own_root, HU=cap)
    asked: list[tuple[str, str]] = []
    validate = Center.validate

    def watched(self: Center, *args: Any) -> Any:
        asked.append((self.name, "validate"))
        return validate(self, *args)

    monkeypatch.setattr(Center, "validate", watched)
    folder = run(config)
    first, second, third = folder.rounds()
    assert first["quality"] is not None
    assert ("HU", "E-BUDGET") in [(one["center"], one["code"]) for one in second["rejections"]]
    assert second["quality"] is None
    assert third["quality"] is None
    assert folder.load_model("paid")[1].round == 1
    assert asked.count(("HU", "validate")) == 1  # refused before patients were touched
    assert asked.count(("FA", "validate")) == 3
    assert ledger(own_root, "HU").epsilons().claimed <= cap


def test_a_validation_that_left_is_sent_again_and_never_made_again(
    configured: Any, own_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, config = Wire(), configured(num_rounds=3)
    _die_after_round(2, config, wire, monkeypatch)
    made: list[int] = []
    release = PatientSums.release

    def count(self: PatientSums, rows: Any) -> Any:
        made.append(1)
        return release(self, rows)

    monkeypatch.setattr(PatientSums, "release", count)
    monkeypatch.delenv(SEED_VARIABLE)  # made anew, the noise would be another
    again = Wire()
    run(config, again)
    assert sorted(again.blobs[:6]) == sorted(wire.blobs[6:12])
    assert len(made) == 6
    assert len(ledger(own_root, "SCGH").events()) == 6


def _die_after_round(number: int, config: RunConfig, wire: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the coordinator after all answers of a round, before its checkpoint."""
    saved = recording.save_checkpoint

    def die(folder: Path, state: Any, deciding: Any) -> Path:
        if state.round == number:
            raise Killed
        return saved(folder, state, deciding)

    with monkeypatch.context() as patch:
        patch.setattr(recording, "save_checkpoint", die)
        with pytest.raises(Killed):
            run(config, wire)


def test_a_validation_that_is_lost_after_it_may_have_left_is_charged_anew(
    configured: Any, own_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, config = Wire(), configured()
    _die_after_round(2, config, wire, monkeypatch)
    (kept,) = Path(config.out).glob("checkpoints/centers/*/HU/paid/validation-*")
    kept.unlink()
    again = Wire()
    run(config, again)
    attempts = {
        name: [one.attempt for one in ledger(own_root, name).reservations() if one.what == VALIDATION]
        for name in ("HU", "FA")
    }
    assert attempts == {"HU": [1, 1, 2], "FA": [1, 1]}
    assert set(again.blobs[:6]) - set(wire.blobs[6:12]) == {
        blob for blob in again.blobs[:6] if told(blob)["center"] == "HU"
    }


@pytest.mark.parametrize("kills", [13, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_never_under_count_validations(
    configured: Any, own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    """What a listener has of updates and validations is never more than what the ledgers say has left."""
    wire: dict[str, set[str]] = {name: set() for name in CENTERS}
    state = {"countdown": 0, "point": ""}
    sent_by = {name: getattr(apps.records, name) for name in ("update_answer", "sums_answer")}
    save = kept_releases.KeptReleases.save

    def point(name: str) -> None:
        if name == state["point"]:
            state["countdown"] -= 1
            if state["countdown"] == 0:
                raise Killed

    def kept(self: Any, *args: Any) -> None:
        point("kept:before")
        save(self, *args)
        point("kept:after")

    def sent(name: str) -> Callable[[Message, Any, bytes], Message]:
        def answer(message: Message, order: Any, packed: bytes) -> Message:
            wire[str(unpack(packed).header["center"])].add(hashlib.sha256(packed).hexdigest())
            point("sent")
            return sent_by[name](message, order, packed)

        return answer

    monkeypatch.setattr(ledger_file, "_point", lambda name: point(f"ledger:{name}"))
    monkeypatch.setattr(kept_releases.KeptReleases, "save", kept)
    for name in sent_by:
        monkeypatch.setattr(apps.records, name, sent(name))
    config = configured(num_rounds=4, centers=CENTERS[:2])
    killed = runs = 0
    while killed < kills:
        state |= {"point": WRITE_POINTS[killed % len(WRITE_POINTS)], "countdown": 1 + killed % 7}
        try:
            run(replace(config, out=str(tmp_path / f"run{runs}")))
            runs += 1
        except Killed:
            killed += 1
        for name in CENTERS[:2]:
            left = {one.left for one in ledger(own_root, name).reservations() if one.left}
            assert wire[name] <= left, (killed, state)
    whats = {one.what for one in ledger(own_root, CENTERS[0]).reservations() if one.left}
    assert whats == {"update", VALIDATION}


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another name": lambda header: header["sums"].update(dsc=1.0),
    "no sums": lambda header: header["sums"].clear(),
    "not finite": lambda header: header["sums"].update(loss=float("inf")),
    "no charge": lambda header: header.pop("charge"),
    "less noise": lambda header: header["charge"].update(noise_multiplier=0.1),
    "no noise": lambda header: header["charge"].update(noise_multiplier=0.0),
    "other patients": lambda header: header["charge"].update(patients=99),
    "a sample": lambda header: header["charge"].update(sampling_rate=0.5),
    "another center": lambda header: header.update(center="FA"),
}


class Lies(InProcess):
    """HU says otherwise."""

    def __init__(self, lie: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__()
        self.lie = lie

    def results(self, timeout_s: float) -> list[Any]:
        done = super().results(timeout_s)
        for reply, _ in done:
            if not reply.has_error() and reply.metadata.message_type == "evaluate.validate":
                record = reply.content.array_records["packet"]
                header = told(record["answer"].data)
                if header["center"] == "HU":
                    self.lie(header)
                    blob = pack(Packet(header=header, tensors={}))
                    record["answer"] = Array("uint8", (len(blob),), "safetensors", blob)
        return done


@pytest.fixture
def lied(configured: Any) -> Iterator[Callable[..., dict[str, Any]]]:
    def lie(fault: Callable[[dict[str, Any]], Any], **knobs: Any) -> dict[str, Any]:
        (record,) = run(configured(num_rounds=1, **knobs), Lies(fault)).rounds()
        return record

    return lie


@pytest.mark.parametrize("fault", LIES)
def test_sums_that_were_not_paid_for_as_the_run_says_are_not_taken(lied: Any, fault: str) -> None:
    record = lied(LIES[fault])
    assert [one["center"] for one in record["rejections"]] == ["HU"]
    assert record["quality"] is None
    assert set(record["validation_privacy"]) == set(CENTERS) - {"HU"}


def test_any_finite_noisy_sum_can_be_true(lied: Any) -> None:
    record = lied(lambda header: header["sums"].update(loss=-1e6))
    assert record["rejections"] == []
    assert record["quality"] == pytest.approx(2e6 / 33, rel=0.1)  # 33 patients in all


def test_a_charge_beside_unprotected_sums_is_not_taken(lied: Any, own_root: Path) -> None:
    def add(header: dict[str, Any]) -> None:
        header["charge"] = {
            **dict.fromkeys(("sampling_rate", "noise_multiplier", "delta", "spent", "cap"), 1.0),
            "patients": 7,
            "steps": 1,
            "epsilon": {"pld": 1.0, "prv": 1.0, "rdp": 1.0},
            "is_seeded": True,
            "witness": {"number": 1, "sha256": "0"},
        }

    record = lied(add, evaluation="unprotected", evaluation_noise=None)
    assert [(one["center"], one["code"]) for one in record["rejections"]] == [("HU", "E-UPDATE-PRIVACY")]
    assert "validation_privacy" not in record


def test_a_center_without_validation_patients_is_not_charged_and_stops_no_choice(
    configured: Any, own_root: Path
) -> None:
    folder = run(configured("lacking"))
    assert all(record["quality"] is not None for record in folder.rounds())
    assert {one.what for one in ledger(own_root, "HU").reservations()} == {"update"}
    assert {one.what for one in ledger(own_root, "FA").reservations()} == {"update", VALIDATION}
    assert folder.read_json("manifest.json")["privacy"]["centers"]["HU"]["validations"]["tasks"] == {}


def test_a_task_that_does_not_bound_what_a_patient_adds_is_refused(configured: Any) -> None:
    with pytest.raises(ConfigError, match=r"bare does not say what a patient adds"):
        run(configured("bare"))


def test_a_center_measures_no_test_patient_although_it_is_asked(
    configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_to, refused = RunConfig.is_evaluated, apps._refuse_to_tell

    def as_installed(order: Any) -> None:  # the center reads the configuration, the coordinator does as it likes
        with monkeypatch.context() as patch:
            patch.setattr(RunConfig, "is_evaluated", told_to)
            refused(order)

    monkeypatch.setattr(RunConfig, "is_evaluated", property(lambda self: True))
    monkeypatch.setattr(apps, "_refuse_to_tell", as_installed)
    with pytest.raises(FederationError, match=r"did not measure.*E-CENTER"):
        run(configured(num_rounds=1))


def test_a_center_validates_as_its_configuration_says_or_not_at_all(configured: Any, own_root: Path) -> None:
    task, cohort = get_task("toy_tasks:PAID"), read_cohort(own_root)
    config = configured()
    paid = Center("HU", cohort, config, get_method("fedavg"))
    plain = Center("HU", cohort, configured(evaluation="unprotected", evaluation_noise=None), get_method("fedavg"))
    weights = initial_weights(task, paid.description, config)
    sums = Account(ledger(own_root, "HU"), config, "HU", {"paid": 7}).sums("paid", paid.validation_patients(task), 1)
    with pytest.raises(PrivacyError, match="nothing is told"):
        paid.validate(task, weights)
    with pytest.raises(PrivacyError, match="nothing is told"):
        plain.validate(task, weights, sums)


def test_a_target_covers_updates_and_validations(configured: Any) -> None:
    knobs = {"noise_multiplier": 0.0, "target_epsilon": 8.0, "num_rounds": 5}
    paid, free = (
        configured(**knobs, evaluation_noise=5.0),
        configured(**knobs, evaluation="none", evaluation_noise=None),
    )
    drawn = run_workloads(paid, {"paid": 20})
    with_it, without = (noise_of(config, drawn, 1e-3) for config in (paid, free))
    assert with_it > without
    fixed = validations(paid, drawn)
    assert fixed == [Event(sampling_rate=1.0, noise_multiplier=5.0, steps=5)]
    total = [drawn["paid"].event(with_it, rounds=5), *fixed]
    assert 7.98 < claimed_epsilon(total, 1e-3) <= 8.0
    assert claimed_epsilon([drawn["paid"].event(without, rounds=5), *fixed], 1e-3) > 8.0


def test_a_target_that_validations_use_up_is_refused_with_the_figures(configured: Any) -> None:
    config = configured(noise_multiplier=0.0, target_epsilon=1.0, evaluation_noise=0.5)
    alone = claimed_epsilon([Event(sampling_rate=1.0, noise_multiplier=0.5, steps=2)], 1e-3)
    wanted = (
        rf"2 paid validations with evaluation-noise = 0.5 cost epsilon {alone:.4g} .*nothing of target-epsilon = 1 "
    )
    with pytest.raises(PrivacyError, match=wanted):
        noise_of(config, run_workloads(config, {"paid": 20}), 1e-3)


def test_a_hospital_that_demands_privacy_takes_part(
    configured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SEED_VARIABLE)
    path = tmp_path / "center.toml"
    path.write_text('name = "HU"\ndata = "data"\nrequire-privacy = "always"\n')
    CenterFile.open(path).refuse_unprotected(configured())


def test_the_report_says_what_validating_cost(configured: Any) -> None:
    from ramw_fed.report.citations import Bibliography
    from ramw_fed.report.document import Table
    from ramw_fed.report.methods_text import run_methods
    from ramw_fed.report.run_facts import read_run
    from ramw_fed.report.run_privacy import privacy

    read = read_run(run(configured(num_rounds=1)).path)
    section = privacy(read)
    assert section is not None
    assert "noise multiplier 2), which epsilon covers; no test patient" in str(run_methods(read.facts, Bibliography()))
    tables = {block.name: block for block in section.blocks if isinstance(block, Table)}
    costs = {row[0][0]: row[1][0] for row in tables["privacy-releases"].rows}
    assert costs["choice of the best round"].startswith("covered by epsilon: noise multiplier 2")


def test_the_noise_of_a_validation_is_never_stated_as_that_of_updates(configured: Any, own_root: Path) -> None:
    account = Account(ledger(own_root, "HU"), configured(), "HU", {"paid": 7})
    charge = asdict(account.charge(account.reserve("run", "paid", 1, VALIDATION), 7))
    update = asdict(account.charge(account.reserve("run", "paid", 2)))
    rounds = [
        {"task": "paid", "centers": {}, "validation_privacy": {"HU": charge}},
        {"task": "paid", "centers": {"HU": {"privacy": update}}, "validation_privacy": {}},
    ]
    found = [privacy_record(configured(), {"HU": charge}, rounds[:stop], ["HU"]) for stop in (0, 1, 2)]
    assert [one["centers"]["HU"]["noise_multiplier"] for one in found if one] == [None, None, 1.0]
    assert [len(one["centers"]["HU"]["validations"]["tasks"]) for one in found if one] == [0, 1, 1]


def test_what_a_round_released_is_kept_until_the_next_one_has_its_own(configured: Any) -> None:
    config = configured()
    run(config)
    (folder,) = Path(config.out).glob("checkpoints/centers/*/HU/paid")
    kept = sorted(path.name.rsplit("-", 1)[0] for path in folder.iterdir())
    assert kept == ["update-00002-1", "validation-00002-1"]


def test_an_update_and_a_validation_of_one_round_are_two_charges_and_each_is_made_once(
    own_root: Path, configured: Any
) -> None:
    account = Account(ledger(own_root, "HU"), configured(), "HU", {"paid": 7})
    update, sums = account.reserve("run", "paid", 1), account.reserve("run", "paid", 1, VALIDATION)
    assert (update.what, sums.what) == ("update", VALIDATION)
    assert account.reserve("run", "paid", 1, VALIDATION) == sums  # nothing left: no new charge
    assert [one.number for one in ledger(own_root, "HU").reservations()] == [update.number, sums.number]
    charge = account.charge(sums, 5)
    assert (charge.patients, charge.sampling_rate, charge.steps, charge.noise_multiplier) == (5, 1.0, 1, NOISE)
    assert charge.epsilon == epsilons([*update.events, *sums.events], 1e-3)
