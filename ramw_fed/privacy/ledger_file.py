"""A file that can only grow: lines of JSON, each with the hash of the one before it, and beside it its head.

```
<name>.jsonl   a line an entry; number, time, content, "previous" and "sha256", which is of all the rest of the line
<name>.head    number and hash of the last entry
lock           held by whoever reads or writes one of the folder's files
```

Each append writes the whole file anew, to a temporary file that takes the old one's place, and then the head: after a
kill the file is the old one or the new one, and at most ahead of its head, which is then set right. A file that is
*behind* its head was cut off, or is an older copy. The chain shows accidents and careless edits, not someone who may
write both files and recomputes every hash: against that a coordinator holds a :class:`Witness`.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ramw_fed.errors import LedgerError
from ramw_fed.learning.weights_file import sync_folder

Line = Mapping[str, Any]

SUFFIX = ".jsonl"
HEAD = ".head"
_LOCK = "lock"

# Where a process can die inside of an append, in order.
POINTS = tuple(
    f"{file} {step}" for file in ("ledger", "head") for step in ("opened", "written", "synced", "renamed", "lasting")
)


def _point(name: str) -> None:
    """Do nothing; tests die here, at each of ``POINTS``."""


@dataclass(frozen=True)
class Witness:
    """What shows later that a ledger is not older than this, nor another one.

    Attributes:
        number: Of an entry; the header is 0.
        sha256: The hash that it bears.
    """

    number: int
    sha256: str


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process and thread out of ``folder`` for as long as this takes.

    Raises:
        LedgerError: The operating system refuses something inside: no room on the disk, no permission.
    """
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # the kernel lets go of it when the process dies
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LedgerError(
            f"a privacy ledger in {folder} cannot be read or written: {error.strerror or type(error).__name__}; "
            "nothing may leave this center until it can"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may read, and those above it, to last.

    Raises:
        LedgerError: The operating system refuses.
    """
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)
            sync_folder(one.parent)
    except OSError as error:
        raise LedgerError(
            f"the folder {folder} for privacy ledgers cannot be made: {error.strerror or type(error).__name__}; mend "
            "that, or name another one"
        ) from error


def linked(lines: Sequence[Line], body: Line) -> tuple[Line, ...]:
    """Return the lines with ``body`` as one more entry, at the present time."""
    previous = lines[-1]["sha256"] if lines else ""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {**body, "number": len(lines), "time": time, "previous": previous}
    return (*lines, {**entry, "sha256": _hash(entry)})


def write_chain(path: Path, lines: Sequence[Line]) -> Witness:
    """Put the lines in the place of the file's, then its head; both last when this returns. Wants the lock."""
    # A new file's head comes first: where only the head is left, a file was lost.
    if not path.exists():
        _replace(path.with_suffix(HEAD), _head_of(lines[0]), "head")
    _replace(path, b"".join(_canonical(line) + b"\n" for line in lines), "ledger")
    _replace(path.with_suffix(HEAD), _head_of(lines[-1]), "head")
    return Witness(lines[-1]["number"], lines[-1]["sha256"])


def read_chain(path: Path) -> tuple[Line, ...]:
    """Return the lines of a file that nobody altered. Wants the lock, because a head that is behind is set right.

    Raises:
        LedgerError: A byte is other than it was written, lines are missing, or the file is older than its head.
    """
    try:
        lines = parse_chain(path.read_bytes())
        head = read_head(path)
        if head.number >= len(lines):
            raise ValueError(f"it ends at entry {len(lines) - 1}, its head knows entry {head.number}: it is older")
        if lines[head.number]["sha256"] != head.sha256:
            raise ValueError(f"entry {head.number} is not the one that its head knows")
    except FileNotFoundError as error:
        raise LedgerError(
            f"the privacy ledger {path} is gone; put it and {path.stem}{HEAD} back from the latest copy of both"
        ) from error
    except ValueError as error:
        raise LedgerError(
            f"the privacy ledger {path} was altered or cut off: {error}; put {path.name} and {path.stem}{HEAD} back "
            "from the latest copy of both. Do not make a new one: what was spent stays spent"
        ) from error
    if head.number < len(lines) - 1:  # killed between the two writes: what the file has more was never less spent
        _replace(path.with_suffix(HEAD), _head_of(lines[-1]), "head")
    return lines


def parse_chain(content: bytes) -> tuple[Line, ...]:
    """Return the lines of a file's content.

    Raises:
        ValueError: It is not what ``write_chain`` wrote.
    """
    *texts, rest = content.split(b"\n")
    if rest or not texts:
        raise ValueError("its last line is not whole" if rest else "it is empty")
    lines: list[Line] = []
    for number, text in enumerate(texts):
        try:
            line = json.loads(text)
            entry = {name: value for name, value in line.items() if name != "sha256"}
            is_whole = _canonical(line) == text and line["sha256"] == _hash(entry)
            is_next = line["number"] == number and line["previous"] == (lines[-1]["sha256"] if lines else "")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"entry {number} cannot be read") from error
        if not is_whole:
            raise ValueError(f"entry {number} is not as it was written")
        if not is_next:
            raise ValueError(f"entry {number} does not follow the one before it")
        lines.append(line)
    return tuple(lines)


def read_head(path: Path) -> Witness:
    """Return what the head beside ``path`` says.

    Raises:
        ValueError: It is missing, or is not what ``write_chain`` wrote.
    """
    try:
        content = path.with_suffix(HEAD).read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{path.stem}{HEAD} is missing") from error
    try:
        raw = json.loads(content)
        head = Witness(raw["number"], raw["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.stem}{HEAD} cannot be read") from error
    if type(head.number) is not int or head.number < 0 or content != _head_of(raw):
        raise ValueError(f"{path.stem}{HEAD} is not as it was written")
    return head


def _head_of(line: Line) -> bytes:
    return _canonical({"number": line["number"], "sha256": line["sha256"]}) + b"\n"


def _replace(path: Path, content: bytes, what: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.unlink(missing_ok=True)  # of a process that died
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            _point(f"{what} opened")
            file.write(content)
            file.flush()
            _point(f"{what} written")
            os.fsync(file.fileno())
            _point(f"{what} synced")
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _point(f"{what} renamed")
    sync_folder(path.parent)
    _point(f"{what} lasting")


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _hash(entry: Line) -> str:
    return hashlib.sha256(_canonical(entry)).hexdigest()
