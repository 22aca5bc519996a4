import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ramw_fed import api
from ramw_fed.cli import app
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.errors import ConfigError, PrivacyError
from ramw_fed.pretraining import for_pretraining
from ramw_fed.run_folder import RunFolder
from ramw_fed.starting_weights import is_protected

TINY = {
    "device": "cpu",
    "num-rounds": 1,
    "local-epochs": 1,
    "image-size": 32,
    "crop-size": 16,
    "norm": "group",
    "workers": 1,
    "resamples": 100,
    "segmentation": {"depth": 3, "decoder-width": 16},
}
SHIPPED = Path(__file__).parents[1] / "simulations" / "pretrain.toml"


@pytest.fixture
def patients(phantom_root: Path, tmp_path: Path) -> Path:
    """The phantom, said to be patients."""
    root = tmp_path / "patients"
    shutil.copytree(phantom_root, root)
    text = (root / "cohort.toml").read_text(encoding="utf-8")
    assert 'kind = "phantom"' in text
    (root / "cohort.toml").write_text(text.replace('kind = "phantom"', 'kind = "real"'), encoding="utf-8")
    return root


def test_a_cohort_that_is_not_said_to_be_a_phantom_is_refused(phantom_root: Path, patients: Path) -> None:
    with pytest.raises(PrivacyError, match="not said to be a phantom"):
        for_pretraining(resolve({**TINY, "cohort": str(patients)}))
    (patients / "cohort.toml").unlink()  # RAM-W600 itself has none
    with pytest.raises(PrivacyError, match="not said to be a phantom"):
        for_pretraining(resolve({**TINY, "cohort": str(patients)}))
    assert for_pretraining(resolve({**TINY, "cohort": str(phantom_root)})).pool


def test_batch_normalisation_is_refused_by_the_task_that_has_it() -> None:
    with pytest.raises(ConfigError, match=r"norm is 'batch' for erosion, and no private run can start"):
        for_pretraining(resolve({**TINY, "erosion": {"norm": "batch"}}))


def test_the_configuration_that_comes_with_the_package_is_taken() -> None:
    config = for_pretraining(resolve(read_toml(SHIPPED)))
    assert (config.pool, config.method, config.tasks) == (True, "fedavg", ("segmentation", "erosion"))


@pytest.mark.slow
def test_a_run_starts_from_what_pretraining_leaves_and_patients_weights_start_no_pretraining(
    phantom_root: Path, patients: Path, tmp_path: Path
) -> None:
    toml = tmp_path / "tiny.toml"
    toml.write_text("", encoding="utf-8")
    settings = [part for name in ("method=fedprox", *_settings()) for part in ("--set", name)]
    done = CliRunner().invoke(
        app, ["pretrain", str(toml), "--cohort", str(phantom_root), "--out", str(tmp_path / "pre"), *settings]
    )
    assert done.exit_code == 0, done.output
    assert "start-from=" in done.output
    for task in ("segmentation", "erosion"):
        assert is_protected(RunFolder.open(tmp_path / "pre").load_model(task)[1])

    def run(cohort: Path, start: Path, out: Path, **knobs: object) -> RunFolder:
        few = {"tasks": "erosion", "centers": "DHA,HU", "cohort": str(cohort), "start-from": str(start)}
        return api.run(resolve({**TINY, **few, **knobs}), out=out)

    heads = run(patients, tmp_path / "pre", tmp_path / "heads", trainable="head", average=0.9)
    _, card = heads.load_model("erosion")
    assert not is_protected(card)
    assert card.training["trainable"] == "head"
    with pytest.raises(PrivacyError, match="that patients taught"):
        for_pretraining(_configured(phantom_root, heads.path))
    washed = run(phantom_root, heads.path, tmp_path / "washed")
    assert not is_protected(washed.load_model("erosion")[1])


def _configured(cohort: Path, start: Path) -> RunConfig:
    return resolve({**TINY, "cohort": str(cohort), "start-from": str(start)})


def _settings() -> list[str]:
    flat = {name: value for name, value in TINY.items() if name != "segmentation"}
    return [f"{name}={value}" for name, value in flat.items()] + [
        "segmentation.depth=3",
        "segmentation.decoder-width=16",
    ]
