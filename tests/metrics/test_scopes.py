import pytest

from ramw_fed.metrics.estimate import Estimate, NotEstimable
from ramw_fed.metrics.scopes import macro, tree
from ramw_fed.statistics.intervals import Interval


def entry(value, ci=None, n=10, **more):
    return {"value": value, "ci": ci, "n": n} | more


def missing(n=0):
    return {"value": None, "ci": None, "n": n, "reason": "no scored joints"}


def test_an_estimate_says_no_more_than_there_is_to_say():
    ci = Interval(low=0.1, high=0.3)
    assert Estimate(value=0.2, interval=ci, n=7).as_dict() == {"value": 0.2, "ci": [0.1, 0.3], "n": 7}
    assert Estimate(value=0.2, n=4).as_dict() == {"value": 0.2, "ci": None, "n": 4}
    assert Estimate(value=NotEstimable("why"), n=3).as_dict() == {"value": None, "ci": None, "n": 3, "reason": "why"}
    assert Estimate(value=0.2, interval=Interval(low=0.1, high=0.3, redrawn=9), n=7).as_dict()["redrawn"] == 9


def test_macro_is_the_mean_of_the_centers_values():
    # the mean of 0..9 from ten centers of equal size is 4.5
    scopes = {f"{k}": {"dsc": entry(float(k))} for k in range(10)}
    assert macro(scopes)["dsc"]["value"] == 4.5
    assert macro(scopes)["dsc"]["n"] == 100


def test_macro_leaves_a_center_without_a_value_out_and_counts_it():
    found = macro({"A": {"auroc": entry(0.8, n=6)}, "B": {"auroc": missing(3)}, "C": {"auroc": entry(0.6, n=9)}})
    assert found["auroc"] == entry(pytest.approx(0.7), n=15, left_out=1)


def test_macro_without_any_value_says_why():
    found = macro({"A": {"auroc": missing(2)}, "B": {"auroc": missing(3)}})["auroc"]
    assert (found["value"], found["n"]) == (None, 5)
    assert "no scored joints" in found["reason"]


def test_macro_has_an_interval_where_every_value_has_one():
    some = {"A": {"dsc": entry(0.8, [0.77, 0.84], 1000)}, "B": {"dsc": entry(0.6, [0.56, 0.63], 1000)}}
    assert macro(some)["dsc"]["ci"] == [pytest.approx(0.675, abs=1e-4), pytest.approx(0.725, abs=1e-4)]
    assert macro(some | {"C": {"dsc": entry(0.7, None, 3)}})["dsc"]["ci"] is None
    assert macro(some | {"C": {"dsc": missing()}})["dsc"]["ci"] is not None


def test_macro_goes_through_every_name_below():
    scopes = {name: {"by": {"bone": {"Lunate": {"dsc": entry(value)}}}} for name, value in (("B", 1.0), ("A", 0.5))}
    assert macro(scopes)["by"]["bone"]["Lunate"]["dsc"]["value"] == 0.75


def test_centers_of_a_tree_are_sorted():
    whole = tree({"dsc": entry(0.7)}, {"B": {"dsc": entry(0.6)}, "A": {"dsc": entry(0.8)}})
    assert list(whole) == ["pooled", "macro", "centers"]
    assert list(whole["centers"]) == ["A", "B"]
