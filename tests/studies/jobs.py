"""Jobs that worker processes import by name."""

import os
import time

from ramw_fed.errors import StudyError


def doubled(job: int) -> int:
    return 2 * job


def refused(job: int) -> int:
    if job == 2:
        raise StudyError("no")
    time.sleep(0.1)
    return job


def dies(job: int) -> int:
    if job == 1:
        os._exit(9)
    return job
