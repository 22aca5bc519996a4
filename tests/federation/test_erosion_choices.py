"""Choices of the erosion task that need more of the centers than weights: a prior of all of them, grades."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from flwr.app import Context, Message

from ramw_fed.center import Center, initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.parting import part_by_center
from ramw_fed.errors import FederationError
from ramw_fed.federation.apps import server_app
from ramw_fed.federation.coordinator import Outcome
from ramw_fed.federation.inline import InlineGrid, InProcess, run_inline
from ramw_fed.federation.recorder import FolderRecorder
from ramw_fed.methods import get_method
from ramw_fed.rounds import federate
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks.erosion import EROSION, ErosionExamples

SMALL = {
    "tasks": "erosion",
    "method": "fedavg",
    "device": "cpu",
    "workers": 1,
    "num-rounds": 2,
    "local-epochs": 1,
    "crop-size": 16,
    "resamples": 100,
}


def configured(root: Path, out: Path, **knobs: Any) -> RunConfig:
    return resolve({**SMALL, "cohort": str(root), "out": str(out), "erosion": knobs})


def run(config: RunConfig) -> Outcome:
    recorder = FolderRecorder.at(config)
    run_inline(config, recorder)
    assert recorder.outcome is not None
    return recorder.outcome


class Deployed(InProcess):
    """Runs the center app as a center's own machine would: by its center.toml, without a partition."""

    def __init__(self, files: list[Path]) -> None:
        super().__init__()
        self.files = files

    def submit(self, message: Message, context: Context) -> None:
        own = self.files[int(context.node_config["partition-id"])]
        super().submit(message, replace(context, node_config={"center-file": str(own)}))


def deploy(config: RunConfig, folder: Path, settings: str) -> RunFolder:
    """Run with each center at its own machine, whose center.toml has these further lines."""
    files, names = [], []
    for center, own in part_by_center(Path(config.cohort), folder / "centers").items():
        names.append(center)
        files.append(own.with_suffix(".toml"))
        files[-1].write_text(f'name = "{center}"\ndata = "{own.name}"\n{settings}')
    config = replace(config, centers=tuple(names), cohort="", out=str(folder / "run"))
    with InlineGrid(len(files), Deployed(files)) as grid:
        server_app(config)(grid, grid.context(0))
    return RunFolder.open(folder / "run")


@pytest.mark.parametrize(
    "knobs",
    [
        {"prior": "federated"},
        {"loss": "distance-weighted"},
        {"loss": "cross-entropy", "sampling": "classes"},
    ],
    ids=str,
)
def test_flower_rounds_are_the_rounds_without_flower(
    knobs: dict[str, Any], phantom_root: Path, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    config = configured(phantom_root, tmp_path / "run", **knobs)
    method = get_method("fedavg")
    centers = [Center(center, phantom_cohort, config, method) for center in phantom_cohort.centers]
    wanted = federate(centers, method, EROSION, initial_weights(EROSION, phantom_cohort.description, config), 2)
    last = run(config).state.tasks["erosion"].weights
    assert safetensors.torch.save(dict(last)) == safetensors.torch.save(dict(wanted))


def test_a_prior_of_all_centers_is_the_sum_of_their_counts(
    phantom_root: Path, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    asked = configured(phantom_root, tmp_path / "asked", prior="federated")
    counts = ErosionExamples(phantom_cohort, "train", asked.erosion).counts
    given = configured(
        phantom_root,
        tmp_path / "given",
        prior="federated",
        **{"intact-joints": counts.negatives, "eroded-joints": counts.positives},
    )
    one, other, local = (
        run(config).state.tasks["erosion"].weights
        for config in (asked, given, configured(phantom_root, tmp_path / "local"))
    )
    assert safetensors.torch.save(one) == safetensors.torch.save(other)
    assert safetensors.torch.save(one) != safetensors.torch.save(local)
    told = RunFolder(tmp_path / "asked").read_json("manifest.json")["centers"]["erosion"]
    assert sum(each["counts"]["eroded"] for each in told.values()) == counts.positives
    untold = RunFolder(tmp_path / "given").read_json("manifest.json")["centers"]["erosion"]
    assert all(not each["counts"] for each in untold.values())


def test_a_center_says_its_class_counts_only_where_its_own_file_allows_it(phantom_root: Path, tmp_path: Path) -> None:
    config = configured(phantom_root, tmp_path / "inline", prior="federated")
    with pytest.raises(FederationError, match="E-CONFIG"):
        deploy(config, tmp_path / "refused", "")
    deployed = deploy(config, tmp_path / "allowed", "share-counts = true\n")
    run(config)
    models = [(folder / "models" / "erosion.safetensors").read_bytes() for folder in (Path(config.out), deployed.path)]
    weights = [safetensors.torch.load(model) for model in models]
    assert safetensors.torch.save(weights[0]) == safetensors.torch.save(weights[1])


def test_a_model_of_grades_predicts_them_and_is_measured_by_agreement(phantom_root: Path, tmp_path: Path) -> None:
    config = configured(phantom_root, tmp_path / "inline", loss="distance-weighted")
    run(config)
    folder = RunFolder.open(Path(config.out))
    table = folder.read_predictions("erosion")
    assert set(table["predicted_grade"].tolist()) <= set(range(6))
    scopes = folder.read_json("metrics.json")["erosion"]["test"]
    assert scopes["pooled"]["mae"]["value"] == pytest.approx(abs(table["predicted_grade"] - table["grade"]).mean())
    own = deploy(config, tmp_path / "deployed", "").read_json("metrics.json")["erosion"]["test"]
    assert own["centers"] == scopes["centers"]
