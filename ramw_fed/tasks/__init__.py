"""What a model learns: one task, one file, one line in the table."""

from collections.abc import Mapping
from types import MappingProxyType

from ramw_fed.importing import load_named
from ramw_fed.tasks.erosion import EROSION
from ramw_fed.tasks.segmentation import SEGMENTATION
from ramw_fed.tasks.task import Task

TASKS: Mapping[str, Task] = MappingProxyType({"segmentation": SEGMENTATION, "erosion": EROSION})


def get_task(name: str) -> Task:
    """Return the built-in task called ``name``, or a user's own at ``package.file:NAME``."""
    return load_named(name, TASKS, Task, kind="task")


__all__ = ["EROSION", "SEGMENTATION", "TASKS", "Task", "get_task"]
