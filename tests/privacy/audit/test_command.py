"""``ramw-fed privacy audit``: what it audits, prints and writes, and that it fails where a check does."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ramw_fed import cli, privacy_api
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.errors import PrivacyError
from ramw_fed.privacy.audit import run
from ramw_fed.privacy.audit.attacks import Plan
from ramw_fed.privacy.audit.checks import Check
from ramw_fed.privacy.audit.run import Audit, audited_config, run_audit

GOOD = Check(name="noise", claimed="deviation 1", audited="deviation 1.001", holds=True, figures={"measured": 1.001})
BAD = Check(name="contribution of a patient", claimed="at most 1", audited="40 by 40", holds=False)

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def one(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ramw-fed", "privacy", "audit", *map(str, arguments)])
        status: object = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        assert isinstance(status, int)
        return status, *capsys.readouterr()

    return one


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Put a finished audit in place of the minutes that one takes; keep what was asked for."""
    kept: list[Any] = [(GOOD,)]

    def finished(config: RunConfig | None, *, epsilon: float | None, **_: Any) -> Audit:
        kept.append((config, epsilon))
        return Audit(epsilon=epsilon or 3.0, checks=kept[0])

    monkeypatch.setattr(privacy_api, "run_audit", finished)
    return kept


def test_where_all_holds_the_table_is_printed(call: Call, asked: list[Any], tmp_path: Path) -> None:
    status, out, _ = call("--out", tmp_path / "audit")
    assert status == 0
    assert "deviation 1.001" in out
    assert "holds" in out
    assert asked[1] == (None, None)
    kept = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert kept == Audit(epsilon=3.0, checks=(GOOD,)).as_dict()
    assert kept["holds"] is True


def test_one_check_that_fails_is_exit_status_1(call: Call, asked: list[Any]) -> None:
    asked[0] = (GOOD, BAD)
    status, out, _ = call("--json", "--epsilon", "1")
    found = json.loads(out)
    assert status == 1
    assert asked[1] == (None, 1.0)
    assert [one["holds"] for one in found["checks"]] == [True, False]
    assert found["holds"] is False


def test_a_configuration_is_audited_with_its_knobs(call: Call, asked: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('privacy = "patient"\nnorm = "group"\ntarget-epsilon = 8.0\n')
    assert call(file, "--set", "clip-norm=0.5")[0] == 0
    config, epsilon = asked[1]
    assert (config.segmentation.clip_norm, config.target_epsilon, epsilon) == (0.5, 8.0, None)


def test_settings_without_a_configuration_are_refused(call: Call, asked: list[Any]) -> None:
    status, _, err = call("--set", "clip-norm=0.5")
    assert status == 1
    assert "E-CONFIG" in err


def test_a_run_without_privacy_claims_nothing_to_audit() -> None:
    with pytest.raises(PrivacyError, match="nothing is claimed"):
        audited_config(resolve({}), None)


def test_a_task_of_a_users_own_has_no_phantoms() -> None:
    own = resolve({"tasks": "knees:KNEES", "privacy": "patient", "target-epsilon": 1.0, "norm": "group"})
    with pytest.raises(PrivacyError, match="labels for segmentation, erosion only"):
        audited_config(own, None)


def test_the_target_of_the_run_is_audited_and_further_checks_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def stub(name: str) -> Callable[..., Check]:
        def check(*args: Any, **_: Any) -> Check:
            seen[name] = args
            return GOOD

        return check

    for name in ("noise", "contribution", "samples", "correction", "refusals", "charges", "one_run", "control"):
        monkeypatch.setattr(run, f"check_{name}", stub(name))
    monkeypatch.setattr(run, "check_membership", stub("membership"))
    monkeypatch.setattr(run, "Victims", lambda plan, **_: "victims")
    config = resolve(
        {"privacy": "patient", "norm": "group", "target-epsilon": 2.0, "tasks": "erosion", "clip-norm": 0.25}
    )
    found = run_audit(config, plan=Plan(members=50), more=[lambda: [BAD]])
    assert found.epsilon == 2.0
    assert not found.holds
    assert [check.name for check in found.checks] == ["noise"] * 9 + ["contribution of a patient"]
    assert seen["noise"] == (1.3, 0.25)
    assert seen["contribution"] == (0.25,)
    task, training, epsilon = seen["one_run"]
    assert (task.name, training.clip_norm, epsilon) == ("erosion", 0.25, 2.0)
    assert seen["membership"] == ("victims", 2.0, 1 / 500)


@pytest.mark.slow
def test_the_installed_product_passes_its_audit(call: Call, tmp_path: Path) -> None:
    status, out, _ = call("--json", "--out", tmp_path)
    found = json.loads(out)
    assert status == 0, [one for one in found["checks"] if not one["holds"]]
    one_run = next(one for one in found["checks"] if one["name"].startswith("one-run"))
    assert one_run["figures"]["canaries"] >= 500
    assert one_run["figures"]["epsilon"] <= one_run["figures"]["claimed"] < one_run["figures"]["most"]
    attacked = next(one for one in found["checks"] if one["name"] == "membership, epsilon 3")
    assert all(one["others"] >= 1000 for one in attacked["figures"].values())
