"""How a knob is declared and checked; the knobs themselves stand in ``config.py``."""

import math
import sys
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Self, TypeVar, get_type_hints

from ramw_fed.errors import ConfigError

Value = bool | int | float | str
T = TypeVar("T")


def knob(
    default: Any,
    meaning: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    under: tuple[str, ...] = (),
    decides: bool = True,
    travels: bool = True,
) -> Any:
    """Declare a knob.

    Args:
        default: Its value where nothing is said; of a knob with ``under``, where that choice is made, else None.
        meaning: One line for the documentation.
        least: Smallest allowed value.
        most: Largest allowed value.
        choices: The allowed texts.
        under: Another knob of the table, and its values with which this one is read; refused under all others.
        decides: Whether it can change a run's numbers (where and how fast a run is computed cannot).
        travels: Whether Flower's run-config has it: how ``ramw-fed run`` itself goes about a run is nothing to Flower.
    """
    metadata = {
        "default": default,
        "meaning": meaning,
        "least": least,
        "most": most,
        "choices": choices,
        "under": under,
        "decides": decides,
        "travels": travels,
    }
    return field(default=None if under else default, metadata=metadata)


def spelling(name: str) -> str:
    """Return the knob's spelling in files: ``proximal_mu`` is ``proximal-mu``."""
    return name.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """A table of knobs that checks itself: all problems are listed in one error."""

    table: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check type, range and choice of every knob, then those that are read under another's choice only."""
        own = [known for known in fields(self) if known.metadata]
        problems = [problem for known in own for problem in self._problems(known)]
        problems += [problem for known in own for problem in self._settle(known)]
        if problems:
            raise ConfigError("; ".join(problems))

    def _problems(self, known: Field[Any]) -> list[str]:
        value, rule, name = getattr(self, known.name), known.metadata, self._spelling(known)
        if not _has_type(value, get_type_hints(type(self))[known.name]):
            return [f"{name} is {value!r}; {_wanted(known, get_type_hints(type(self))[known.name])} is wanted"]
        if isinstance(value, float) and not math.isfinite(value):
            return [f"{name} is {value!r}; a finite number is wanted"]
        if rule["choices"] and value is not None and value not in rule["choices"]:
            return [f"{name} is {value!r}; one of {', '.join(rule['choices'])} is wanted"]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if rule["least"] is not None and value < rule["least"]:
                return [f"{name} is {value!r}; at least {rule['least']} is wanted"]
            if rule["most"] is not None and value > rule["most"]:
                return [f"{name} is {value!r}; at most {rule['most']} is wanted"]
        return []

    def _settle(self, known: Field[Any]) -> list[str]:
        """Give a knob its default where the choice that it belongs to is made, and refuse it where it is not."""
        if not known.metadata["under"] or not hasattr(self, known.metadata["under"][0]):
            return []  # a knob under a choice of the table above: see settle_under
        selector, chosen = known.metadata["under"][0], getattr(self, known.metadata["under"][0])
        is_set = getattr(self, known.name) is not None
        if not is_set and not is_idle(known, chosen):
            object.__setattr__(self, known.name, known.metadata["default"])
        # A user's own method may read any knob.
        if not is_set or not is_idle(known, chosen) or ":" in str(chosen):
            return []
        wanted = " or ".join(known.metadata["under"][1:])
        return [f"{self._spelling(known)} does nothing under {selector} {chosen!r}; leave it out, or take {wanted}"]

    def settle_under(self, above: "Knobs") -> Self:
        """Return the table with defaults for its knobs under a choice that the table above makes.

        Raises:
            ConfigError: Such a knob is set, and the choice is another.
        """
        values: dict[str, Any] = {}
        for known in fields(self):
            selector, *_ = known.metadata.get("under") or ("",)
            if not selector or hasattr(self, selector):
                continue
            idle, is_set = is_idle(known, getattr(above, selector)), getattr(self, known.name) is not None
            if idle and is_set:
                raise ConfigError(
                    f"{self._spelling(known)} does nothing under {selector} {getattr(above, selector)!r}; leave it out"
                )
            if not idle and not is_set:
                values[known.name] = known.metadata["default"]
        return replace(self, **values) if values else self

    def _spelling(self, known: Field[Any]) -> str:
        return f"{self.table}.{spelling(known.name)}" if self.table else spelling(known.name)

    @classmethod
    def names(cls) -> dict[str, Field[Any]]:
        """Return the knobs by their spelling in files."""
        return {spelling(known.name): known for known in fields(cls) if known.metadata}

    @classmethod
    def read(cls, table: Mapping[str, Any], *, where: str = "", **tables: Any) -> Self:
        """Build from a raw mapping in file spelling; unknown names and wrong values are listed in one error.

        ``tables`` are fields that are no knobs, and have been read.
        """
        known = cls.names()
        unknown = sorted(set(table) - set(known))
        if unknown:
            raise ConfigError(f"unknown knob {', '.join(map(repr, unknown))}{where}; known: {', '.join(sorted(known))}")
        hints = get_type_hints(cls)
        own = {known[name].name: _coerce(value, hints[known[name].name]) for name, value in table.items()}
        return cls(**own, **tables)

    def write(self) -> dict[str, Value]:
        """Return the knobs in file spelling; knobs without a value are left out."""
        raw = {name: getattr(self, known.name) for name, known in self.names().items()}
        return {name: written(value) for name, value in raw.items() if value is not None}


def written(value: Any) -> Value:
    """Return a knob's value as files and Flower's run-config hold it: names joined by commas."""
    written: Value = ",".join(value) if isinstance(value, tuple) else value
    return written


def is_idle(known: Field[Any], chosen: Any) -> bool:
    """Whether a knob does nothing where the one that it stands under is ``chosen``."""
    return chosen not in known.metadata["under"][1:]


def _coerce(value: Any, wanted: Any) -> Any:
    """Read ``3`` as ``3.0`` where a float is wanted, and a list or comma-separated text where names are."""
    if wanted == tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not (isinstance(parts, list) and all(isinstance(part, str) for part in parts)):
            return value
        return tuple(part.strip() for part in parts if part.strip())
    if type(value) is int and float in (wanted, *getattr(wanted, "__args__", ())):
        return float(value) if abs(value) < sys.float_info.max else value
    return value


def _has_type(value: Any, wanted: Any) -> bool:
    if wanted == tuple[str, ...]:
        return isinstance(value, tuple) and all(isinstance(part, str) for part in value)
    kinds = getattr(wanted, "__args__", (wanted,))
    return type(value) in kinds  # exact: True is no number


def _wanted(known: Field[Any], hint: Any) -> str:
    return "a list of names" if hint == tuple[str, ...] else getattr(hint, "__name__", str(hint))


def required(value: T | None, name: str) -> T:
    """Return the value of a knob that stands under another's choice, for the code that the choice leads to.

    Raises:
        ConfigError: It has none: a user's own code took the choice without the knob.
    """
    if value is None:
        raise ConfigError(f"{name} is not set; a value is wanted where it is read")
    return value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    """Return a nested mapping with dotted names."""
    flat: dict[str, Value] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with dotted names as a nested one."""
    tree: dict[str, Any] = {}
    for dotted, value in flat.items():
        *path, name = dotted.split(".")
        level = tree
        for part in path:
            level = level.setdefault(part, {})
            if not isinstance(level, dict):
                raise ConfigError(f"{dotted!r} is set below {part!r}, which has a value itself")
        level[name] = value
    return tree
