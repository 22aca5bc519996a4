"""What can be known to fail before a run begins: no folder is made and no center is asked for it."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ramw_fed.config import RunConfig
from ramw_fed.data import layout
from ramw_fed.data.cohort import Description
from ramw_fed.data.description import read_description
from ramw_fed.data.phantom.writer import PHANTOM
from ramw_fed.errors import ConfigError, RamwFedError
from ramw_fed.learning.training import pick_device
from ramw_fed.methods import get_method
from ramw_fed.starting_weights import starting_weights
from ramw_fed.tasks import get_task
from ramw_fed.tasks.task import Task


def refuse_what_cannot_start(config: RunConfig, *, resume: bool = False) -> None:
    """Resolve method, tasks, device and networks.

    Raises:
        RamwFedError: One of them is not to be had, or weights to start from are not.
    """
    get_method(config.method)
    tasks = [get_task(name) for name in config.tasks]
    strange = sorted(set(config.others) - {task.name for task in tasks})
    if strange:
        names = ", ".join(task.name for task in tasks)
        raise ConfigError(f"[{strange[0]}] is the table of no task of this run; its tasks are {names}")
    pick_device(config.device)
    # A run that goes on has its weights already; those that it began with may be gone.
    config = _without_start(config, tasks) if resume else config
    description = _description(config)
    for task in tasks:
        try:
            starting_weights(task, description, config)
        except RamwFedError:
            raise
        except Exception as error:  # a user's own network may raise anything
            raise ConfigError(f"the network of {task.name} cannot be built: {type(error).__name__}: {error}") from error


def _without_start(config: RunConfig, tasks: Iterable[Task]) -> RunConfig:
    config = replace(config, start_from="")
    for task in tasks:
        config = config.with_training(task.name, replace(config.training(task.name), trainable="all"))
    return config


def _description(config: RunConfig) -> Description:
    """Return what the cohort's images show, without reading the cohort."""
    if not config.cohort:
        return PHANTOM
    path = Path(config.cohort) / layout.DESCRIPTION
    return read_description(path) if path.exists() else layout.RAMW600
