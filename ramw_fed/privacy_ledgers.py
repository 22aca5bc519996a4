"""Whose ledgers a cohort, a run or a hospital has, and where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ramw_fed import api
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.data.reading import scan
from ramw_fed.errors import CohortError, ConfigError, LedgerError
from ramw_fed.federation.center_file import CenterFile
from ramw_fed.federation.opening import simulated_ledgers
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.ledger_folder import Shelf
from ramw_fed.privacy.spending import Spending
from ramw_fed.wording import as_file_name


@dataclass(frozen=True, kw_only=True)
class Owner:
    """One center that has, or is to have, a ledger.

    Attributes:
        folder: Where its ledgers lie.
        center: Name.
        patients: All that its files know, whatever split or run they are in.
        is_synthetic: Whether they are phantoms, who need no protection.
    """

    folder: Path
    center: str
    patients: tuple[str, ...]
    is_synthetic: bool


def owners(where: Path) -> list[Owner]:
    """Return the centers of a cohort's folder, of a run's configuration, or of a hospital's ``center.toml``.

    Raises:
        ConfigError: ``where`` is none of them.
        CohortError: There is no patient of the center, or of any.
    """
    if where.is_dir():
        return _of_cohort(where, simulated_ledgers(where))
    raw = read_toml(where)
    if "data" in raw:
        own = CenterFile.open(where)
        return _of_cohort(Path(own.data), Path(own.ledger), own.name)
    config = resolve(raw)
    root = Path(config.cohort) if config.cohort else api.phantom_folder(config.phantom, workers=config.workers)
    return _of_cohort(root, simulated_ledgers(root))


def _of_cohort(root: Path, folder: Path, only: str = "") -> list[Owner]:
    found = scan(root)
    patients: dict[str, set[str]] = {}
    for radiograph in found.radiographs:
        patients.setdefault(radiograph.center, set()).add(radiograph.patient)
    names = sorted(name for name in patients if name and only in ("", name))
    if not names:
        of = f" of {only!r}" if only else ""
        raise CohortError(f"{root} holds no radiograph{of}; `ramw-fed cohort check` says what it holds")
    is_synthetic = found.description.kind == "phantom"
    return [
        Owner(folder=folder, center=name, patients=tuple(sorted(patients[name])), is_synthetic=is_synthetic)
        for name in names
    ]


def init_ledgers(
    where: Path, *, cap: float, delta: float | None = None, carry_over: bool = False, renew: bool = False
) -> list[Ledger]:
    """Make the ledgers that are missing; those that are there with this cap and delta stay as they are.

    Args:
        where: As in :func:`owners`.
        cap: Epsilon that everything ever computed on a center's patients may not pass.
        delta: By default 1 / (10 patients), for each center.
        carry_over: As in :meth:`Ledger.init`; also gives a ledger another cap or delta.
        renew: Throw the ledgers away before; only where the patients are phantoms.

    Raises:
        LedgerError: Patients are in another ledger, or one is damaged or lost.
        ConfigError: Ledgers of real patients are to be thrown away.
    """
    found = owners(where)
    _refuse_other_names(found)
    if renew:
        _clear(found)
    kept = {} if carry_over else {one.center: _at_hand(one, cap, delta) for one in found}
    return [
        kept.get(one.center)
        or Ledger.init(one.folder, one.center, one.patients, cap=cap, delta=delta, carry_over=carry_over)
        for one in found
    ]


def open_ledgers(where: Path) -> tuple[list[Spending], list[str]]:
    """Return what was spent at each center that has a ledger, and the names of those without one.

    Raises:
        LedgerError: One is damaged or lost, or there is none at all.
    """
    found = owners(where)
    without = [one.center for one in found if Shelf(one.folder, one.center).is_empty]
    if len(without) == len(found):
        one = found[0]
        Ledger.open(one.folder, one.center, one.patients)
    ledgers = [Ledger.open(one.folder, one.center, one.patients) for one in found if one.center not in without]
    return [Spending.of(ledger) for ledger in ledgers], without


def _at_hand(owner: Owner, cap: float, delta: float | None) -> Ledger | None:
    """Return the center's ledger if it is what is asked for, or None where these patients are in none.

    Raises:
        LedgerError: They are in another one, or in one with another cap or delta.
    """
    shelf = Shelf(owner.folder, owner.center)
    if not shelf.has_any(owner.patients):
        return None
    ledger = Ledger.open(owner.folder, owner.center, owner.patients)
    wanted = 1 / (10 * ledger.num_patients) if delta is None else delta
    if (ledger.cap, ledger.delta) != (cap, wanted):
        raise LedgerError(
            f"{owner.center!r} has a ledger with cap {ledger.cap:g} at delta {ledger.delta:g}; leave it, or "
            "--carry-over makes one with the new numbers that begins with what was spent"
        )
    return ledger


def _refuse_other_names(found: Sequence[Owner]) -> None:
    """A center that changed its name has not changed its patients.

    Raises:
        LedgerError: They are in a ledger under another name.
    """
    names = {as_file_name(one.center) for one in found}
    for one in found:
        places = one.folder.iterdir() if one.folder.is_dir() else ()
        for place in sorted(path for path in places if path.is_dir() and path.name not in names):
            other = unquote(place.name)
            if Shelf(one.folder, other).has_any(one.patients):
                raise LedgerError(
                    f"patients of {one.center!r} are in the ledger of {other!r}, in the same folder: what was spent on "
                    "them stays spent; keep the center's old name, under which the ledger can be carried on"
                )


def _clear(found: Sequence[Owner]) -> None:
    if not all(one.is_synthetic for one in found):
        raise ConfigError(
            "--renew forgets what was spent, which is for phantoms only: no patient stands behind them. This cohort's "
            "kind is 'real' (cohort.toml), and what was spent on its patients stays spent"
        )
    for one in found:
        Shelf(one.folder, one.center).clear()
