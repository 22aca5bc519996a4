"""What travels between coordinator and centers: the only place that knows the keys of Flower's records.

Down goes an ``Order`` with the run's whole configuration; up comes one packet (``packets.py``), or an error of a code
and a number without a meaning. Texts of errors stay at the center: they may hold a path or a name.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Literal

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from torch import Tensor

from ramw_fed.center import Enrolment, Update
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.cohort import Description
from ramw_fed.data.radiograph import SPLITS, Split
from ramw_fed.errors import StateError, UpdateError
from ramw_fed.federation.packets import Packet, Shape, is_number, pack, pack_columns, unpack, unpack_columns
from ramw_fed.knobs import nest
from ramw_fed.privacy.account import Charge
from ramw_fed.privacy.accounting import Epsilons
from ramw_fed.privacy.ledger_file import Witness
from ramw_fed.tasks.task import Sums, Table

Purpose = Literal["enrol", "train", "validate", "measure"]
MESSAGE_TYPES: Mapping[Purpose, str] = {
    "enrol": "query",
    "train": "train",
    "validate": "evaluate.validate",
    "measure": "evaluate.measure",
}

# No center has more of anything that is counted, and no name is longer.
MOST = 10_000_000
_LONGEST_NAME = 100

_RUN = "[0-9a-f]{16}"

_ORDER, _CONFIG, _ANSWER, _PACKET, _START = "order", "config", "answer", "packet", "start"
# Flower's own numbers for errors end at 8.
_REFUSED = 100


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What an answer repeats, so that it can belong to one question only.

    Attributes:
        run: Opaque name of the run.
        purpose: What is asked.
        task: Name of the task; empty for an enrolment, which is for all.
        round: Round, counted from 1; 0 before the first.
        base: SHA-256 of the packet of weights that the answer starts from; empty without weights.
        nonce: Opaque, never used twice.
        own: Round after which the center's own tensors stood that belong to these weights; 0: those that came along.
    """

    run: str
    purpose: Purpose
    task: str
    round: int
    base: str
    nonce: str
    own: int = 0


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the coordinator asks of one center.

    Attributes:
        ticket: Names the question.
        config: The run's configuration, checked again where it arrives.
        split: Which images to measure.
        weights: To start from, or to evaluate; empty for an enrolment.
        best_own: Round of the center's own tensors that belong to the best weights so far; 0 for none.
        witness: The last entry of the center's privacy ledger that the coordinator was told of; None for none.
    """

    ticket: Ticket
    config: RunConfig
    split: Split = "val"
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    best_own: int = 0
    witness: Witness | None = None


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What a center says of itself before the first round.

    Attributes:
        center: Name.
        centers: All centers of the cohort where one machine simulates them; empty at a center that stands for itself.
        cohort: Hash of the cohort.
        description: What the images show.
        versions: Distribution name to version.
        enrolments: Task to what there is to train it; none at a center of a single patient, which cannot join.
        left_out: How many radiographs its reader left out, by reason.
    """

    center: str
    centers: tuple[str, ...]
    cohort: str
    description: Description
    versions: Mapping[str, str]
    enrolments: Mapping[str, Enrolment]
    left_out: Mapping[str, int]


def refuse_no_run(name: str) -> None:
    """Refuse a name from another machine that would name a folder here, and is none of a run.

    Raises:
        StateError: With the name.
    """
    if not re.fullmatch(_RUN, name):
        raise StateError(f"{name[:40]!r} is no name of a run: 16 hexadecimal digits are wanted")


def pack_weights(weights: Mapping[str, Tensor]) -> bytes:
    """Return the packet in which weights go to the centers; packed once for all of them."""
    return pack(Packet(header={}, tensors=weights))


def fingerprint(blob: bytes) -> str:
    """Return the SHA-256 of packed weights."""
    return hashlib.sha256(blob).hexdigest()


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights as they are packed."""
    return fingerprint(pack_weights(weights))


def weights_record(packed: Mapping[str, bytes]) -> ArrayRecord:
    """Return the packed weights of several tasks as Flower's strategies pass them on."""
    return ArrayRecord({task: _array(blob) for task, blob in packed.items()})


