"""What a run would cost, in units that a person reads."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from ramw_fed import api
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.plan import Cost, TaskCost

RAMW600 = Path(__file__).parent.parent / "simulations" / "ramw600.toml"
SMALL = {"num-rounds": 3, "local-epochs": 2, "batch-size": 5, "image-size": 32, "crop-size": 16, "device": "cpu"}


def shown(cost: Cost) -> str:
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(cost.table())
    return console.export_text()


def task(name: str, *, seconds: float, hours: float) -> TaskCost:
    return TaskCost(
        task=name,
        centers=6,
        steps=10,
        seconds_per_step=seconds,
        hours=hours,
        megabytes_per_round=1.5,
        memory_mb=812.3,
    )


def test_times_have_the_unit_that_fits_them() -> None:
    cost = Cost((task("a", seconds=0.25, hours=2.5 / 3600), task("b", seconds=9.0, hours=1.5)), 1, "the processor")
    text = shown(cost)
    for wanted in ("250 ms", "2.5 s", "9.0 s", "1.5 h", "812", "on the processor, 1 worker (", "all tasks: 1.5 h"):
        assert wanted in text, wanted
    assert cost.as_dict()["hours"] == pytest.approx(1.5 + 2.5 / 3600)


def test_steps_are_those_of_all_rounds_and_shared_by_the_workers(phantom_root: Path) -> None:
    config = resolve({**SMALL, "cohort": str(phantom_root), "workers": 4, "tasks": "segmentation", "depth": 3})
    cost = api.plan(config)
    cohort = api.load_cohort(phantom_root)
    trained = [sum(one.mask_split == "train" for one in cohort.at(name).radiographs) for name in cohort.centers]
    # 3 rounds of 2 epochs in batches of 5, the last one shorter
    steps = 3 * 2 * sum((count + 4) // 5 for count in trained)
    (found,) = cost.tasks
    assert found.steps == steps
    assert found.hours == pytest.approx(steps * found.seconds_per_step / 4 / 3600)
    assert found.memory_mb > 100
    assert cost.workers == 4


def test_the_benchmarks_own_setting_is_100_epochs_at_its_sizes() -> None:
    """arXiv:2507.05193 and its code: what is known of how the published networks were trained."""
    config = resolve(read_toml(RAMW600))
    for training in (config.segmentation, config.erosion):
        assert training.num_rounds * training.local_epochs == 100
        assert training.optimizer == "adamw"
        assert training.final_learning_rate == 1
    assert (config.segmentation.learning_rate, config.erosion.learning_rate) == (1e-4, 1e-6)
    assert (config.seed, config.segmentation.image_size, config.erosion.crop_size) == (3407, 512, 224)
    assert (config.erosion.loss, config.erosion.positive_weight, config.erosion.batch_size) == ("weighted", 6, 16)
    assert (config.segmentation.mirror, config.erosion.mirror) == (True, False)
