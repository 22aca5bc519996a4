"""Plans before a run: the noise, what it is worth, and when it is worth nothing."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from ramw_fed import cli, privacy_api
from ramw_fed.config_sources import resolve
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import ConfigError, PrivacyError
from ramw_fed.privacy.accounting import claimed_epsilon, solve_noise
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.planning import plan_center, plan_steps, with_ledger
from ramw_fed.privacy.workload import Workload
from ramw_fed.report.privacy_plan import plan_page

Call = Callable[..., tuple[int, str, str]]

PRIVATE: dict[str, Any] = {
    "privacy": "patient",
    "target-epsilon": 8.0,
    "norm": "group",
    "num-rounds": 2,
    "local-epochs": 1,
    "image-size": 32,
    "crop-size": 16,
    "workers": 1,
    "device": "cpu",
    "segmentation": {"depth": 3, "decoder-width": 16, "patients-per-step": 2},
    "erosion": {"loss": "cross-entropy", "patients-per-step": 2},
}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def one(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ramw-fed", "privacy", "plan", *map(str, arguments)])
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


def work(patients: int = 65, per_step: float = 8, steps: int = 40, rounds: int = 4) -> Workload:
    return Workload(patients=patients, sampling_rate=min(1, per_step / patients), steps=steps, rounds=rounds)


def test_a_plan_reaches_the_target_and_never_passes_it() -> None:
    plan = plan_steps(65, 8, 160, target=3.0)
    assert plan.delta == pytest.approx(1 / 650)
    assert plan.noise_multiplier < 1.93  # 4.23: what RDP solves
    event = Event(sampling_rate=8 / 65, noise_multiplier=plan.noise_multiplier, steps=160)
    assert 2.99 < claimed_epsilon([event], 1 / 650) == plan.epsilons.claimed <= 3
    assert plan.warnings == []


def test_both_tasks_share_one_noise_and_one_epsilon() -> None:
    both = plan_center({"a": work(), "b": work(40)}, center="HU", patients=70, target=3.0)
    alone = plan_center({"a": work()}, center="HU", patients=70, target=3.0)
    assert both.noise_multiplier > alone.noise_multiplier
    assert both.epsilons.claimed <= 3
    assert both.delta == pytest.approx(1 / 700)
    assert both.noise_per_step("a") == pytest.approx(both.noise_multiplier / 8)


def test_paid_validations_are_inside_the_target_and_of_a_given_noise_on_top() -> None:
    sums = [Event(sampling_rate=1.0, noise_multiplier=5.0, steps=8)]
    free = plan_center({"a": work()}, center="HU", patients=65, target=3.0)
    paid = plan_center({"a": work()}, center="HU", patients=65, target=3.0, validations=sums)
    assert paid.noise_multiplier > free.noise_multiplier
    update = Event(sampling_rate=8 / 65, noise_multiplier=paid.noise_multiplier, steps=160)
    assert 2.99 < claimed_epsilon([update, *sums], 1 / 650) == paid.epsilons.claimed <= 3
    assert paid.epsilon_of_validations == claimed_epsilon(sums, 1 / 650)
    assert paid.as_dict()["epsilon_of_validations"] == paid.epsilon_of_validations
    assert free.as_dict()["epsilon_of_validations"] == 0
    assert with_ledger(paid, cap=2.9, delta=1 / 650, before=()).balance.after == paid.epsilons.claimed  # type: ignore[union-attr]
    given = plan_center({"a": work()}, center="HU", patients=65, noise_multiplier=2.0, validations=sums)
    assert given.epsilons.claimed > claimed_epsilon([work().event(2.0, rounds=4)], 1 / 650)
    assert "8 paid validations with noise 5" in str(plan_page([paid])[1])
    assert not any("paid" in str(part) for part in plan_page([free]))
    with pytest.raises(PrivacyError, match="leaves nothing of target-epsilon = 1 "):
        plan_center({"a": work()}, center="HU", patients=65, target=1.0, validations=sums)


def test_a_given_noise_is_planned_with() -> None:
    plan = plan_center({"a": work()}, center="HU", patients=65, noise_multiplier=1.06, delta=1 / 650)
    assert plan.noise_multiplier == 1.06
    assert plan.epsilons.rdp == pytest.approx(7.91, abs=0.05)  # 4.23
    for given in ({}, {"target": 1.0, "noise_multiplier": 1.0}):
        with pytest.raises(PrivacyError, match="one of them"):
            plan_center({"a": work()}, center="HU", patients=65, **given)


def test_the_plan_is_plain_values_with_the_meaning_beside_them() -> None:
    plan = plan_center({"a": work()}, center="HU", patients=65, target=1.0)
    raw = json.loads(json.dumps(plan.as_dict(), allow_nan=False))
    assert raw["noise_multiplier"] == plan.noise_multiplier
    assert raw["tasks"]["a"]["steps"] == 160
    assert raw["epsilon"]["pld"] < raw["epsilon"]["prv"] < raw["epsilon"]["rdp"]
    assert 0.5 < raw["attacker"]["largest_accuracy"] < math.e / (1 + math.e)  # the curve is below the one pair
    assert "each patient of the center" in raw["meaning"][0]


def test_a_delta_that_allows_to_publish_a_patient_is_named_empty() -> None:
    empty, not_quite = (
        plan_center({"a": work(50)}, center="HU", patients=50, noise_multiplier=4.0, delta=delta)
        for delta in (0.02, 0.0199)  # 1 / 50
    )
    assert "publishing the whole record" in empty.warnings[0]
    assert not_quite.warnings == []


def test_a_center_whose_patients_are_all_in_every_step_is_named() -> None:
    plan = plan_steps(8, 8, 10, target=8.0)
    assert plan.workloads["training"].sampling_rate == 1
    assert [warning for warning in plan.warnings if "sampling adds no privacy" in warning]


def test_noise_as_large_as_all_that_patients_can_say_is_named() -> None:
    # 2 of 20 patients a step: their clipped gradients add up to at most 2 clip norms
    quiet = plan_center({"a": work(20, 2)}, center="HU", patients=20, noise_multiplier=1.99)
    loud = plan_center({"a": work(20, 2)}, center="HU", patients=20, noise_multiplier=2.0)
    assert [len(plan.warnings) for plan in (quiet, loud)] == [0, 1]
    assert "nothing is likely to be learned" in loud.warnings[0]


def test_an_epsilon_above_ten_is_named() -> None:
    plan = plan_center({"a": work(steps=10)}, center="HU", patients=65, noise_multiplier=0.5)
    assert plan.epsilons.claimed > 10
    assert "says little in the worst case" in plan.warnings[0]


def test_a_cap_that_the_run_would_pass_is_named() -> None:
    plan = plan_center({"a": work()}, center="HU", patients=65, target=2.0)
    before = [Event(sampling_rate=0.1, noise_multiplier=2.0, steps=100)]
    free = with_ledger(plan, cap=4.0, delta=plan.delta, before=before)
    assert free.balance is not None
    assert 1.4 < free.balance.spent < 2 < free.balance.after < 3.5
    assert free.warnings == []
    assert "would refuse" in with_ledger(plan, cap=2.5, delta=plan.delta, before=before).warnings[0]
    assert free.as_dict()["ledger"]["cap"] == 4.0


@pytest.mark.parametrize(
    ("numbers", "said"),
    [((0, 8, 10), "patients is 0"), ((65, 0, 10), "patients per step are 0"), ((65, 8, 0), "steps is 0")],
)
def test_numbers_that_make_no_plan_are_refused(numbers: tuple[int, float, int], said: str) -> None:
    with pytest.raises(PrivacyError, match=said):
        plan_steps(*numbers, target=1.0)


def test_the_command_line_plans_from_numbers(call: Call) -> None:
    numbers = ("--patients", 65, "--patients-per-step", 8, "--steps", 160, "--epsilon", 3)
    status, out, _ = call(*numbers, "--json")
    assert status == 0
    assert json.loads(out)["noise_multiplier"] == plan_steps(65, 8, 160, target=3.0).noise_multiplier
    status, out, _ = call(*numbers, "--delta", 0.1)
    assert status == 0
    assert "What it means" in out
    assert "Warning: center: delta 0.1" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--patients", 65, "--steps", 10), "or --patients-per-step, --epsilon as well"),
        (("run.toml", "--patients", 65, "--delta", 0.1), "--patients, --delta are for a plan without CONFIG"),
        (
            ("--patients", 65, "--patients-per-step", 8, "--steps", 9, "--epsilon", 1, "--set", "seed=1"),
            "--cohort and --set are for a plan of a run",
        ),
    ],
)
def test_a_mixture_of_both_ways_is_refused(call: Call, arguments: tuple[object, ...], said: str) -> None:
    status, _, err = call(*arguments)
    assert status == 1
    assert said in " ".join(err.split())


def test_each_center_of_a_run_gets_its_noise(root: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(tomli_w.dumps(PRIVATE))
    status, out, err = call(tmp_path / "run.toml", "--cohort", root, "--json")
    assert status == 0, err
    centers = {one["center"]: one for one in json.loads(out)["centers"]}
    assert sorted(centers) == ["BTXRD", "DHA", "FA", "HMCRD", "HU", "SCGH"]
    for name, one in centers.items():
        patients = {radiograph.patient for radiograph in read_cohort(root).at(name).radiographs}
        assert one["patients"] == len(patients)
        assert one["delta"] == pytest.approx(1 / (10 * len(patients)))
        assert 7.9 < one["epsilon"]["pld"] <= 8
        assert one["ledger"] is None
        assert set(one["tasks"]) <= {"segmentation", "erosion"}
        draws = [(task["sampling_rate"], task["steps"]) for task in one["tasks"].values()]
        assert one["noise_multiplier"] == solve_noise(draws, 8.0, one["delta"])


def test_a_ledger_gives_its_delta_and_what_is_spent(root: Path) -> None:
    patients = {radiograph.patient for radiograph in read_cohort(root).at("HU").radiographs}
    ledger = Ledger.init(root / "privacy", "HU", patients, cap=8.1, delta=1e-3)
    ledger.reserve("earlier", "erosion", 1, "update", [Event(sampling_rate=0.5, noise_multiplier=3.0, steps=9)])
    config = resolve({**PRIVATE, "cohort": str(root)})
    plans = {plan.center: plan for plan in privacy_api.plan_run(config)}
    assert plans["DHA"].balance is None
    mine = plans["HU"].balance
    assert mine is not None
    assert plans["HU"].delta == 1e-3
    assert mine.spent == ledger.epsilons().claimed
    assert 8.1 < mine.after < 8 + mine.spent
    assert "would refuse the last rounds" in plans["HU"].warnings[0]


def test_a_run_without_privacy_has_nothing_to_plan(root: Path) -> None:
    with pytest.raises(ConfigError, match="protects no patient"):
        privacy_api.plan_run(resolve({"cohort": str(root)}))
