"""From TOML, overrides and Flower's run-config to a run's configuration: the only reader of raw mappings."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ramw_fed.config import TASK_CONFIGS, PhantomConfig, RunConfig, TrainingConfig
from ramw_fed.errors import ConfigError
from ramw_fed.knobs import Knobs, Value, is_idle, nest, spelling, written


def resolve(tree: Mapping[str, Any], overrides: Mapping[str, Any] = MappingProxyType({})) -> RunConfig:
    """Build a run's configuration from a raw nested mapping and dotted overrides.

    A knob of training on top counts for every task that knows it; a task's own table is stronger, and an override is
    stronger than both. A choice that an override makes (a method, a loss) drops the file's knobs of other choices.

    Raises:
        ConfigError: A name is unknown, a value out of range, or two cannot be combined.
    """
    above = nest(overrides)
    _refuse_noise_seed(tree, above)
    _refuse_values_for_tables(tree)
    _refuse_values_for_tables(above)
    top = _merge(RunConfig, _scalars(tree), _scalars(above))
    tables = sorted({*_tables(tree), *_tables(above)} - {"phantom"})
    own = {name: value for name, value in top.items() if name in RunConfig.names()}
    _refuse_strange_tables(tables, RunConfig.read({"tasks": own["tasks"]} if "tasks" in own else {}).tasks)
    shared = set(top) - set(own)
    trainings: dict[str, TrainingConfig] = {}
    for task in sorted({*TASK_CONFIGS, *tables}):
        kind = TASK_CONFIGS.get(task, TrainingConfig)
        file, over = (
            {name: value for name, value in _scalars(source).items() if name in kind.names()} | source.get(task, {})
            for source in (tree, above)
        )
        shared -= set(kind.names())
        trainings[task] = kind.read(_merge(kind, file, over, _scalars(above)), where=f" in [{task}]")
    if shared:
        all_known = {*RunConfig.names(), *(name for kind in TASK_CONFIGS.values() for name in kind.names())}
        raise ConfigError(f"unknown knob {', '.join(map(repr, sorted(shared)))}; known: {', '.join(sorted(all_known))}")
    phantom = PhantomConfig.read({**tree.get("phantom", {}), **above.get("phantom", {})}, where=" in [phantom]")
    others = {name: value for name, value in trainings.items() if name not in TASK_CONFIGS}
    built_in: dict[str, Any] = {name: trainings[name] for name in TASK_CONFIGS}
    return RunConfig.read(own, phantom=phantom, others=others, **built_in)


def _refuse_noise_seed(*trees: Mapping[str, Any]) -> None:
    if any("noise-seed" in one for tree in trees for one in (tree, *(tree[name] for name in _tables(tree)))):
        raise ConfigError(
            "noise-seed is no knob: noise and sampling of patients come from a cryptographic generator of each center, "
            "as noise that can be repeated protects nobody; seed decides initial weights and augmentation only"
        )


def _refuse_values_for_tables(tree: Mapping[str, Any]) -> None:
    wrong = [
        f"{name} is {tree[name]!r}; a table is wanted, as in [{name}] or {name}.key=value"
        for name in (*TASK_CONFIGS, "phantom")
        if name in tree and not isinstance(tree[name], Mapping)
    ]
    if wrong:
        raise ConfigError("; ".join(wrong))


def _refuse_strange_tables(tables: Sequence[str], tasks: Sequence[str]) -> None:
    """A user's own task may have a table, whose name only its code tells; more tables than such tasks are mistakes."""
    strange = [name for name in tables if name not in TASK_CONFIGS]
    if len(strange) <= sum(":" in task for task in tasks):
        return
    if "study" in strange:
        raise ConfigError("[study] is the table of a study, not of a run; give the file to `ramw-fed study`")
    known = (*TASK_CONFIGS, "phantom")
    near = difflib.get_close_matches(strange[0], known, n=1)
    raise ConfigError(
        f"unknown table {', '.join(f'[{name}]' for name in strange)}; did you mean {' or '.join(near or known)}? "
        "Another one is read only where tasks names a task of your own, package.file:NAME"
    )


def _merge(
    kind: type[Knobs], file: Mapping[str, Any], over: Mapping[str, Any], above: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Return ``over`` on top of ``file``, without the file's knobs that a choice in ``over``, or above, makes idle."""
    chosen = {**above, **over}

    def is_dropped(name: str) -> bool:
        known = kind.names().get(name)
        if known is None or not known.metadata["under"]:
            return False
        selector = spelling(known.metadata["under"][0])
        # A choice that stands under another one goes with it, and what stands under that choice too.
        return is_idle(known, chosen[selector]) if selector in chosen else is_dropped(selector)

    return {name: value for name, value in file.items() if not is_dropped(name)} | dict(over)


def _scalars(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if not isinstance(value, Mapping)}


def _tables(tree: Mapping[str, Any]) -> set[str]:
    return {name for name, value in tree.items() if isinstance(value, Mapping)}


def read_toml(path: Path) -> dict[str, Any]:
    """Return the file's tables.

    Raises:
        ConfigError: It is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"no configuration can be read at {path}; give the path of a TOML file such as simulations/demo.toml"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}") from error


def read_overrides(settings: list[str]) -> dict[str, Any]:
    """Read ``key=value`` texts; a value is TOML where it parses as such, else text."""
    overrides: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{setting!r} is no setting; write key=value, as in proximal-mu=0.1")
        try:
            overrides[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            overrides[name.strip()] = text.strip()
    return overrides


def declared_knobs() -> dict[str, Field[Any]]:
    """Return, by dotted name, the knobs that Flower's run-config declares; those without a default cannot be."""
    tables: dict[str, type[Knobs]] = {"": RunConfig, **TASK_CONFIGS, "phantom": PhantomConfig}
    return {
        f"{table}.{name}".removeprefix("."): known
        for table, kind in tables.items()
        for name, known in kind.names().items()
        if known.metadata["travels"] and known.metadata["default"] is not None
    }


def declaration() -> dict[str, Value]:
    """Return Flower's run-config: every knob at its default, also those that are idle under the default choices."""
    return {name: written(known.metadata["default"]) for name, known in declared_knobs().items()}


def read_declared(run_config: Mapping[str, Value]) -> RunConfig:
    """Resolve Flower's run-config; a knob under another's choice that stands at its default says nothing."""
    silent = {
        (name, written(one.metadata["default"])) for name, one in declared_knobs().items() if one.metadata["under"]
    }
    return resolve(nest({name: value for name, value in run_config.items() if (name, value) not in silent}))