def read_weights_record(record: ArrayRecord) -> dict[str, bytes]:
    """Return what ``weights_record`` was made of."""
    return {task: array.data for task, array in record.items()}


def order_content(
    ticket: Ticket,
    config: RunConfig,
    *,
    split: Split = "val",
    packed: bytes = b"",
    own_start: bytes = b"",
    best_own: int = 0,
    witness: Witness | None = None,
) -> RecordDict:
    """Return an order's content; ``packed`` and ``own_start`` are weights from ``pack_weights``."""
    text = json.dumps(asdict(ticket), sort_keys=True)
    seen = json.dumps(asdict(witness)) if witness else ""
    order = ConfigRecord({"ticket": text, "split": split, "best-own": best_own, "witness": seen})
    content = RecordDict({_ORDER: order, _CONFIG: ConfigRecord(dict(config.flat()))})
    blobs = {_PACKET: packed, _START: own_start}
    if packed:
        content[_PACKET] = ArrayRecord({name: _array(blob) for name, blob in blobs.items() if blob})
    return content


def read_order(message: Message) -> Order:
    """Return what a center is asked, its configuration resolved and range-checked anew.

    Raises:
        ConfigError: A knob is unknown or out of range.
        UpdateError: The message is no order, or its weights cannot be read.
    """
    try:
        order, config = message.content.config_records[_ORDER], message.content.config_records[_CONFIG]
        ticket = _checked(Ticket(**json.loads(str(order["ticket"]))))
        split: Any = order["split"]
        if split not in SPLITS:
            raise ValueError("no such split")
        best_own = _count(order["best-own"], "best-own")
        seen = str(order["witness"])
        witness = Witness(**json.loads(seen)) if seen else None
    except (KeyError, TypeError, ValueError) as error:
        raise UpdateError(f"the message is no order: {error}; coordinator and center must run one version") from error
    weights: dict[str, Tensor] = {}
    for blob in (_read_blob(message.content, _PACKET), _read_blob(message.content, _START)):
        weights |= unpack(blob).tensors if blob else {}
    if ticket.base != (fingerprint(packed) if (packed := _read_blob(message.content, _PACKET)) else ""):
        raise UpdateError("the weights are not those that the order names; coordinator and center must run one version")
    resolved = _resolve(json.dumps(dict(config), sort_keys=True))
    return Order(ticket=ticket, config=resolved, split=split, weights=weights, best_own=best_own, witness=witness)


def _checked(ticket: Ticket) -> Ticket:
    """Return a ticket whose parts may name files and rounds."""
    _count(ticket.round, "round")
    _count(ticket.own, "own")
    patterns = {"run": _RUN, "nonce": "[0-9a-f]{32}", "base": "([0-9a-f]{64})?"}
    for name, pattern in patterns.items():
        if not re.fullmatch(pattern, str(getattr(ticket, name))):
            raise ValueError(f"{name} is not {pattern}")
    if ticket.purpose not in MESSAGE_TYPES:
        raise ValueError("no such purpose")
    return ticket


@lru_cache(maxsize=8)
def _resolve(flat: str) -> RunConfig:
    """Check a configuration once a process: it is the same in all messages of a run, and checking takes longest."""
    return resolve(nest(json.loads(flat)))


def registration_answer(message: Message, order: Order, registration: Registration) -> Message:
    """Return a center's answer to an enrolment."""
    raw = {
        "center": registration.center,
        "centers": list(registration.centers),
        "cohort": registration.cohort,
        "description": registration.description.to_dict(),
        "versions": dict(registration.versions),
        "enrolments": {task: asdict(enrolment) for task, enrolment in registration.enrolments.items()},
        "left_out": dict(registration.left_out),
    }
    return _answer(message, order, Packet(header=raw, tensors={}))


