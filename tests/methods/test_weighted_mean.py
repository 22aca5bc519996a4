"""Aggregation: hand-worked means, order, types."""

import torch
from torch import Tensor

from ramw_fed.methods import METHODS, get_method, weighted_mean


def one(*values: float, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {"w": torch.tensor(values, dtype=dtype)}


def test_the_mean_weighs_centers_by_their_shares() -> None:
    # Fed-BioMed's vectors (oracle 3.5), weights .2, .2, .6.
    ends = {"a": one(3, 8, 8, 3, 1), "b": one(0.4, 1.6, 2, 1, 0.1), "c": one(2, 5, 5, 3, 1)}
    mean = weighted_mean(one(0, 0, 0, 0, 0), ends, {"a": 0.2, "b": 0.2, "c": 0.6})
    torch.testing.assert_close(mean["w"], torch.tensor([1.88, 4.92, 5.0, 2.6, 0.82]))


def test_shares_are_scaled_to_one_over_the_centers_that_answered() -> None:
    # 1 and 3 with 10 and 30 patients: (10 + 90) / 40 = 2.5; the third center's 1000 patients did not answer.
    mean = weighted_mean(one(7), {"a": one(1), "b": one(3)}, {"a": 10, "b": 30, "c": 1000})
    assert mean["w"].item() == 2.5


def test_the_order_of_centers_changes_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    names = ["f", "b", "e", "a", "d", "c"]
    ends = {name: {"w": torch.randn(1000, generator=generator)} for name in names}
    shares = {name: float(place + 1) / 7 for place, name in enumerate(names)}
    start = {"w": torch.randn(1000, generator=generator) * 1e3}
    forward = weighted_mean(start, ends, shares)
    backward = weighted_mean(start, dict(reversed(ends.items())), shares)
    by_name = weighted_mean(start, {name: ends[name] for name in sorted(ends)}, shares)
    # In float64 before the cast to float32 an order would mostly be lost in rounding: look at float64 weights too.
    assert torch.equal(forward["w"], backward["w"])
    wide = [
        weighted_mean({"w": start["w"].double()}, {name: {"w": ends[name]["w"].double()} for name in order}, shares)[
            "w"
        ]
        for order in (names, names[::-1], sorted(names))
    ]
    assert torch.equal(wide[0], wide[1])
    assert torch.equal(wide[0], wide[2])
    assert torch.equal(forward["w"], by_name["w"])


def test_integer_buffers_keep_their_type_and_take_the_largest_value() -> None:
    ends = {"a": {"n": torch.tensor(10)}, "b": {"n": torch.tensor(13)}}
    mean = weighted_mean({"n": torch.tensor(3)}, ends, {"a": 5, "b": 1})
    assert mean["n"].dtype == torch.int64
    assert mean["n"].item() == 13


def test_the_mean_of_one_center_is_that_center_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(1)
    start, end = ({"w": torch.randn(10_000, generator=generator)} for _ in range(2))
    assert torch.equal(weighted_mean(start, {"a": end}, {"a": 3})["w"], end["w"])


def test_half_precision_weights_are_added_in_double_and_stay_half() -> None:
    # The change, 120000, is beyond the largest half (65504); all three points are halves.
    ends = {"a": one(60000.0, dtype=torch.float16), "b": one(60000.0, dtype=torch.float16)}
    mean = weighted_mean(one(-60000.0, dtype=torch.float16), ends, {"a": 1, "b": 1})
    assert mean["w"].dtype == torch.float16
    assert mean["w"].tolist() == [60000.0]


def test_every_built_in_method_is_found_by_its_name() -> None:
    for name, method in METHODS.items():
        assert get_method(name) is method
        assert method.name == name


def test_the_mean_of_one_center_is_its_weights_to_the_bit() -> None:
    # In float64 1 + (1.2345678e-10 - 1) is another number.
    start, end = {"w": torch.tensor([1.0])}, {"w": torch.tensor([1.2345678e-10])}
    assert torch.equal(weighted_mean(start, {"HU": end}, {"HU": 3.0})["w"], end["w"])
