"""What ``import ramw_fed`` gives, and what it must not cost."""

import subprocess
import sys

import pytest

import ramw_fed


def test_importing_the_package_loads_neither_torch_nor_the_api() -> None:
    code = (
        "import sys, ramw_fed; dir(ramw_fed);"
        "print([name for name in ('torch', 'numpy', 'flwr', 'ramw_fed.api') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_verbs_are_those_of_the_api() -> None:
    from ramw_fed import api

    assert ramw_fed.__all__ == ["compare", "evaluate", "evaluate_predictions", "load_cohort", "predict", "run"]
    for name in ramw_fed.__all__:
        assert getattr(ramw_fed, name) is getattr(api, name)
        assert name in dir(ramw_fed)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        ramw_fed.train  # noqa: B018
