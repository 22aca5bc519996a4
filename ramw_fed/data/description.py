"""``cohort.toml``: what a cohort's images show, in the words of whoever owns them."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import tomli_w

from ramw_fed.data.cohort import Description
from ramw_fed.data.layout import BONES, JOINTS, RAMW600, known_bone, known_joint
from ramw_fed.errors import CohortError

_NAMES = ("bones", "joints", "mirrored_sides")
# Tables that tell where a cohort comes from; nothing reads them back.
_PROVENANCE = ("phantom", "source")


def read_description(path: Path, required: Iterable[str] = ()) -> Description:
    """Read ``cohort.toml``; keys that it leaves out are those of RAM-W600.

    Args:
        path: The file.
        required: Keys that it may not leave out.

    Raises:
        CohortError: All faults of the file in one sentence.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CohortError(f"{path.name} cannot be read as TOML: {error}") from error
    table = _anatomical(table)
    known = {field.name for field in fields(Description)} - {"center_names"} | {"centers", *_PROVENANCE}
    faults = [f"unknown key {key!r}" for key in table if key not in known]
    faults += [f"{key!r} is missing" for key in required if key not in table]
    faults += [fault for key, value in table.items() if (fault := _fault(key, value))]
    pairs = table.get("overlap_pairs", [list(pair) for pair in RAMW600.overlap_pairs])
    bones = table.get("bones", list(RAMW600.bones))
    if not faults and "overlap_pairs" not in table:
        pairs = [pair for pair in pairs if set(pair) <= set(bones)]
    if not faults and not all(set(pair) <= set(bones) for pair in pairs):
        faults.append("overlap_pairs names a bone that is not in bones")
    if faults:
        raise CohortError(f"{path.name}: {'; '.join(faults)}. Known keys: {', '.join(sorted(known))} (docs/data.md)")
    return Description(
        kind=table.get("kind", RAMW600.kind),
        bones=tuple(bones),
        joints=tuple(table.get("joints", RAMW600.joints)),
        max_grade=table.get("max_grade", RAMW600.max_grade),
        mirrored_sides=tuple(table.get("mirrored_sides", RAMW600.mirrored_sides)),
        overlap_pairs=tuple((first, second) for first, second in pairs),
        center_names=dict(table.get("centers", {})),
    )


def write_description(description: Description, path: Path, **provenance: Mapping[str, object]) -> None:
    """Write ``cohort.toml`` with tables that tell where the cohort comes from."""
    table = description.to_dict()
    if description.center_names:
        table["centers"] = dict(description.center_names)
    path.write_text(tomli_w.dumps({**table, **provenance}), encoding="utf-8")


def _anatomical(table: dict[str, Any]) -> dict[str, Any]:
    """Put RAM-W600's bones and joints in their anatomical spelling; names of other cohorts stay as they are."""

    def bone(name: object) -> object:
        return (known_bone(name, BONES) if isinstance(name, str) else None) or name

    def joint(name: object) -> object:
        return (known_joint(name, JOINTS) if isinstance(name, str) else None) or name

    spelled = dict(table)
    if isinstance(table.get("bones"), list):
        spelled["bones"] = [bone(name) for name in table["bones"]]
    if isinstance(table.get("joints"), list):
        spelled["joints"] = [joint(name) for name in table["joints"]]
    if isinstance(table.get("overlap_pairs"), list):
        pairs = table["overlap_pairs"]
        spelled["overlap_pairs"] = [[bone(name) for name in pair] if isinstance(pair, list) else pair for pair in pairs]
    return spelled


def _fault(key: str, value: object) -> str | None:
    if key == "kind" and value not in ("phantom", "real"):
        return f"kind must be 'phantom' or 'real', found {value!r}"
    if key in _NAMES and not _are_names(value):
        return f"{key} must be a list of different names"
    if key == "mirrored_sides" and not set(value) <= {"L", "R"}:  # type: ignore[call-overload]
        return f"mirrored_sides may hold 'L' and 'R', found {value!r}"
    if key == "max_grade" and (type(value) is not int or not 1 <= value <= 100):
        return f"max_grade must be a whole number from 1 to 100, found {value!r}"
    if key == "overlap_pairs" and not (
        isinstance(value, list) and all(_are_names(pair) and len(pair) == 2 for pair in value)
    ):
        return "overlap_pairs must be a list of pairs of bones"
    if key == "centers" and not (
        isinstance(value, dict) and all(isinstance(name, str) and name for name in value.values())
    ):
        return "[centers] must map names in the files to names of centers"
    return None


def _are_names(value: object) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )
