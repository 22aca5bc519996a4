"""``center.toml``: what a hospital says of itself, and which runs it refuses for it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ramw_fed.config import RunConfig
from ramw_fed.config_sources import read_toml
from ramw_fed.errors import ConfigError, PrivacyError
from ramw_fed.knobs import Knobs, knob
from ramw_fed.privacy.ledger_folder import Shelf
from ramw_fed.privacy.randomness import SEED_VARIABLE, from_environment

LEDGER_MARK = "ledger-mark.json"
"""In a center's state: the last entry of its ledger that it used, apart from the ledger."""


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
        "refuse runs that do not protect each patient: always; where the center has a privacy ledger, whose promise "
        "they would break; or never",
        choices=("always", "with-ledger", "never"),
    )
    unprotected_evaluation: bool = knob(
        False, "let metrics of validation and test patients leave private runs as they are: no epsilon covers them"
    )
    quarantine: float = knob(0.0, "as the run's knob, which a private run may not set", least=0, most=0.5)
    allow_leakage: bool = knob(False, "as the run's knob, which a private run may not set")
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
        is_promised = self.require_privacy == "with-ledger" and self._has_ledger
        if config.evaluation == "unprotected" and not self.unprotected_evaluation:
            raise PrivacyError(
                "the run has evaluation = 'unprotected', and center.toml does not allow it (unprotected-evaluation); "
                "ask for 'none' or 'paid'"
            )
        if config.is_private and (config.quarantine or config.allow_leakage):
            raise PrivacyError(
                "quarantine and allow-leakage of a private run are this center's own, in center.toml: which files are "
                "left out tells of patients; leave them out of the run"
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

    @property
    def _has_ledger(self) -> bool:
        """Whether patients were ever promised anything here, also where the folder is not mounted today."""
        return not Shelf(Path(self.ledger), self.name).is_empty or (Path(self.state) / LEDGER_MARK).exists()

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
