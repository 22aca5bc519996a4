"""The weights that come with the package."""

import csv
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write as write_dicom
from safetensors import safe_open

from ramw_fed import api
from ramw_fed.data.layout import BONES, RAMW600
from ramw_fed.errors import ConfigError
from ramw_fed.learning.weights_file import KEY, load_weights
from ramw_fed.metrics.joint_space import mean_widths

REAL = Path(__file__).parents[2] / "shared" / "data" / "ramw600"


def test_the_shipped_weights_are_small_and_say_that_phantoms_taught_them() -> None:
    with resources.as_file(resources.files("ramw_fed") / "weights" / "segmentation.safetensors") as path:
        assert path.stat().st_size <= 4 * 2**20
        _, card = load_weights(path)
    assert card.description.kind == "phantom"
    assert card.description.bones == BONES
    with safe_open(path, framework="pt") as file:  # written again the card has the same bytes
        assert card.to_json() == file.metadata()[KEY]


def test_without_a_run_the_shipped_weights_find_bones_and_score_no_erosion(phantom_cohort, tmp_path: Path) -> None:
    image = phantom_cohort.radiographs[0]
    found = api.predict([image.image], out=tmp_path, research=True)
    assert sum(area > 0 for area in found.items[0].areas.values()) >= 12
    assert not found.items[0].erosions
    assert any("score no erosion" in remark for remark in found.remarks)


def test_joint_spaces_are_written_where_the_size_of_a_pixel_is_known(phantom_cohort, tmp_path: Path) -> None:
    image = phantom_cohort.radiographs[0]
    unknown = api.predict([image.image], out=tmp_path / "unknown")
    assert not unknown.items[0].spaces
    assert not (tmp_path / "unknown" / "joint_spaces.csv").exists()
    found = api.predict([image.image], out=tmp_path / "known", spacing_mm=1.4)
    with (tmp_path / "known" / "joint_spaces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    masks = np.load(tmp_path / "known" / f"{image.image.stem}.npy") > 0
    wanted = mean_widths(masks, RAMW600.joint_space_indices(), (1.4, 1.4))
    assert len(rows) == np.isfinite(wanted).sum() > 3
    np.testing.assert_allclose([float(row["mean_mm"]) for row in rows], wanted[np.isfinite(wanted)], atol=0.001)
    first = found.as_dict()["items"][0]["joint_spaces"][rows[0]["joint_space"]]
    assert first["mean_mm"] == pytest.approx(float(rows[0]["mean_mm"]), abs=0.001)
    write_dicom(tmp_path / "a_R.dcm", image.read_image(), ImagerPixelSpacing=[1.4, 1.4])
    assert api.predict([tmp_path / "a_R.dcm"], out=tmp_path / "header").items[0].spaces
    api.predict([image.image], out=tmp_path / "known")
    assert not (tmp_path / "known" / "joint_spaces.csv").exists()
    with pytest.raises(ConfigError, match="above 0"):
        api.predict([image.image], out=tmp_path, spacing_mm=-0.1)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the real wrists are not part of this repository")
def test_the_shipped_weights_find_the_bones_of_real_wrists(tmp_path: Path) -> None:
    # Boxes drawn by eye; docs/phantom.md has the figures that were measured: .945 of the centroids in their box.
    images = sorted((REAL / "JointLocationDetection" / "images").glob("*.bmp"))
    boxes = json.loads((REAL / "boxes.json").read_text())
    names = [bone.lower() for bone in BONES]
    api.predict(images, out=tmp_path)
    hits = []
    for path in images:
        masks = np.load(tmp_path / f"{path.stem}.npy") > 0
        for bone, (x0, y0, x1, y1) in boxes[path.stem].items():
            points = np.argwhere(masks[names.index(bone.lower())])
            y, x = points.mean(axis=0) if len(points) else (-1, -1)
            hits.append(x0 <= x <= x1 and y0 <= y <= y1)
    assert np.mean(hits) > 0.93
