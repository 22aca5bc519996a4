"""Knobs: ranges, spelling, what is stronger than what."""

import math
from typing import Any

import pytest

from ramw_fed.config import RunConfig
from ramw_fed.config_sources import declaration, read_declared, read_overrides, read_toml, resolve
from ramw_fed.errors import ConfigError
from ramw_fed.knobs import nest


@pytest.mark.parametrize("mu", [math.nan, math.inf, -0.1, True, "0.1"])
def test_a_proximal_mu_that_is_no_finite_number_of_at_least_zero_is_refused(mu: object) -> None:
    with pytest.raises(ConfigError, match="proximal-mu"):
        resolve({"proximal-mu": mu})


def test_proximal_mu_zero_is_allowed_so_that_fedprox_can_be_held_against_fedavg() -> None:
    assert resolve({"proximal-mu": 0}).proximal_mu == 0.0


def test_all_problems_of_a_table_are_listed_at_once() -> None:
    with pytest.raises(ConfigError, match=r"seed.*workers"):
        resolve({"seed": -1, "workers": 0})


def test_an_unknown_knob_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'learning-rat'.*learning-rate"):
        resolve({"learning-rat": 1e-3})
    with pytest.raises(ConfigError, match=r"'image-size' in \[erosion\]"):
        resolve({"erosion": {"image-size": 64}})


@pytest.mark.parametrize("tree", [{"segmentation": 3}, {"erosion": [{}]}, {"phantom": "large"}])
def test_a_value_where_a_table_is_wanted_is_refused(tree: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="a table is wanted"):
        resolve(tree)
    with pytest.raises(ConfigError, match="a table is wanted"):
        resolve({}, tree)


def test_a_table_that_no_task_can_read_is_refused_with_the_near_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown table \[segmentaton\]; did you mean segmentation\?"):
        resolve({"segmentaton": {"num-rounds": 99}})
    with pytest.raises(ConfigError, match=r"unknown table \[segmentatoin\]"):
        resolve({}, {"segmentatoin.num-rounds": 99})
    own = resolve({"tasks": "erosion,package.file:FINGER", "finger": {"num-rounds": 2}})
    assert own.training("finger").num_rounds == 2


def test_a_list_that_holds_no_names_and_a_number_beyond_floats_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"tasks is \[1\]; a list of names is wanted"):
        resolve({"tasks": [1]})
    with pytest.raises(ConfigError, match="proximal-mu is 1"):
        resolve({"proximal-mu": 10**400})


def test_a_knob_on_top_counts_for_all_tasks_that_know_it_and_a_tasks_own_table_is_stronger() -> None:
    config = resolve({"learning-rate": 1e-3, "image-size": 64, "erosion": {"learning-rate": 2e-3}})
    assert config.segmentation.learning_rate == 1e-3
    assert config.erosion.learning_rate == 2e-3
    assert config.segmentation.image_size == 64


def test_an_override_is_stronger_than_a_tasks_own_table() -> None:
    config = resolve({"erosion": {"learning-rate": 2e-3}}, {"learning-rate": 5e-3})
    assert config.erosion.learning_rate == 5e-3


def test_the_method_may_be_changed_alone_and_drops_the_files_knobs_of_the_other_method() -> None:
    file = {"method": "fedprox", "proximal-mu": 0.3}
    assert resolve(file).proximal_mu == 0.3
    assert resolve(file, {"method": "fedavg"}).proximal_mu is None


def test_a_knob_that_the_method_does_not_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="proximal-mu does nothing under method 'fedavg'"):
        resolve({}, {"method": "fedavg", "proximal-mu": 0.3})


def test_a_knob_of_a_loss_that_is_not_taken_is_refused_and_has_its_default_under_its_own() -> None:
    with pytest.raises(ConfigError, match=r"erosion\.focal-gamma does nothing under loss 'weighted'.*take focal"):
        resolve({"erosion": {"loss": "weighted", "focal-gamma": 1.0}})
    erosion = resolve({"erosion": {"loss": "weighted"}}).erosion
    assert (erosion.positive_weight, erosion.focal_gamma) == (6.0, None)


@pytest.mark.parametrize(
    ("loss", "sampling"), [("focal", "classes"), ("focal", "patients"), ("logit-adjustment", "classes")]
)
def test_a_sampling_that_makes_up_for_rare_erosions_as_the_loss_does_is_refused(loss: str, sampling: str) -> None:
    with pytest.raises(ConfigError, match=f"sampling is '{sampling}', and the loss '{loss}'"):
        resolve({"erosion": {"loss": loss, "sampling": sampling}})
    assert resolve({"erosion": {"loss": "cross-entropy", "sampling": sampling}}).erosion.sampling == sampling


