"""What centers that this machine simulates say of an error: here no border is crossed, so each text is shown, once."""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ramw_fed.errors import RamwFedError

_CENTERS = logging.getLogger("ramw_fed.center")


@dataclass(frozen=True)
class Words:
    """An error as the center's own log has it; travels from a worker process.

    Attributes:
        opaque: The number that the coordinator was told.
        text: Kind and text of the error.
        trace: Where it happened.
    """

    opaque: str
    text: str
    trace: str


class ShownOnce:
    """Logs each text once: six centers mostly fail for one reason. The traceback comes at the level of debugging."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, words: Words) -> None:
        """Log the words unless their text was."""
        if words.text in self._known:
            return
        self._known.add(words.text)
        trace = f"\n{words.trace}" if _CENTERS.isEnabledFor(logging.DEBUG) else ""
        _CENTERS.error("%s: a center says: %s%s", words.opaque, words.text, trace)


@contextmanager
def centers_tell(listener: Callable[[Words], None]) -> Iterator[None]:
    """Give the errors that centers in this process log to ``listener`` instead."""

    def take(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        kind = error.code if isinstance(error, RamwFedError) else type(error).__name__
        trace = "".join(traceback.format_exception(error)).rstrip()
        listener(Words(record.getMessage().partition(":")[0], f"{kind}: {error}", trace))
        return False

    _CENTERS.addFilter(take)
    try:
        yield
    finally:
        _CENTERS.removeFilter(take)
