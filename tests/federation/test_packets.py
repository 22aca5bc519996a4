import json
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch

from ramw_fed.errors import UpdateError
from ramw_fed.federation import packets
from ramw_fed.federation.packets import KEY, Packet, pack, pack_columns, shapes, unpack, unpack_columns

TENSORS = {"w": torch.tensor([1.5, -2.0]), "b.running_var": torch.ones(2, 3), "n": torch.tensor(7)}
PACKET = Packet(header={"center": "HU", "loss": 0.25, "list": [1, 2]}, tensors=TENSORS)


def test_a_packet_comes_back_as_it_went() -> None:
    back = unpack(pack(PACKET), expected=shapes(TENSORS))
    assert back.header == PACKET.header
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert back.tensors["n"].dtype == torch.int64


def test_equal_packets_are_equal_bytes_in_another_process_and_another_order() -> None:
    turned = Packet(header=dict(reversed(PACKET.header.items())), tensors=dict(reversed(TENSORS.items())))
    assert pack(turned) == pack(PACKET)
    program = (
        "import torch, sys; from ramw_fed.federation.packets import *;"
        "t = {'w': torch.tensor([1.5, -2.0]), 'b.running_var': torch.ones(2, 3), 'n': torch.tensor(7)};"
        "sys.stdout.buffer.write(pack(Packet(header={'list': [1, 2], 'loss': .25, 'center': 'HU'}, tensors=t)))"
    )
    for seed in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        assert answer.stdout == pack(PACKET)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"w": torch.zeros(2)}, "'n' is missing"),
        (TENSORS | {"more": torch.zeros(1)}, "'more' is unknown"),
        (TENSORS | {"w": torch.zeros(3)}, r"'w' is float32 of \(3,\)"),
        (TENSORS | {"w": torch.zeros(2, dtype=torch.float64)}, "'w' is float64"),
        (TENSORS | {"w": torch.zeros(2, dtype=torch.float16)}, "'w' is float16"),
        (TENSORS | {"n": torch.tensor(7.0)}, "'n' is float32"),
    ],
)
def test_other_tensors_than_expected_are_named(tensors: dict[str, torch.Tensor], told: str) -> None:
    with pytest.raises(UpdateError, match=told):
        unpack(pack(Packet(header={}, tensors=tensors)), expected=shapes(TENSORS))


GOOD = pack(PACKET)
LENGTH = int.from_bytes(GOOD[:8], "little")


def _with_contents(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + GOOD[8 + LENGTH :]


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x80\x04\x95pickled",
        b"PK\x03\x04 a torch zip",
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O'}",
        GOOD[:-1],
        GOOD + b"x",
        GOOD[:20],
        (1 << 60).to_bytes(8, "little") + GOOD[8:],
        _with_contents(b"[]"),
        _with_contents(b"[" * 100_000),
        _with_contents(GOOD[8 : 8 + LENGTH].replace(b'"w"', b'"n"')),
        _with_contents(GOOD[8 : 8 + LENGTH].replace(b"[0,8]", b"[0,9]")),
        safetensors.torch.save(TENSORS),
        safetensors.torch.save(TENSORS, metadata={KEY: "{}", "other": "1"}),
        safetensors.torch.save(TENSORS, metadata={KEY: "[]"}),
        safetensors.torch.save(TENSORS, metadata={KEY: '{"a": 1, "a": 2}'}),
    ],
    ids=range(16),
)
def test_what_is_no_packet_is_refused_and_never_run(blob: bytes) -> None:
    with pytest.raises(UpdateError):
        unpack(blob)


def test_a_packet_over_the_cap_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "MAX_BYTES", len(GOOD) - 1)
    with pytest.raises(UpdateError, match="at most"):
        unpack(GOOD)


def test_a_table_keeps_texts_numbers_and_truth_values() -> None:
    columns = {
        "center": np.array(["HU", "FA"]),
        "dsc": np.array([[0.5, np.nan], [0.25, 1.0]]),
        "score": np.array([3, 0]),
        "missing": np.array([True, False]),
    }
    back = unpack_columns(unpack(pack(pack_columns(columns))))
    assert list(back) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(back[name], column)
        assert back[name].dtype == column.dtype


def test_an_empty_table_keeps_its_columns() -> None:
    columns = {"center": np.array([], np.str_), "dsc": np.zeros((0, 14))}
    back = unpack_columns(unpack(pack(pack_columns(columns))))
    assert back["center"].shape == (0,)
    assert back["dsc"].shape == (0, 14)


def test_a_table_of_ragged_columns_is_refused() -> None:
    packet = pack_columns({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(UpdateError, match="length"):
        unpack_columns(packet)
    with pytest.raises(UpdateError, match="no table"):
        unpack_columns(Packet(header={"columns": ["x"], "texts": {}}, tensors={}))


def test_the_only_metadata_is_one_line_of_sorted_json() -> None:
    contents = json.loads(GOOD[8 : 8 + LENGTH])
    assert contents["__metadata__"] == {KEY: '{"center": "HU", "list": [1, 2], "loss": 0.25}'}
