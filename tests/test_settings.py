"""The command line as it is typed: where a value stands does not matter to what a run finds."""

import json
from pathlib import Path

import tomli_w
from typer.testing import CliRunner

from ramw_fed.cli import app
from ramw_fed.config_sources import resolve
from ramw_fed.knobs import nest
from ramw_fed.run_folder import RunFolder

# A knob of each kind (number, whole number, truth value, text, list, in a task's table), and none at its default.
KNOBS = {
    "tasks": ["erosion", "segmentation"],
    "proximal-mu": 0.25,
    "seed": 3,
    "resamples": 100,
    "mirror": False,
    "augmentation": "none",
    "num-rounds": 1,
    "local-epochs": 1,
    "segmentation.image-size": 32,
    "segmentation.depth": 3,
    "segmentation.decoder-width": 8,
    "erosion.crop-size": 16,
    "erosion.norm": "group",
    "erosion.loss": "weighted",
    "erosion.positive-weight": 3.0,
}
OTHERS = {
    "tasks": ["segmentation"],
    "method": "fedavg",
    "seed": 1,
    "mirror": True,
    "num-rounds": 2,
    "workers": 2,
    "erosion": {"loss": "focal", "focal-gamma": 1.0, "crop-size": 32},
}


def run(*arguments: str | Path) -> dict[str, object]:
    done = CliRunner().invoke(app, ["run", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    printed: dict[str, object] = json.loads(done.stdout)
    return printed


def as_settings(knobs: dict[str, object]) -> list[str]:
    """Return ``--set`` arguments, with each value as TOML writes it."""
    lines = [tomli_w.dumps({"x": value}).removeprefix("x = ").strip().replace("\n", "") for value in knobs.values()]
    return [word for name, line in zip(knobs, lines, strict=True) for word in ("--set", f"{name}={line}")]


def test_values_in_the_file_or_on_the_command_line_give_identical_tables(phantom_root: Path, tmp_path: Path) -> None:
    """Oracle 7.12, with the file that says all, one that says nothing and one that says something else."""
    placed = {"cohort": str(phantom_root), "workers": 1}
    files = {"all": nest(KNOBS) | placed, "nothing": {}, "otherwise": OTHERS}
    for name, tree in files.items():
        (tmp_path / f"{name}.toml").write_text(tomli_w.dumps(tree))
    typed = [*as_settings(KNOBS), "--cohort", phantom_root, "--workers", "1"]
    printed = {
        "all": run(tmp_path / "all.toml", "--out", tmp_path / "all"),
        "nothing": run(tmp_path / "nothing.toml", "--out", tmp_path / "nothing", *typed),
        "otherwise": run(
            tmp_path / "otherwise.toml", "--out", tmp_path / "otherwise", *typed, "--set", "method=fedprox"
        ),
    }
    names = ("metrics.json", "models/erosion.safetensors", "models/segmentation.safetensors")
    for name in (*names, "predictions/erosion.csv", "predictions/segmentation.csv"):
        wanted = (tmp_path / "all" / name).read_bytes()
        assert (tmp_path / "nothing" / name).read_bytes() == wanted, name
        assert (tmp_path / "otherwise" / name).read_bytes() == wanted, name
    assert (
        printed["nothing"]
        == printed["otherwise"]
        == printed["all"]
        == RunFolder(tmp_path / "all").read_json("metrics.json")
    )
    configs = [RunFolder(tmp_path / name).config() for name in files]
    assert configs[1].deciding() == configs[2].deciding() == configs[0].deciding()
    assert configs[0].deciding() == resolve(nest(KNOBS)).deciding()


def test_every_value_of_that_run_is_another_than_the_default() -> None:
    def without(left_out: str) -> dict[str, object]:
        return {name: value for name, value in KNOBS.items() if name not in (left_out, "erosion.positive-weight")}

    whole = resolve(nest(KNOBS)).deciding()
    assert [name for name in KNOBS if resolve(nest(without(name))).deciding() == whole] == []


def test_a_value_that_is_given_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("")
    absent = ["--cohort", str(tmp_path / "absent")]  # so that nothing is run should it be taken
    done = CliRunner().invoke(app, ["run", str(tmp_path / "run.toml"), *absent, "--workers", "1", "--set", "workers=2"])
    assert done.exit_code == 1
    assert "workers is given as --workers and by --set; give it once" in str(done.exception)
