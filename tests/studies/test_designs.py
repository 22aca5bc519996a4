"""What each design asks for, counted by hand."""

from collections import Counter
from typing import Any

import pytest

from ramw_fed.studies import cross_site_matrix, dose_response, leave_one_center_out, matched_arms, scale_up
from ramw_fed.studies.config import Study
from ramw_fed.studies.training import Cell, Ground, Sites

# Center D has no labels to train on, but test patients; C trains and has none to test.
SITES = Sites(trainers={"segmentation": ("A", "B", "C")}, testers={"segmentation": ("A", "B", "D")})


def ground(sites: Sites = SITES, dose: str = "", **knobs: Any) -> Ground:
    own = {"methods": ["fedavg", "fedprox"], "seeds": 2, **{name.replace("_", "-"): it for name, it in knobs.items()}}
    study = Study.of("a", {"tasks": "segmentation", "study": own})
    folds = [""] if study.config.folds == 1 else [f"{part}/{study.config.folds}" for part in (1, 2, 3)]
    doses = [dose] if dose else ["", "0", "0.5", "1"]
    return Ground(study=study, sites={(fold, one): sites for fold in folds for one in doses})


def asked(cells: list[Cell]) -> Counter[tuple[str, str, str]]:
    """Count cells by arm, who trains and who tests; each comes once a seed."""
    return Counter((c.training.arm, "".join(c.training.centers), "".join(c.test_centers)) for c in cells)


def test_matched_arms_test_a_center_alone_at_itself_and_all_others_everywhere() -> None:
    assert asked(list(matched_arms.cells(ground()))) == {
        ("local", "A", "A"): 2,
        ("local", "B", "B"): 2,
        ("central", "ABC", "ABD"): 2,
        ("fedavg", "ABC", "ABD"): 2,
        ("fedprox", "ABC", "ABD"): 2,
    }


def test_the_matrix_tests_every_model_everywhere() -> None:
    found = asked(list(cross_site_matrix.cells(ground())))
    assert found == {
        **{("local", center, "ABD"): 2 for center in "ABC"},
        **{(arm, "ABC", "ABD"): 2 for arm in ("central", "fedavg", "fedprox")},
    }


def test_a_center_held_out_is_in_no_training_that_is_asked_for_it_but_as_the_member_it_is_compared_with() -> None:
    found = asked(list(leave_one_center_out.cells(ground())))
    outside = {("A", "BC"), ("B", "AC"), ("D", "ABC")}
    wanted = {(arm, others, held_out): 2 for held_out, others in outside for arm in ("fedavg", "fedprox", "central")}
    members = {(arm, "ABC", center): 2 for center in "AB" for arm in ("fedavg", "fedprox", "central")}
    assert found == wanted | members


def test_orders_of_entry_differ_are_permutations_and_end_with_all() -> None:
    orders = scale_up.entry_orders("ABCD", 5, seed=0)
    assert len(set(orders)) == 5
    assert all(sorted(order) == list("ABCD") for order in orders)
    assert orders == scale_up.entry_orders("DCBA", 5, seed=0)
    assert len(scale_up.entry_orders("AB", 5, seed=0)) == 2
    cells = list(scale_up.cells(ground(orders=2)))
    assert Counter(cell.label[0] for cell in cells) == {"2": 8, "3": 8}  # 2 orders x 2 methods x 2 seeds


def test_each_dose_trains_every_arm_anew() -> None:
    cells = list(dose_response.cells(ground(doses=["0", "1"])))
    assert Counter(cell.training.dose for cell in cells) == {"0": 10, "1": 10}


def test_seeds_follow_the_runs_seed_and_folds_multiply() -> None:
    cells = list(matched_arms.cells(ground(folds=3)))
    assert {(cell.training.seed, cell.training.fold) for cell in cells} == {
        (seed, fold) for seed in (0, 1) for fold in ("1/3", "2/3", "3/3")
    }
    config = cells[0].training.config(ground(folds=3).study)
    assert (config.split, config.fold, config.open_test) == ("grouped", "1/3", False)


@pytest.mark.parametrize("trainers", [(), ("A",)])
def test_fewer_than_two_centers_are_no_federation(trainers: tuple[str, ...]) -> None:
    sites = Sites(trainers={"segmentation": trainers}, testers={"segmentation": ("A", "B")})
    arms = {cell.training.arm for cell in matched_arms.cells(ground(sites))}
    assert not arms & {"fedavg", "fedprox"}


def test_runs_are_told_apart_by_what_decides_them_alone() -> None:
    training = next(matched_arms.cells(ground())).training
    keys = {
        training.key(Study.of(name, {"tasks": "segmentation", **knobs}), sha)
        for name, knobs, sha in (
            ("a", {}, "c1"),
            ("b", {"workers": 1, "device": "cpu"}, "c1"),
            ("a", {"erosion": {"learning-rate": 0.5}}, "c1"),
        )
    }
    assert len(keys) == 1
    keys.add(training.key(Study.of("a", {"tasks": "segmentation"}), "c2"))
    keys.add(training.key(Study.of("a", {"tasks": "segmentation", "segmentation": {"learning-rate": 0.5}}), "c1"))
    assert len(keys) == 3
