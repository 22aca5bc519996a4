"""A ledger under kills, restarts and several processes at once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ramw_fed.privacy.ledger_file import POINTS

SCRIPT = Path(__file__).with_name("ledger_processes.py")

pytestmark = pytest.mark.slow


def found(what: str, folder: Path) -> Any:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), what, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_hundred_kills_inside_of_the_ledger_never_count_less_than_left(tmp_path: Path) -> None:
    assert len(POINTS) == 10
    kills = found("kills", tmp_path)
    assert kills["killed"] == 100
    assert kills["statuses"] == [-9]
    assert kills["under-counted"] == []
    # Dying before the update is sent, as every one of these does, nothing leaves.
    assert kills["nothing left at first"] == 100
    # 20 updates were lost after they had left; nothing else was charged twice, and each content that left was charged.
    assert (kills["rounds"], kills["contents"], kills["spent"]) == (100, 120, 240)


def test_a_carrying_over_that_is_killed_anywhere_loses_nothing(tmp_path: Path) -> None:
    """Two ledgers are closed and one is made: three writes of ledgers and four of heads, since a new one's comes first.

    Where a fourth write of a ledger is to be killed, nothing is: 3 x 5 + 4 x 5 deaths.
    """
    result = found("carry_over", tmp_path)
    assert (result["of"], result["wrong"]) == (40, [])
    assert result["killed"] == 35


def test_three_rounds_in_three_processes_spend_exactly_what_three_in_one_do(tmp_path: Path) -> None:
    result = found("processes", tmp_path)
    assert result["three"] == result["one"]
    first, second, third, last = result["one"]
    assert 0 < first[0] < second[0] < third[0] == last[0]


def test_processes_that_spend_at_once_never_pass_the_cap(tmp_path: Path) -> None:
    assert found("crowd", tmp_path / "crowd") == {"endings": [7, 7, 7, 7], "reserved": 20, "keys": 20}


def test_processes_that_reserve_the_same_are_charged_once(tmp_path: Path) -> None:
    assert found("same", tmp_path / "same") == {"endings": [0, 0, 0, 0], "events": 1}
