"""What a study's file may say, and what each arm makes of it."""

from typing import Any

import pytest

from ramw_fed.errors import ConfigError
from ramw_fed.studies.config import Study

RAW: dict[str, Any] = {"proximal-mu": 0.01, "seed": 3, "study": {"methods": ["fedavg", "fedprox"]}}


def study(**knobs: Any) -> Study:
    own = {name.replace("_", "-"): value for name, value in knobs.items()}
    return Study.of("a", {**RAW, "study": {**RAW["study"], **own}})


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"designs": ["matrix"]}, "designs has 'matrix'"),
        ({"designs": []}, "designs is empty"),
        ({"methods": ["fedprox", "fedprox"]}, "names one twice"),
        ({"methods": ["fedsgd"]}, "methods has 'fedsgd'"),
        ({"metrics": ["dice"]}, "metrics has 'dice'"),
        ({"metrics": ["sen"]}, "metrics has 'sen'"),
        ({"metrics": ["hd95"]}, "metrics has 'hd95'"),
        ({"folds": 2}, "folds is 2"),
        ({"seeds": 0}, "at least 1"),
        ({"contrasts": ["fedprox - fedbn"]}, "two different of"),
        ({"contrasts": ["fedprox-local"]}, "two different of"),
        ({"contrasts": ["local - local"]}, "two different of"),
        ({"contrasts": ["fedprox - local", "fedprox - local"]}, "twice"),
        ({"margins": ["dsc: 0.01"]}, "'name = value'"),
        ({"margins": ["dsc = -0.01"]}, "above 0"),
        ({"margins": ["nsd = 0.01"]}, "a metric of the study"),
        ({"tune": ["seed = 1 | 2"]}, "a knob of training"),
        ({"tune": ["learning-rate = "]}, "a knob of training"),
        ({"tune": ["learning-rates = 0.1"]}, "learning-rates"),
        ({"tune": ["segmentation.learning-rate = fast"]}, "learning-rate"),
        ({"doses": ["2"]}, r"numbers in \[0, 1\]"),
        ({"dial": "brightness"}, "dial"),
        ({"designer": ["x"]}, "unknown knob 'designer'"),
    ],
)
def test_what_a_study_cannot_ask_is_refused(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        study(**knobs)


@pytest.mark.parametrize("name", ["method", "pool", "open-test", "fold", "baselines"])
def test_what_the_study_sets_itself_is_refused_in_the_file(name: str) -> None:
    with pytest.raises(ConfigError, match="set by the study itself"):
        Study.of("a", {name: "x"})


def test_folds_deal_anew_so_an_official_split_beside_them_is_refused() -> None:
    with pytest.raises(ConfigError, match="deal the patients anew"):
        Study.of("a", {"split": "official", "study": {"folds": 3}})


def test_a_task_that_the_analysis_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a study analyses|toy"):
        Study.of("a", {"tasks": "toy_tasks:PULL"})


def test_a_grid_is_every_combination_of_what_task_and_method_read() -> None:
    asked = study(tune=["learning-rate = 0.1 | 0.2", "erosion.loss = focal | weighted", "proximal-mu = 0 | 1 | 2"])
    assert len(asked.points("segmentation", "fedavg")) == 2
    assert len(asked.points("erosion", "fedavg")) == 4
    assert len(asked.points("erosion", "fedprox")) == 12
    point = asked.points("erosion", "fedprox")[-1]
    assert point == (("learning-rate", "0.2"), ("erosion.loss", "weighted"), ("proximal-mu", "2"))
    config = asked.run_config({"method": "fedprox", "tasks": "erosion"}, point)
    assert (config.erosion.learning_rate, config.erosion.loss, config.proximal_mu) == (0.2, "weighted", 2.0)


def test_a_study_would_tell_of_patients_whom_a_private_run_protects() -> None:
    private = {"privacy": "patient", "target-epsilon": 3.0, "norm": "group", "evaluation": "unprotected"}
    with pytest.raises(ConfigError, match="outside of any guarantee"):
        Study.of("a", {**RAW, **private})
