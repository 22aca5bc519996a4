"""From a node to its center: whose radiographs this process may read, and where they are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from ramw_fed.center import Center
from ramw_fed.config import FIXED, SETTLED, RunConfig
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.layout import LEDGERS
from ramw_fed.data.reading import read_run_cohort
from ramw_fed.errors import CohortError, ConfigError, PrivacyError
from ramw_fed.knobs import Knobs, knob, nest
from ramw_fed.methods import get_method
from ramw_fed.privacy.account import Account
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.ledger_folder import Shelf
from ramw_fed.privacy.randomness import SEED_VARIABLE, from_environment
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks import get_task
from ramw_fed.tasks.task import Task

CENTER_FILE = "center-file"
PARTITION = "partition-id"


@dataclass(frozen=True, kw_only=True)
class CenterFile(Knobs):
    """``center.toml``: what a hospital says of itself. The run cannot change it."""

    table: ClassVar[str] = "center.toml"

    name: str = knob("", "name of the center, as the coordinator waits for it")
    data: str = knob("", "folder with the center's own radiographs, in a form of docs/data.md; relative to this file")
    share_values: bool = knob(
        False, "whether the values of single radiographs may leave, beside the center's own summary of them"
    )
    share_counts: bool = knob(
        False,
        "whether numbers of joints by class may leave: for a prior of all centers, or a threshold or calibration",
    )
    state: str = knob(
        "state", "folder in which the center keeps its own tensors of a run between rounds; relative to this file"
    )
    ledger: str = knob(
        "ledger",
        "folder of the center's privacy ledger, which `ramw-fed privacy ledger init` makes; relative to this file",
    )
    require_privacy: str = knob(
        "with-ledger",
        "refuse runs that do not protect each patient: always, and with them metrics outside of the protection; "
        "with-ledger: where the center has a privacy ledger, whose promise such a run would break; or never",
        choices=("always", "with-ledger", "never"),
    )
    own_code: tuple[str, ...] = knob(
        (), "methods and tasks beside the built-in ones that a run may take, as package.file:NAME; you have read them"
    )

    @classmethod
    def open(cls, path: Path) -> "CenterFile":
        """Read the file; ``data``, ``state`` and ``ledger`` are made absolute.

        Raises:
            ConfigError: It cannot be read, a key is unknown, or name or data is missing.
        """
        raw = cls.read(read_toml(path), where=f" in {path.name}")
        if not (raw.name and raw.data and raw.state and raw.ledger):
            raise ConfigError(f"{path.name} must set name and data, and may not leave state or ledger empty")
        folders = {name: str((path.parent / getattr(raw, name)).resolve()) for name in ("data", "state", "ledger")}
        return replace(raw, **folders)  # type: ignore[arg-type]

    def refuse_unprotected(self, config: RunConfig) -> None:
        """Refuse a run that protects patients less than this center demands, or whose noise could be repeated.

        Raises:
            PrivacyError: With the knobs on both sides.
        """
        is_promised = self.require_privacy == "with-ledger" and not Shelf(Path(self.ledger), self.name).is_empty
        if self.require_privacy == "always" and config.evaluation == "unprotected":
            raise PrivacyError(
                "require-privacy is 'always' in center.toml, and the run has evaluation = 'unprotected'; take 'none' "
                "or 'paid'"
            )
        if not config.is_private and (is_promised or self.require_privacy == "always"):
            why = ", and there is a privacy ledger, whose promise this run would break" if is_promised else ""
            raise PrivacyError(
                f"the run says privacy = {config.privacy!r}, require-privacy in center.toml is {self.require_privacy!r}"
                f"{why}; ask for a run with privacy = 'patient'"
            )
        if config.is_private and from_environment().is_seeded:
            raise PrivacyError(
                f"{SEED_VARIABLE} is set where this center runs: noise that can be repeated protects nobody; unset it"
            )

    def refuse_to_count(self, config: RunConfig) -> None:
        """Refuse a run that asks for counts by class which this center does not share.

        Raises:
            ConfigError: With the knobs on both sides.
        """
        if config.asks_for_counts and not self.share_counts:
            raise ConfigError(
                "the run asks for numbers of joints by class (erosion.prior, threshold-rule or calibration); set "
                "share-counts = true in center.toml to allow it, or ask for a run with 'local', 'fixed' and 'none'"
            )

    def refuse_other_code(self, config: RunConfig) -> None:
        """Refuse a run that would import what this center has not allowed.

        Raises:
            ConfigError: With the names.
        """
        wanted = {name for name in (config.method, *config.tasks) if ":" in name}
        foreign = ", ".join(sorted(wanted - set(self.own_code)))
        if foreign:
            raise ConfigError(
                f"the run takes code that this center does not allow: {foreign}; read it, then name it in own-code"
            )


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
    return Account(Ledger.open(opened.ledgers, center.name, everyone), config, center.name, patients)


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
