"""Processes that share a study's work."""

import pytest
from jobs import dies, doubled, refused

from ramw_fed.errors import StudyError
from ramw_fed.studies.workers import share


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_comes_back_with_its_result(workers: int) -> None:
    assert dict(share(doubled, [3, 1, 2], workers)) == {1: 2, 2: 4, 3: 6}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_ends_all(workers: int) -> None:
    with pytest.raises(StudyError, match="no"):
        list(share(refused, list(range(40)), workers))


def test_a_process_that_dies_is_said_and_not_waited_for() -> None:
    with pytest.raises(StudyError, match="a process of the study died"):
        list(share(dies, [0, 1, 2], 2))