def pack_update(update: Update) -> bytes:
    """Return an update's bytes, which are all that leaves of it."""
    raw = {name: getattr(update, name) for name in _UPDATE_FACTS}
    raw["charge"] = update.charge and asdict(update.charge)
    return pack(Packet(header=raw, tensors=update.weights))


def update_answer(message: Message, order: Order, packed: bytes) -> Message:
    """Return a center's answer to a round of training, from ``pack_update``."""
    return _packed_answer(message, order, packed)


def pack_sums(center: str, sums: Sums, charge: Charge | None = None) -> bytes:
    """Return a validation's bytes; ``charge`` where it was paid for."""
    told = {"charge": asdict(charge)} if charge else {}
    return pack(Packet(header={"center": center, "sums": dict(sums), **told}, tensors={}))


def sums_answer(message: Message, order: Order, packed: bytes) -> Message:
    """Return a center's answer to a validation, from ``pack_sums``."""
    return _packed_answer(message, order, packed)


def table_answer(message: Message, order: Order, center: str, table: Table) -> Message:
    """Return a center's measurements row by row."""
    packet = pack_columns(table)
    return _answer(message, order, Packet(header={"center": center, **packet.header}, tensors=packet.tensors))


def summary_answer(message: Message, order: Order, center: str, summary: Mapping[str, Any]) -> Message:
    """Return a center's measurements summarised by itself: its values stay where they are."""
    return _answer(message, order, Packet(header={"center": center, "summary": dict(summary)}, tensors={}))


def refusal(message: Message, code: str, opaque: str) -> Message:
    """Return the answer of a center that could not: a code and a number under which its own log has the text."""
    return Message(Error(code=_REFUSED, reason=f"{code} {opaque}"), reply_to=message)


def refusal_text(message: Message) -> str:
    """Return why a message is an error, in words that may be shown."""
    if message.error.code == _REFUSED:
        code, _, opaque = (message.error.reason or "").partition(" ")
        return f"{code[:24]} (the center's log has the text under {opaque[:24]})"
    return f"Flower's error {message.error.code}: the center could not be reached, or its process ended"


def read_ticket(message: Message) -> Ticket:
    """Return the question to which a message says it is the answer.

    Raises:
        UpdateError: It says none.
    """
    try:
        return Ticket(**json.loads(str(message.content.config_records[_ANSWER]["ticket"])))
    except (KeyError, TypeError, ValueError) as error:
        raise UpdateError("the answer does not say to which question it belongs") from error


