"""The tidy table: two files of the same rows, and seals that name what was altered."""

from pathlib import Path

import numpy as np
import pytest

from ramw_fed.errors import StudyError
from ramw_fed.studies.table import COLUMNS, read_parquet, read_table, rows_of, seals, write_table
from ramw_fed.studies.training import Cell, Training

TRAINING = Training(arm="fedprox", task="erosion", seed=1, centers=("FA", "HU"))
MEASURED = {
    "center": np.array(["HU", "HU"]),
    "patient": np.array(["b", "a"]),
    "name": np.array(["b_1", "a_1"]),
    "joint": np.array(["Lunate", "Lunate"]),
    "probability": np.array([1 / 3, 0.1]),
    "grade": np.array([2.0, 0.0]),
}


def rows() -> list[tuple[object, ...]]:
    cell = Cell(design="matched-arms", training=TRAINING, test_centers=("HU",))
    return list(rows_of("s", cell, "HU", MEASURED))


def test_both_files_hold_the_same_rows_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    write_table(tmp_path, rows())
    first = [(tmp_path / name).read_bytes() for name in ("table.csv", "table.parquet")]
    one, other = read_table(tmp_path), read_parquet(tmp_path)
    for name in COLUMNS:
        assert np.array_equal(one[name], other[name]), name
    write_table(tmp_path, reversed(rows()))
    assert [(tmp_path / name).read_bytes() for name in ("table.csv", "table.parquet")] == first
    assert one["value"].tolist() == [0.0, 0.1, 2.0, 1 / 3]
    assert one["measure"].tolist() == ["grade", "probability"] * 2
    assert set(one["train_centers"]) == {"FA+HU"}


def test_segmentation_has_one_value_a_patient() -> None:
    measured = {name: np.array([[0.5, 0.7], [0.9, 0.9]]) for name in ("dsc", "nsd", "voe", "msd", "hd95", "ravd")}
    measured |= {name: np.zeros((2, 2)) for name in ("missing", "false", "both_empty")}
    measured |= {"center": np.array(["HU"] * 2), "patient": np.array(["a"] * 2), "name": np.array(["a_L", "a_R"])}
    cell = Cell(
        design="matched-arms",
        training=Training(arm="local", task="segmentation", seed=0, centers=("HU",)),
        test_centers=("HU",),
    )
    found = [row for row in rows_of("s", cell, "HU", measured) if row[COLUMNS.index("measure")] == "dsc"]
    assert [row[-1] for row in found] == [pytest.approx(0.75)]


def test_a_value_that_is_not_defined_stays_so(tmp_path: Path) -> None:
    (first, *others) = rows()
    write_table(tmp_path, [(*first[:-1], float("nan")), *others])
    assert np.isnan(read_table(tmp_path)["value"]).sum() == 1
    assert np.isnan(read_parquet(tmp_path)["value"]).sum() == 1


def test_a_changed_digit_breaks_the_seal_of_its_model_alone(tmp_path: Path) -> None:
    other = Cell(design="matched-arms", training=TRAINING, test_centers=("FA",))
    write_table(tmp_path, [*rows(), *rows_of("s", other, "FA", MEASURED)])
    before = seals(read_table(tmp_path))
    assert len(before) == 2
    path = tmp_path / "table.csv"
    path.write_text(path.read_text().replace(repr(1 / 3), repr(1 / 3)[:-1] + "4", 1))
    after = seals(read_table(tmp_path))
    assert [name for name in before if before[name] != after[name]] == [
        "matched-arms/fedprox/fedprox/1////FA+HU/FA/erosion"
    ]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", ",".join(COLUMNS) + "\n" + "x," * 14 + "y\n"])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(StudyError, match="cannot be read"):
        read_table(tmp_path)
