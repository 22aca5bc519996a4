"""From a node to its center: whose radiographs this process may read, and where they are."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ramw_fed.center import Center
from ramw_fed.config import FIXED, SETTLED, RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.layout import LEDGERS
from ramw_fed.data.reading import read_run_cohort
from ramw_fed.errors import CohortError, ConfigError
from ramw_fed.federation.center_file import LEDGER_MARK, CenterFile
from ramw_fed.knobs import flatten, nest
from ramw_fed.methods import get_method
from ramw_fed.privacy.account import Account
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.ledger_file import Witness
from ramw_fed.run_folder import RunFolder, write_atomically
from ramw_fed.tasks import get_task
from ramw_fed.tasks.task import Task

CENTER_FILE = "center-file"
PARTITION = "partition-id"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A center at its data.

    Attributes:
        center: Ready to train; None where a simulation has more nodes than the cohort has centers.
        cohort: The center's own radiographs, or all that the machine simulates.
        peers: Names of all centers that this machine simulates; empty where the center stands for itself.
        shares_values: Whether rows of measurements may leave.
        state: Folder for what the center keeps between rounds; None in a simulation without a run folder.
        ledgers: Folder of the privacy ledger, which no run can choose.
    """

    center: Center | None
    cohort: Cohort
    peers: tuple[str, ...]
    shares_values: bool
    state: Path | None
    ledgers: Path

    def remember(self, witness: Witness) -> None:
        """Keep an entry of the ledger apart from it, so that an older copy of its folder is found in any run."""
        if self.state is not None and not self.peers:
            self.state.mkdir(parents=True, exist_ok=True)
            write_atomically(self.state / LEDGER_MARK, json.dumps(asdict(witness)))

    @property
    def remembered(self) -> Witness | None:
        """What was kept last; None where nothing was, or where centers are simulated."""
        path = None if self.state is None or self.peers else self.state / LEDGER_MARK
        return Witness(**json.loads(path.read_text(encoding="utf-8"))) if path and path.exists() else None


def forget_centers() -> None:
    """Read everything anew: between two runs of one process the files may have changed."""
    _read.cache_clear()
    _center.cache_clear()


def run_tasks(config: RunConfig) -> dict[str, Task]:
    """Return the run's tasks by their own names.

    Raises:
        ConfigError: Validation is to be paid for, and a task does not say what a patient adds to it at most.
    """
    tasks = {task.name: task for task in map(get_task, config.tasks)}
    for task in tasks.values() if config.pays_to_validate else ():
        task.validation()
    return tasks


def open_center(node_config: Mapping[str, Any], config: RunConfig) -> Opened:
    """Return the center that a node stands for, from its own file, else by its number in a simulation.

    Raises:
        ConfigError: The node says neither.
        CohortError: The data cannot be read, or hold nothing of this center.
    """
    if CENTER_FILE in node_config and config.pool:
        raise ConfigError("pool puts all centers' radiographs into one folder: it is for simulation on one machine")
    if CENTER_FILE in node_config:
        own = CenterFile.open(Path(str(node_config[CENTER_FILE])))
        own.refuse_other_code(config)
        own.refuse_to_count(config)
        own.refuse_unprotected(config)
        if config.is_private:
            config = replace(config, quarantine=own.quarantine, allow_leakage=own.allow_leakage)
        center = _center(own.name, own.data, _key(config))
        center.config = config
        return Opened(
            center=center,
            cohort=center.cohort,
            peers=(),
            shares_values=own.share_values,
            state=Path(own.state),
            ledgers=Path(own.ledger),
        )
    if PARTITION not in node_config:
        raise ConfigError(f"the node has neither {CENTER_FILE!r} nor {PARTITION!r}; start it with --node-config")
    names = simulated_centers(config)
    number = int(node_config[PARTITION])
    cohort = _read(config.cohort, _key(config))
    one = _center(names[number], config.cohort, _key(config)) if number < len(names) else None
    if one:
        one.config = config
    return Opened(
        center=one,
        cohort=cohort,
        peers=names,
        shares_values=True,
        state=simulated_state(config),
        ledgers=simulated_ledgers(Path(config.cohort)),
    )


def open_account(opened: Opened, config: RunConfig) -> Account:
    """Return what the run may draw from the center's ledger, which is read anew each time.

    Raises:
        LedgerError: There is no ledger of the center's patients, or it cannot be trusted.
        PrivacyError: No noise reaches the run's target.
    """
    if opened.center is None:
        raise CohortError("this node stands for no center, and has no privacy ledger")
    center, tasks = opened.center, run_tasks(config)
    everyone = {radiograph.patient for radiograph in center.cohort.radiographs}
    patients = {name: center.num_training_patients(task) for name, task in tasks.items()}
    ledger, seen = Ledger.open(opened.ledgers, center.name, everyone), opened.remembered
    if seen:
        ledger.refuse_older(seen)
    return Account(ledger, config, center.name, patients)


def promised(config: RunConfig) -> str:
    """Return a hash of what a private run says of itself, which no later order may change."""
    said = flatten(config.deciding())
    kept = {name: said[name] for name in sorted(set(said) - (SETTLED - FIXED))}
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def simulated_ledgers(cohort: Path) -> Path:
    """Return where the privacy ledgers of a cohort's centers lie, if this machine simulates them."""
    return cohort / LEDGERS


def simulated_state(config: RunConfig) -> Path | None:
    """Return where centers that this machine simulates keep what is theirs: below the run folder, if there is one."""
    return RunFolder(Path(config.out)).checkpoints / "centers" if Path(config.out).is_absolute() else None


def simulated_centers(config: RunConfig) -> tuple[str, ...]:
    """Return the sorted names of the centers that a simulation on this machine has: node 0 stands for the first.

    Raises:
        ConfigError: The cohort's path is not absolute, or ``centers`` names one that it does not have.
    """
    if not Path(config.cohort).is_absolute():
        raise ConfigError(f"cohort is {config.cohort!r}; engines run elsewhere, so an absolute path is wanted")
    return _read(config.cohort, _key(config)).chosen_centers(config.taking_part)


@lru_cache(maxsize=2)
def _read(root: str, key: str) -> Cohort:
    return read_run_cohort(resolve(nest(json.loads(key))), root)


# One center a process has opened costs its decoded images; six of them are a whole simulation.
@lru_cache(maxsize=16)
def _center(name: str, root: str, key: str) -> Center:
    config = resolve(nest(json.loads(key)))
    cohort = _read(root, key).at(name)
    if not cohort.radiographs:
        raise CohortError(f"{root} holds no radiograph of {name!r}; check name and data in center.toml")
    return Center(name, cohort, config, get_method(config.method))


def _key(config: RunConfig) -> str:
    """Return what the cached centers differ by: the configuration, without what may change from order to order."""
    # Counts that a private run does not fix beforehand are refused, so there they never change.
    free = {"out", *(SETTLED - FIXED if config.is_private else SETTLED)}
    return json.dumps({name: value for name, value in config.flat().items() if name not in free}, sort_keys=True)