def read_registration(message: Message) -> Registration:
    """Return a center's answer to an enrolment.

    Raises:
        UpdateError: It is none.
    """
    header = unpack(_read_blob(message.content, _ANSWER), expected={}).header
    try:
        enrolments = {_name(task): _enrolment(raw) for task, raw in header["enrolments"].items()}
        return Registration(
            center=_name(header["center"]),
            centers=tuple(map(_name, header["centers"])),
            cohort=_name(header["cohort"]),
            description=Description.from_dict(header["description"]),
            versions={_name(name): _name(version) for name, version in header["versions"].items()},
            enrolments=enrolments,
            left_out={_name(reason): _count(number) for reason, number in header["left_out"].items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UpdateError(f"the answer is no registration: {error}") from error


def read_update(message: Message, expected: Mapping[str, Shape]) -> Update:
    """Return a center's answer to a round of training; its tensors are those ``expected``.

    Raises:
        UpdateError: It is none, or a fact in it has a wrong type.
    """
    packet = unpack(_read_blob(message.content, _ANSWER), expected=expected)
    facts = packet.header
    if set(facts) != set(_UPDATE_FACTS):
        raise UpdateError(f"the update's facts are not {', '.join(_UPDATE_FACTS)}")
    charge = _charge(facts["charge"])
    for name in ("center", "device"):
        _name(facts[name])
    for name in ("examples", "steps", "worker"):
        _count(facts[name], name)
    for name in ("loss", "squared_drift", "seconds"):
        # The loss of patients who are protected is not told.
        if not is_number(facts[name]) and not (name == "loss" and charge and facts[name] is None):
            raise UpdateError(f"{name} is {str(facts[name])[:40]!r}; a finite number is wanted")
    return Update(weights=dict(packet.tensors), **{**facts, "charge": charge})


def read_sums(message: Message) -> tuple[str, dict[str, float], Charge | None]:
    """Return center, sums and charge of its answer to a validation; no charge where nothing was paid for.

    Raises:
        UpdateError: It is none, a sum is not finite, or the charge cannot be read.
    """
    header = unpack(_read_blob(message.content, _ANSWER), expected={}).header
    sums = header.get("sums")
    if not isinstance(sums, dict) or not all(is_number(value) for value in sums.values()):
        raise UpdateError("the answer holds no sums of finite numbers")
    found = {name: float(value) for name, value in sums.items()}
    return str(header.get("center")), found, _charge(header.get("charge"))


def read_measurement(message: Message) -> tuple[str, Table | None, Mapping[str, Any] | None]:
    """Return (center, its table or None, its summary or None).

    Raises:
        UpdateError: It is no answer to a measurement.
    """
    packet = unpack(_read_blob(message.content, _ANSWER))
    if "summary" in packet.header:
        return str(packet.header.get("center")), None, packet.header["summary"]
    return str(packet.header.get("center")), unpack_columns(packet), None


_UPDATE_FACTS = ("center", "charge", "device", "examples", "loss", "seconds", "squared_drift", "steps", "worker")


def _charge(raw: Any) -> Charge | None:
    """Return what an answer says of its privacy; None where it says that there is none."""
    if raw is None:
        return None
    try:
        numbers = (*(raw[name] for name in _CHARGE_NUMBERS), *raw["epsilon"].values())
        if not all(is_number(value) and value >= 0 for value in numbers) or type(raw["is_seeded"]) is not bool:
            raise ValueError("a number is none, or negative")
        witness = Witness(_count(raw["witness"]["number"]), _name(raw["witness"]["sha256"]))
        counts = {name: _count(raw[name], name) for name in ("patients", "steps")}
        return Charge(**{**raw, **counts, "epsilon": Epsilons(**raw["epsilon"]), "witness": witness})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UpdateError(f"the charge cannot be read: {error}") from error


_CHARGE_NUMBERS = ("sampling_rate", "noise_multiplier", "delta", "spent", "cap")


def _answer(message: Message, order: Order, packet: Packet) -> Message:
    return _packed_answer(message, order, pack(packet))


def _packed_answer(message: Message, order: Order, packed: bytes) -> Message:
    ticket = ConfigRecord({"ticket": json.dumps(asdict(order.ticket), sort_keys=True)})
    blob = ArrayRecord({_ANSWER: _array(packed)})
    return Message(RecordDict({_ANSWER: ticket, _PACKET: blob}), reply_to=message)


def _array(blob: bytes) -> Array:
    return Array(dtype="uint8", shape=(len(blob),), stype="safetensors", data=blob)


def _read_blob(content: RecordDict, key: str) -> bytes:
    """Return the packet under ``key``; no bytes where there is none."""
    records = content.array_records
    return records[_PACKET][key].data if _PACKET in records and key in records[_PACKET] else b""


def _count(value: Any, name: str = "a count") -> int:
    if type(value) is not int or not 0 <= value <= MOST:
        raise UpdateError(f"{name} is no whole number from 0 to {MOST}")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not value.isprintable():
        raise UpdateError(f"{str(value)[:40]!r} is no name: at most {_LONGEST_NAME} printable characters are wanted")
    return value


def _enrolment(raw: Mapping[str, Any]) -> Enrolment:
    numbers = {name: _count(raw[name], name) for name in ("patients", "examples", "validation", "test")}
    counts = {_name(name): _count(number, "a class") for name, number in raw["counts"].items()}
    enrolment = Enrolment(**numbers, counts=counts)
    if enrolment.patients > enrolment.examples:
        raise UpdateError("more patients than examples are registered")
    if counts and sum(counts.values()) != enrolment.examples:
        raise UpdateError("the classes do not add up to the examples that are registered")
    return enrolment
