"""Choices of the erosion task that need more of the centers than weights: class counts, grades, thresholds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from flwr.app import Context, Message
from scipy.special import expit, logit
from sklearn.metrics import roc_curve

from ramw_fed import api
from ramw_fed.arms import Arm
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
from ramw_fed.tasks.task import join_tables

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
        {"loss": "logit-adjustment", "prior": "federated"},
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
    start = initial_weights(EROSION, phantom_cohort.description, config)
    wanted = federate(centers, method, EROSION, start, 2).weights
    last = run(config).state.tasks["erosion"].weights
    assert safetensors.torch.save(dict(last)) == safetensors.torch.save(dict(wanted))


def test_a_prior_of_all_centers_is_the_sum_of_their_counts(
    phantom_root: Path, phantom_cohort: Cohort, tmp_path: Path
) -> None:
    asked = configured(phantom_root, tmp_path / "asked", loss="logit-adjustment", prior="federated")
    counts = ErosionExamples(phantom_cohort, "train", asked.erosion).counts
    given = configured(
        phantom_root,
        tmp_path / "given",
        loss="logit-adjustment",
        prior="federated",
        **{"intact-joints": counts.negatives, "eroded-joints": counts.positives},
    )
    one, other, local = (
        run(config).state.tasks["erosion"].weights
        for config in (asked, given, configured(phantom_root, tmp_path / "local", loss="logit-adjustment"))
    )
    assert safetensors.torch.save(one) == safetensors.torch.save(other)
    assert safetensors.torch.save(one) != safetensors.torch.save(local)
    told = RunFolder(tmp_path / "asked").read_json("manifest.json")["centers"]["erosion"]
    assert sum(each["counts"]["eroded"] for each in told.values()) == counts.positives
    untold = RunFolder(tmp_path / "given").read_json("manifest.json")["centers"]["erosion"]
    assert all(not each["counts"] for each in untold.values())


def test_a_center_says_its_class_counts_only_where_its_own_file_allows_it(phantom_root: Path, tmp_path: Path) -> None:
    config = configured(phantom_root, tmp_path / "inline", loss="logit-adjustment", prior="federated")
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


CHOOSING = {"threshold-rule": "youden", "own-threshold-patients": 1, "calibration": "platt"}


@pytest.fixture(scope="module")
def chosen(phantom_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = configured(phantom_root, tmp_path_factory.mktemp("chosen") / "run", **CHOOSING)
    run(config)
    return RunFolder.open(Path(config.out))


def test_what_validation_chose_is_kept_measured_with_and_said(chosen: RunFolder) -> None:
    decision, decided = chosen.read_json("decision.json")["erosion"], chosen.decided_config().erosion
    assert decision["knobs"]["threshold"] == decided.threshold != 0.5
    assert decision["knobs"]["temperature"] == decided.temperature != 1
    assert set(decided.thresholds()) | set(decision["global threshold at"]) == set(
        chosen.read_json("manifest.json")["centers"]["erosion"]
    )
    assert decided.thresholds()
    _, card = chosen.load_model("erosion")
    assert card.training["threshold"] == decided.threshold
    assert decision["round"] == card.round
    assert "decision.json" in (chosen.path / "test-opened.json").read_text()
    # What metrics.json says is what the table of predictions gives at the chosen thresholds, by hand.
    table, scopes = chosen.read_predictions("erosion"), chosen.read_json("metrics.json")["erosion"]["test"]
    eroded, probability = table["grade"] > 0, table["probability"]
    assert scopes["pooled"]["spc"]["value"] == pytest.approx((probability < decided.threshold)[~eroded].mean())
    own = np.array([decided.thresholds().get(center, decided.threshold) for center in table["center"]])
    by = scopes["pooled"]["by"]
    assert by["threshold"]["own"]["spc"]["value"] == pytest.approx((probability < own)[~eroded].mean())
    assert scopes["pooled"]["brier"]["value"] == pytest.approx(((probability - eroded) ** 2).mean())
    before = expit((logit(probability) - decided.shift) * decided.temperature)
    assert by["calibration"]["before"]["brier"]["value"] == pytest.approx(((before - eroded) ** 2).mean())
    assert scopes["pooled"]["brier"]["value"] < by["calibration"]["before"]["brier"]["value"]


def test_the_choice_is_made_on_validation_alone(
    chosen: RunFolder, phantom_cohort: Cohort, phantom_root: Path, tmp_path: Path
) -> None:
    """The thresholds are those of a single table of all validation joints, to half a logit."""
    decided, (weights, _) = chosen.decided_config(), chosen.load_model("erosion")
    plain = configured(phantom_root, tmp_path)
    parts = [
        Center(center, phantom_cohort, plain, get_method("fedavg")).measure(EROSION, weights, "val")
        for center in phantom_cohort.centers
    ]
    table = join_tables(parts)
    eroded, logits = table["grade"] > 0, logit(table["probability"])
    false, true, _ = roc_curve(eroded, logits)
    threshold = (logit(decided.erosion.threshold) - decided.erosion.shift) * decided.erosion.temperature
    assert round(float(threshold), 6) % 0.5 == 0
    called = logits >= threshold
    steps = [((logits >= edge)[eroded].mean() - (logits >= edge)[~eroded].mean()) for edge in np.arange(-16, 16.5, 0.5)]
    assert called[eroded].mean() - called[~eroded].mean() == pytest.approx(max(steps))
    assert max(steps) <= (true - false).max() + 1e-9


def test_lines_of_rounds_hold_no_counts_of_logits(chosen: RunFolder) -> None:
    assert all(not any("/" in name for name in record["validation"]) for record in chosen.rounds())
    assert all(record["validation"]["eroded_patients"] > 0 for record in chosen.rounds())


def test_an_evaluation_of_the_run_gives_its_numbers(chosen: RunFolder, phantom_root: Path) -> None:
    assert api.evaluate(chosen.path, phantom_root)["erosion"] == chosen.read_json("metrics.json")["erosion"]
    assert Arm.open(chosen.path).knobs["threshold"] == chosen.decided_config().erosion.threshold


def test_a_run_that_was_killed_after_its_rounds_chooses_the_same(
    chosen: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(chosen.config(), out=str(tmp_path / "run"))

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FolderRecorder, "open_test", stop)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    run(config)
    for name in ("decision.json", "metrics.json", "test-opened.json", "models/erosion.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (chosen.path / name).read_bytes()


def test_centers_that_summarise_themselves_do_so_at_the_chosen_thresholds(chosen: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="E-CONFIG"):
        deploy(chosen.config(), tmp_path / "refused", "")
    deployed = deploy(chosen.config(), tmp_path / "allowed", "share-counts = true\n")
    assert deployed.read_json("decision.json") == chosen.read_json("decision.json")
    ours, theirs = (one.read_json("metrics.json")["erosion"]["test"] for one in (deployed, chosen))
    assert ours["centers"] == theirs["centers"]
    assert ours["macro"] == theirs["macro"]
    assert not (deployed.path / "predictions").exists()


def test_a_run_whose_test_split_stays_closed_keeps_its_choice_for_a_later_evaluation(
    chosen: RunFolder, phantom_root: Path, tmp_path: Path
) -> None:
    run(replace(chosen.config(), open_test=False, out=str(tmp_path / "run")))
    closed = RunFolder.open(tmp_path / "run")
    assert closed.read_json("decision.json") == chosen.read_json("decision.json")
    assert api.evaluate(closed.path, phantom_root)["erosion"] == chosen.read_json("metrics.json")["erosion"]


def test_an_order_names_no_other_centers_threshold(chosen: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, set[str]] = {}

    def note(center: Center, task: Any, weights: Any, split: Any) -> Any:
        own = center.config.erosion
        told[center.name] = set(own.thresholds())
        return measure(center, task, weights, split)

    measure = Center.measure
    monkeypatch.setattr(Center, "measure", note)
    memory = chosen.path.parent / "again"
    run(replace(chosen.config(), out=str(memory)))
    thresholds = chosen.decided_config().erosion.thresholds()
    assert told == {center: {center} & set(thresholds) for center in told}
    assert any(told.values())
