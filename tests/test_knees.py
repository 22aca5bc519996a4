"""Another joint, other centers, other grades: nothing of the wrist may stand in code."""

from pathlib import Path

import numpy as np
import pytest
from knees import BONES, JOINTS, write_knees

from ramw_fed import api
from ramw_fed.config_sources import resolve
from ramw_fed.data.checks import check_cohort
from ramw_fed.run_folder import RunFolder

CENTERS = sorted({*(f"Clinic {number}" for number in range(1, 13)), "Third"} - {"Clinic 3"})


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("cohorts") / "knees", 12)


@pytest.fixture(scope="module")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = resolve(
        {
            "cohort": str(knees),
            "num-rounds": 1,
            "local-epochs": 1,
            "image-size": 32,
            "crop-size": 16,
            "workers": 1,
            "baselines": True,
            "resamples": 100,
            "segmentation": {"depth": 3, "decoder-width": 16},
        }
    )
    return api.run(config, out=tmp_path_factory.mktemp("runs") / "knees")


def test_grades_run_from_0_to_4_at_twelve_centers(knees: Path) -> None:
    counts = check_cohort(knees).counts["centers"]
    assert list(counts) == CENTERS
    grades = [[center["joints"][joint]["grades"] for joint in JOINTS] for center in counts.values()]
    assert all(sum(by_joint[0][grade] for by_joint in grades) > 0 for grade in range(5))
    assert all(len(found) == 5 for by_joint in grades for found in by_joint)


def test_twelve_centers_found_in_the_manifest_federate_both_tasks(finished: RunFolder) -> None:
    metrics = finished.read_json("metrics.json")
    for task, parts, scope in (("segmentation", BONES, "bone"), ("erosion", JOINTS, "joint")):
        scopes = metrics[task]["test"]
        assert sorted(scopes["centers"]) == CENTERS
        assert set(scopes["pooled"]["by"][scope]) == set(parts)
    assert tuple(metrics["segmentation"]["test"]["pooled"]["by"]["overlap"]) == ("Femur+Tibia",)
    assert metrics["segmentation"]["test"]["pooled"]["dsc"]["n"] == 12
    assert metrics["erosion"]["test"]["pooled"]["acc"]["n"] == 12


def test_the_models_carry_the_knees_description(finished: RunFolder, knees: Path) -> None:
    for task in ("segmentation", "erosion"):
        _, card = finished.load_model(task)
        assert (card.description.bones, card.description.joints) == (BONES, JOINTS)
        assert card.description.max_grade == 4
    assert sorted(path.stem for path in (finished.path / "overlays").iterdir()) == CENTERS
    measured = api.evaluate(finished.path, knees)
    assert measured["erosion"]["test"]["pooled"]["auroc"]["n"] == 12


def test_a_cohort_of_one_bone_without_pairs_is_summarised_and_its_report_verified(tmp_path: Path) -> None:
    root = write_knees(tmp_path / "knees", 2)
    text = (root / "cohort.toml").read_text().replace('bones = ["Femur", "Tibia"]', 'bones = ["Femur"]')
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("overlap_pairs", "joint_spaces")))
    (root / "cohort.toml").write_text(text)
    for path in (root / "masks").iterdir():
        np.save(path, np.load(path)[:1])
    small = {"num-rounds": 1, "local-epochs": 1, "image-size": 32, "workers": 1, "resamples": 100}
    config = {"cohort": str(root), "tasks": "segmentation", **small, "segmentation": {"depth": 3, "decoder-width": 16}}
    run = api.run(resolve(config), out=tmp_path / "run")
    assert run.read_predictions("segmentation")["dsc"].ndim == 1
    found = api.verify(run.path / "report.html")
    assert not found.alterations, found.alterations
