"""What patients' privacy costs both tasks, with networks that phantoms taught and without: docs/private_utility.png.

Usage: ``python benchmarks/private_utility.py [FOLDER]``. Finished trainings stand in docs/private_utility.csv, a row
each, and are not done again: a killed experiment goes on where it was, and rows that are taken out are made anew. About
half an hour of one core, and ten minutes more for the pretraining. ``--tune`` prints a grid of learning rates and the
lengths of gradients on a third cohort.

Patients are a phantom of another seed, other looks (``shift`` 1: six narrow ones) and fainter bone than the phantoms of
``simulations/pretrain.toml``: they stand in for real ones. Noise is seeded, so
that the rows can be had again; it protects nobody, and there is nobody.

Each training is of one task and has ledgers of its own, as if it were the only one: its epsilon is at each center, for
all rounds of that task, its noise solved for each center. Every arm ends with its last round. A value is the mean over
the six centers of what the weights reach on the center's test patients: the mean Dice of patients at the network's
size, or the AUROC of joints.
"""

import argparse
import csv
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy reads it

import torch
from private_utility_arms import GRID, PATIENTS, TUNING, Bench, Found, Training, gradient_lengths, train
from private_utility_figure import draw

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "private_utility.csv"
TASKS = ("segmentation", "erosion")
NAMES = [field.name for kind in (Training, Found) for field in fields(kind)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "runs" / "private_utility")
    parser.add_argument("--tune", action="store_true", help="print the grid on the third cohort, and stop")
    parser.add_argument("--arm", help="only this one: untouched, local, head or full")
    parser.add_argument("--task", help="only this one")
    parser.add_argument("--seed", type=int, help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    chosen = {name: getattr(options, name) for name in ("arm", "task", "seed") if getattr(options, name) is not None}
    wanted = [one for one in trainings() if chosen.items() <= asdict(one).items()]
    if options.tune:
        tune(Bench(options.folder, TUNING), wanted)
        return
    rows = read_rows()
    missing = [one for one in wanted if one not in rows]
    bench = Bench(options.folder, PATIENTS) if missing else None
    for number, one in enumerate(missing, start=1):
        rows[one] = asdict(train(bench, one))
        write_rows(rows)
        print(f"{number}/{len(missing)} {one}: {rows[one]['value']:.4f}, {rows[one]['cpu_s']:.0f} CPU-s", flush=True)
    draw(TABLE, TABLE.with_suffix(".png"))


def trainings() -> Iterator[Training]:
    """Give the whole experiment; a head needs a backbone, so heads start from phantoms only."""
    for task in TASKS:
        yield Training(task=task, arm="untouched", start="phantoms", epsilon="none", seed=0)
        for epsilon, seed in itertools.product(("1", "3", "8", "none"), range(5)):
            yield Training(task=task, arm="head", start="phantoms", epsilon=epsilon, seed=seed)
        for seed, start in itertools.product(range(3), ("phantoms", "seeded")):
            for epsilon in ("8", "none"):
                yield Training(task=task, arm="full", start=start, epsilon=epsilon, seed=seed)
        for seed in range(3):
            yield Training(task=task, arm="local", start="phantoms", epsilon="none", seed=seed)


def tune(bench: Bench, wanted: list[Training]) -> None:
    """Print gradient lengths, and what each point of the grid reaches with seed 0: heads at epsilon 3, others at 8."""
    for one in wanted:
        privately = "3" if one.arm == "head" else "8"
        if one.seed or (one.arm, one.start) not in GRID or one.epsilon not in (privately, "none"):
            continue
        if not one.is_private:
            lengths = gradient_lengths(bench, one)
            print(f"{one}: a patient's gradient has length {' '.join(f'{one:.3g}' for one in lengths)} (deciles)")
        for rate in GRID[one.arm, one.start]:
            found = train(bench, one, **{"learning-rate": rate})
            print(f"{one}: learning-rate {rate}: {found.value:.4f}, {found.cpu_s:.0f} CPU-s", flush=True)


def read_rows() -> dict[Training, dict[str, Any]]:
    """Return the rows of the table by training."""
    if not TABLE.exists():
        return {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for row in rows:
        key = {field.name: row.pop(field.name) for field in fields(Training)}
        found[Training(**{**key, "seed": int(key["seed"])})] = {
            name: float(value) if value else None for name, value in row.items()
        }
    return found


def write_rows(rows: Mapping[Training, Mapping[str, Any]]) -> None:
    """Write the table, sorted."""
    part = TABLE.with_suffix(".csv.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(NAMES)
        for one in sorted(rows):
            writer.writerow([*asdict(one).values(), *(_short(value) for value in rows[one].values())])
    part.replace(TABLE)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


if __name__ == "__main__":
    main()
