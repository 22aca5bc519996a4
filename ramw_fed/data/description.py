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
_PAIRS = ("overlap_pairs", "joint_spaces")
# Tables that tell where a cohort comes from; of them only the size of a phantom is read back.
_PROVENANCE = ("phantom", "source")
_DETECTOR_SIDES = (600, 720)


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
    bones = table.get("bones", list(RAMW600.bones))
    for key in _PAIRS if not faults else ():
        if not all(set(pair) <= set(bones) for pair in table.get(key, [])):
            faults.append(f"{key} names a bone that is not in bones")
    if faults:
        raise CohortError(f"{path.name}: {'; '.join(faults)}. Known keys: {', '.join(sorted(known))} (docs/data.md)")
    return Description(
        kind=table.get("kind", RAMW600.kind),
        bones=tuple(bones),
        joints=tuple(table.get("joints", RAMW600.joints)),
        max_grade=table.get("max_grade", RAMW600.max_grade),
        mirrored_sides=tuple(table.get("mirrored_sides", RAMW600.mirrored_sides)),
        overlap_pairs=_pairs(table, "overlap_pairs", RAMW600.overlap_pairs, bones),
        joint_spaces=_pairs(table, "joint_spaces", RAMW600.joint_spaces, bones),
        center_names=dict(table.get("centers", {})),
    )


def shrinking(path: Path) -> float:
    """Return how many pixels of the detector one pixel of a phantom's image stands for.

    A phantom is drawn at any size, while its table gives the spacing of the detector, as RAM-W600's does: of 600
    pixels a side, or of 720.

    Args:
        path: A phantom's ``cohort.toml``, readable.
    """
    phantom = tomllib.loads(path.read_text(encoding="utf-8")).get("phantom")
    size = phantom.get("size") if isinstance(phantom, dict) else None
    if not isinstance(size, int) or size < 1 or size in _DETECTOR_SIDES:
        return 1.0
    return _DETECTOR_SIDES[0] / size


def write_description(description: Description, path: Path, **provenance: Mapping[str, object]) -> None:
    """Write ``cohort.toml`` with tables that tell where the cohort comes from."""
    table = description.to_dict()
    if description.center_names:
        table["centers"] = dict(description.center_names)
    path.write_text(tomli_w.dumps({**table, **provenance}), encoding="utf-8")


def _pairs(
    table: Mapping[str, Any], key: str, usual: Iterable[tuple[str, str]], bones: Iterable[str]
) -> tuple[tuple[str, str], ...]:
    """Pairs that the table names, else those of RAM-W600 between these bones."""
    named = table.get(key, [pair for pair in usual if set(pair) <= set(bones)])
    return tuple((first, second) for first, second in named)


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
    for key in _PAIRS:
        if isinstance(table.get(key), list):
            spelled[key] = [[bone(name) for name in pair] if isinstance(pair, list) else pair for pair in table[key]]
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
    if key in _PAIRS and not (isinstance(value, list) and all(_are_names(pair) and len(pair) == 2 for pair in value)):
        return f"{key} must be a list of pairs of bones"
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
