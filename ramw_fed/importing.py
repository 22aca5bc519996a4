"""Names in a configuration to objects: a built-in table first, else the import path of a user's own."""

import importlib
from collections.abc import Mapping
from typing import TypeVar

from ramw_fed.errors import ConfigError

T = TypeVar("T")


def load_named(name: str, built_in: Mapping[str, T], wanted: type[T], *, kind: str) -> T:
    """Return ``built_in[name]``, or the object at the import path ``package.file:NAME``.

    Raises:
        ConfigError: Neither exists, or the object is not a ``wanted``.
    """
    if name in built_in:
        return built_in[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        known = ", ".join(sorted(built_in))
        raise ConfigError(f"{kind} {name!r} is not one of {known}; a {kind} of your own is named package.file:NAME")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a user's own module may raise anything while it is read
        raise ConfigError(f"{kind} {name!r} cannot be imported here: {type(error).__name__}: {error}") from error
    if not isinstance(found, wanted):
        raise ConfigError(f"{name!r} is a {type(found).__name__}; a {wanted.__name__} is wanted")
    return found
