"""Rounds as curves for TensorBoard: one event file, a point a round.

Written with TensorBoard's own record writer. Its usual ``SummaryWriter`` puts the machine's name into the file's, and
begins a new file at every resume, in which the points of a round that was not saved would stand twice.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

EVENTS = "events.out.tfevents"
_OF_A_CENTER = ("loss", "update_norm", "cosine", "seconds")


def scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield name and value of each curve's point in a line of ``rounds.jsonl``; what has no finite value has none.

    ``<task>/validation`` is the quality that chooses the round (segmentation: Dice; erosion: minus the log loss).
    Of each center whose update was valid: ``<task>-loss`` (of training, without the method's term), ``-update_norm``,
    ``-cosine`` (to the mean update, -1 to 1) and ``-seconds`` (of training).
    """
    task = record["task"]
    points = [(f"{task}/validation", record["quality"])]
    for center, told in record["centers"].items():
        points += [(f"{task}-{name}/{center}", told[name]) for name in _OF_A_CENTER]
    yield from ((name, float(value)) for name, value in points if value is not None and math.isfinite(value))


def append(folder: Path, record: Mapping[str, Any]) -> None:
    """Add the points of a line of ``rounds.jsonl``."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars(record)]
    event = Event(wall_time=time.time(), step=record["round"], summary=Summary(value=values))
    folder.mkdir(exist_ok=True)
    with (folder / EVENTS).open("ab") as file:
        _write(file, [event.SerializeToString()])


def keep_rounds(folder: Path, last: int) -> None:
    """Drop the points of rounds after ``last``, and what a kill cut short."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    if not (folder / EVENTS).exists():
        return
    events = RawEventFileLoader(str(folder / EVENTS)).Load()
    with (folder / "kept").open("wb") as file:
        _write(file, (event for event in events if Event.FromString(event).step <= last))
    (folder / "kept").replace(folder / EVENTS)


def _write(file: BinaryIO, events: Iterable[bytes]) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    writer = RecordWriter(file)
    for event in events:
        writer.write(event)