def test_a_loss_may_be_changed_alone_and_drops_the_files_knobs_of_the_other_loss() -> None:
    file = {"erosion": {"loss": "weighted", "positive-weight": 3.0}}
    erosion = resolve(file, {"erosion.loss": "focal"}).erosion
    assert (erosion.positive_weight, erosion.focal_gamma) == (None, 2.0)


def test_the_flat_form_that_travels_in_messages_gives_the_same_configuration_back() -> None:
    config = resolve({"tasks": ["erosion"], "erosion": {"norm": "group"}, "phantom": {"patients": 30}})
    assert resolve(nest(config.flat())) == config
    assert config.flat()["tasks"] == "erosion"
    assert all(isinstance(value, bool | int | float | str) for value in config.flat().values())


def test_where_a_run_is_computed_does_not_decide_its_numbers() -> None:
    there = resolve({}, {"engine": "ray", "workers": 6, "device": "cpu", "cohort": "/data", "out": "elsewhere"})
    assert there.deciding() == RunConfig().deciding()
    assert resolve({}, {"seed": 1}).deciding() != RunConfig().deciding()


def test_overrides_are_read_as_toml_and_else_as_text() -> None:
    read = read_overrides(["proximal-mu=0.1", "tasks=erosion", "mirror=false", "erosion.norm=group"])
    assert read == {"proximal-mu": 0.1, "tasks": "erosion", "mirror": False, "erosion.norm": "group"}
    with pytest.raises(ConfigError, match="key=value"):
        read_overrides(["proximal-mu"])


def test_a_missing_and_a_broken_file_are_told_apart(tmp_path) -> None:
    with pytest.raises(ConfigError, match="no configuration can be read"):
        read_toml(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match="no valid TOML"):
        read_toml(tmp_path / "broken.toml")


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/2", "2", "a/5", "1/5/5"])
def test_a_fold_is_a_part_of_at_least_three(fold: str) -> None:
    with pytest.raises(ConfigError, match="fold"):
        RunConfig(split="grouped", fold=fold)
    assert RunConfig(split="grouped", fold="2/5").tested_fold == (2, 5)
    with pytest.raises(ConfigError, match="does nothing under split"):
        RunConfig(fold="2/5")


PRIVATE = {"privacy": "patient", "target-epsilon": 3.0, "norm": "group"}


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"target-epsilon": 0.0}, "set one of target-epsilon and noise-multiplier"),
        ({"noise-multiplier": 1.0}, "set one of target-epsilon and noise-multiplier"),
        ({"target-epsilon": 0.0, "noise-multiplier": -1.0}, "noise-multiplier is -1.0; at least 0"),
        ({"target-epsilon": 0.0, "noise-multiplier": float("nan")}, "finite"),
        ({"delta": 0.5}, "delta is 0.5; at most 0.1"),
        ({"norm": "batch"}, "set norm = 'group'"),
        ({"pool": True}, "a ledger of its own"),
        ({"split": "grouped"}, "decide in which part others are"),
        ({"split": "grouped", "fold": "1/3"}, "decide in which part others are"),
        ({"baselines": True}, "baselines trains without privacy"),
        ({"erosion": {"loss": "logit-adjustment"}}, "reads how many joints are eroded"),
        ({"erosion": {"loss": "class-balanced"}}, "reads how many joints are eroded"),
        ({"erosion": {"loss": "logit-adjustment", "prior": "federated"}}, "reads how many joints are eroded"),
        ({"erosion": {"sampling": "classes"}}, "drawn by Poisson sampling"),
        ({"erosion": {"sampling": "patients"}}, "drawn by Poisson sampling"),
        ({"erosion": {"threshold-rule": "youden"}}, "of whom nothing leaves"),
        ({"erosion": {"calibration": "platt"}}, "of whom nothing leaves"),
        ({"evaluation": "paid", "erosion": {"threshold-rule": "youden"}}, "of whom noisy sums alone leave"),
        ({"evaluation": "paid", "erosion": {"calibration": "platt"}}, "of whom noisy sums alone leave"),
        ({"evaluation": "paid", "evaluation-noise": 0.0}, "evaluation-noise is 0.0; at least 0.1"),
        ({"evaluation-noise": 5.0}, "evaluation-noise does nothing under evaluation 'none'"),
        ({"evaluation": "unprotected", "evaluation-noise": 5.0}, "nothing under evaluation 'unprotected'"),
        ({"noise-seed": 4}, "noise-seed is no knob"),
        ({"erosion": {"noise-seed": 4}}, "noise-seed is no knob"),
        ({"erosion": {"clip-norm": 0.0}}, "clip-norm is 0.0; at least"),
    ],
)
def test_a_private_run_refuses_silent_mixtures(knobs: dict[str, Any], said: str) -> None:
    resolve(PRIVATE)
    with pytest.raises(ConfigError, match=said):
        resolve({**PRIVATE, **knobs})


