"""A packet: tensors and one line of JSON as one run of safetensors bytes. Nothing else ever crosses a center's border.

The format cannot carry code. One metadata key with one sorted JSON text keeps equal contents equal bytes, also between
processes; columns of text travel in the JSON, numbers as tensors.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from ramw_fed.errors import UpdateError

KEY = "ramw-fed"
MAX_BYTES = 1 << 30
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}
_DTYPES |= {"I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}


@dataclass(frozen=True, kw_only=True)
class Packet:
    """Tensors by name, with what they are.

    Attributes:
        header: Texts, numbers, truth values, None, and lists and mappings of them.
        tensors: On the CPU.
    """

    header: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """What a packet's table of contents says of one tensor."""

    dtype: str
    size: tuple[int, ...]


def pack(packet: Packet) -> bytes:
    """Return the packet's bytes; equal packets give equal bytes."""
    header = json.dumps(packet.header, sort_keys=True)
    tensors = {name: packet.tensors[name].contiguous() for name in sorted(packet.tensors)}
    return safetensors.torch.save(_apart(tensors), metadata={KEY: header})


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory with an earlier one: safetensors refuses them."""
    places: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return apart


def unpack(blob: bytes, *, expected: Mapping[str, Shape] | None = None) -> Packet:
    """Return the packet in ``blob``; its table of contents is checked before any tensor is read.

    Args:
        blob: Bytes from another machine.
        expected: Exactly these tensors are wanted; None takes any.

    Raises:
        UpdateError: It is too large, no such packet, or holds other tensors than expected.
    """
    if len(blob) > MAX_BYTES:
        raise UpdateError(f"a packet of {len(blob)} bytes came; at most {MAX_BYTES} are read")
    contents = _read_contents(blob)
    header = _read_header(contents.pop("__metadata__", None))
    if expected is not None:
        _refuse_other_tensors({name: _shape(name, entry) for name, entry in contents.items()}, expected)
    try:
        return Packet(header=header, tensors=safetensors.torch.load(blob))
    except (SafetensorError, ValueError, KeyError) as error:
        raise UpdateError(f"the packet's tensors cannot be read: {error}") from error


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return type and size of each tensor."""
    return {
        name: Shape(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for name, tensor in tensors.items()
    }


def _read_contents(blob: bytes) -> dict[str, Any]:
    if len(blob) < 8 or (length := int.from_bytes(blob[:8], "little")) > len(blob) - 8:
        raise UpdateError("the packet is shorter than it says: truncated, or no safetensors")
    try:
        contents = json.loads(blob[8 : 8 + length], object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise UpdateError(f"the packet's table of contents cannot be read: {error}") from error
    if not isinstance(contents, dict):
        raise UpdateError("the packet's table of contents is no mapping")
    return contents


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _read_header(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, dict) or set(metadata) != {KEY} or not isinstance(metadata[KEY], str):
        raise UpdateError(f"the packet's only metadata must be {KEY!r}")
    try:
        header = json.loads(metadata[KEY], object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise UpdateError(f"the packet's header cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise UpdateError("the packet's header is no mapping")
    return header


def _shape(name: str, entry: Any) -> Shape:
    try:
        return Shape(_DTYPES.get(entry["dtype"], str(entry["dtype"])[:16]), tuple(entry["shape"][:16]))
    except (TypeError, KeyError) as error:
        raise UpdateError(f"tensor {name!r} has no type or size") from error


def _refuse_other_tensors(found: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> None:
    """List all that is missing, unknown, of another size or type; a name from outside is shown shortened."""
    faults = [f"{name!r} is missing" for name in sorted(set(wanted) - set(found))]
    faults += [f"{name[:80]!r} is unknown" for name in sorted(set(found) - set(wanted))]
    for name in sorted(set(found) & set(wanted)):
        if found[name] != wanted[name]:
            faults.append(
                f"{name!r} is {found[name].dtype} of {found[name].size}; "
                f"{wanted[name].dtype} of {wanted[name].size} is wanted"
            )
    if faults:
        more = f" and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise UpdateError("; ".join(faults[:8]) + more)


def pack_columns(columns: Mapping[str, NDArray[Any]]) -> Packet:
    """Return a table as a packet: numbers as tensors, texts in the header."""
    texts = {name: np.asarray(column).tolist() for name, column in columns.items() if _is_text(column)}
    numbers = {
        name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items() if name not in texts
    }
    return Packet(header={"texts": texts, "columns": list(columns)}, tensors=numbers)


def unpack_columns(packet: Packet) -> dict[str, NDArray[Any]]:
    """Return the table in the order in which its columns were packed.

    Raises:
        UpdateError: Columns are missing or differ in length.
    """
    try:
        texts, order = packet.header["texts"], packet.header["columns"]
        columns: dict[str, NDArray[Any]] = {
            name: np.array(texts[name], dtype=np.str_) if name in texts else packet.tensors[name].numpy()
            for name in order
        }
        lengths = {len(column) for column in columns.values()}
    except (KeyError, TypeError, ValueError) as error:
        raise UpdateError(f"the packet holds no table: {error}") from error
    if len(lengths) > 1:
        raise UpdateError(f"the table's columns differ in length: {sorted(lengths)}")
    return columns


def _is_text(column: NDArray[Any]) -> bool:
    kind = np.asarray(column).dtype.kind
    if kind not in "UOfiub":
        raise UpdateError(f"a column of kind {kind!r} cannot travel; texts, numbers and truth values can")
    return kind in "UO"


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite int or float, and no truth value."""
    return type(value) in (int, float) and math.isfinite(value)