def test_private_knobs_do_nothing_without_privacy_and_are_refused() -> None:
    for knobs in ({"target-epsilon": 3.0}, {"evaluation": "none"}, {"erosion": {"clip-norm": 1.0}}):
        with pytest.raises(ConfigError, match="does nothing under privacy 'none'"):
            resolve(knobs)
    assert resolve({}).erosion.clip_norm is None
    private = resolve({**PRIVATE, "erosion": {"clip-norm": 0.5}})
    assert (private.erosion.clip_norm, private.segmentation.clip_norm) == (0.5, 1.0)
    assert private.segmentation.patients_per_step == 8
    assert (private.evaluation, private.is_evaluated) == ("none", False)


def test_an_override_that_ends_privacy_drops_what_stands_under_it() -> None:
    plain = resolve({**PRIVATE, "erosion": {"clip-norm": 0.5}}, {"privacy": "none"})
    assert (plain.is_private, plain.target_epsilon, plain.erosion.clip_norm) == (False, None, None)


def test_paid_validation_has_a_noise_of_its_own_and_leaves_test_patients_alone() -> None:
    with pytest.raises(ConfigError, match="evaluation-noise does nothing under evaluation None"):
        resolve({"evaluation-noise": 5.0})
    paid = resolve({**PRIVATE, "evaluation": "paid"})
    assert (paid.evaluation_noise, resolve(PRIVATE).evaluation_noise, resolve({}).evaluation_noise) == (
        10.0,
        None,
        None,
    )
    assert (paid.pays_to_validate, paid.is_validated, paid.is_evaluated) == (True, True, False)
    for evaluation, validated in (("none", False), ("unprotected", True)):
        other = resolve({**PRIVATE, "evaluation": evaluation})
        assert (other.pays_to_validate, other.is_validated, other.is_evaluated) == (False, validated, validated)
    assert (resolve({}).pays_to_validate, resolve({}).is_validated) == (False, True)


@pytest.mark.parametrize("override", [{"privacy": "none"}, {"evaluation": "none"}, {"evaluation": "unprotected"}])
def test_an_override_drops_what_stands_under_a_choice_that_it_ends_however_far_below(override: dict[str, Any]) -> None:
    tree = {**PRIVATE, "evaluation": "paid", "evaluation-noise": 5.0}
    assert resolve(tree).evaluation_noise == 5.0
    assert resolve(tree, override).evaluation_noise is None
    assert resolve(tree, {"evaluation-noise": 7.0}).evaluation_noise == 7.0
    erosion = {"loss": "logit-adjustment", "prior": "federated", "intact-joints": 9, "eroded-joints": 1}
    assert resolve({"erosion": erosion}, {"erosion.loss": "focal"}).erosion.intact_joints is None
    chosen = {"threshold-rule": "sensitivity", "least-sensitivity": 0.7}
    assert resolve({"erosion": chosen}, {"erosion.threshold-rule": "fixed"}).erosion.least_sensitivity is None


def test_a_prior_fixed_beforehand_and_a_declared_evaluation_are_allowed() -> None:
    fixed = {"loss": "logit-adjustment", "prior": "federated", "intact-joints": 9, "eroded-joints": 1}
    resolve({**PRIVATE, "erosion": fixed})
    resolve({**PRIVATE, "evaluation": "unprotected", "erosion": {**fixed, "threshold-rule": "youden"}})


def test_a_private_configuration_is_the_same_after_its_journey() -> None:
    config = resolve({**PRIVATE, "erosion": {"patients-per-step": 3}})
    assert resolve(nest(dict(config.flat()))) == config
    paid = resolve({**PRIVATE, "evaluation": "paid", "evaluation-noise": 5.0})
    assert resolve(nest(dict(paid.flat()))) == paid
    assert read_declared(
        {
            **declaration(),
            "privacy": "patient",
            "target-epsilon": 3.0,
            "segmentation.norm": "group",
            "erosion.norm": "group",
        }
    ).is_private
