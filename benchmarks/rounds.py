"""Time rounds through each engine against the plain loop over the same local trainings.

Usage: ``python benchmarks/rounds.py [--patients 36] [--rounds 2] [--repeats 3] [--ray]``.

Every arm trains both tasks of the demo at six centers, validates each round and measures at the end; all must end with
equal bytes. Arms take turns, each turn in a fresh process; the smallest of all turns counts, the spread is printed.
"rounds" runs from the first order to train to the last measurement; what lies before and after it (starting workers,
reading the radiographs, ending) is "fixed". Targets: inline with one worker at most 1.05 times the processor time of
the plain loop; with two at most 0.6 times its wall time, which only free cores can show.

"outside" is the processor time of the rounds that is not spent inside a center's own train, validate and measure:
messages, checks, the mean. Beside "inside" of the same turn it tells more than two turns on a busy machine do. It
grows with messages alone, so the ratios fall as radiographs and epochs of a round grow: --patients 168 is the demo.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy reads it

import torch

from ramw_fed.center import Center, initial_weights
from ramw_fed.config import PhantomConfig, RunConfig
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.data.reading import read_run_cohort
from ramw_fed.federation.checkpoint import State
from ramw_fed.federation.coordinator import Outcome
from ramw_fed.federation.records import hash_weights
from ramw_fed.methods import get_method
from ramw_fed.rounds import federate
from ramw_fed.tasks import get_task

DEMO = Path(__file__).parent.parent / "simulations" / "demo.toml"
ARMS = {"plain loop": ("", 1), "inline, 1 worker": ("inline", 1), "inline, 2 workers": ("inline", 2)}
RAY = {"ray, 2 workers": ("ray", 2)}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one arm took once, in seconds, and the hashes of its last weights by task."""

    wall: float
    fixed: float
    processor: float
    inside: float
    weights: Mapping[str, str]

    @property
    def rounds(self) -> float:
        """Wall time without what is fixed."""
        return self.wall - self.fixed


class Inside:
    """Adds up the processor time inside the centers' own work in this process."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for name in ("train", "validate", "measure"):
            setattr(Center, name, self._timed(getattr(Center, name)))

    def _timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            begun = time.process_time()
            result = work(*arguments)
            self.seconds += time.process_time() - begun
            return result

        return timed


class Stopwatch:
    """A recorder that keeps nothing but times and the last weights."""

    def __init__(self) -> None:
        self.weights: dict[str, str] = {}
        self._begun = self._ended = (0.0, 0.0)
        self._opened = now()

    def resume(self) -> State | None:
        """Begin anew."""
        return None

    def watch(self, phase: str, done: int, total: int) -> None:
        """Start at the first order that follows the roll."""
        if not any(self._begun):
            self._begun = now()

    def on_round(self, records: Sequence[Mapping[str, Any]], state: State) -> None:
        """Keep nothing."""

    def open_test(self, chosen: Mapping[str, str], decisions: Mapping[str, Any]) -> None:
        """Allow it."""

    def finish(self, outcome: Outcome) -> None:
        """Stop."""
        self._ended = now()
        self.weights = {name: hash_weights(task.weights) for name, task in outcome.state.tasks.items()}

    def turn(self) -> Turn:
        """Return the times, as of now."""
        (wall, _), rounds = now(), self._ended[0] - self._begun[0]
        wall -= self._opened[0]
        processor = self._ended[1] - self._begun[1]
        return Turn(wall=wall, fixed=wall - rounds, processor=processor, inside=0.0, weights=self.weights)


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def run_plain(config: RunConfig) -> Turn:
    """Train, validate and measure without Flower; validating last weights costs what each round's would."""
    torch.set_num_threads(1)
    opened = now()
    cohort, method = read_run_cohort(config), get_method(config.method)
    centers = [Center(name, cohort, config, method) for name in cohort.centers]
    tasks = [get_task(name) for name in config.tasks]
    for center in centers:
        for task in tasks:
            center.enrol(task)
    begun, hashes = now(), {}
    for task in tasks:
        start = initial_weights(task, cohort.description, config)
        rounds = config.training(task.name).num_rounds
        found = federate(centers, method, task, start, rounds)
        for center in centers * rounds:
            center.validate(task, found.weights)
        for center in centers:
            center.measure(task, found.weights, "test")
        hashes[task.name] = found.weights
    ended = now()
    return Turn(
        wall=ended[0] - opened[0],
        fixed=begun[0] - opened[0],
        processor=ended[1] - begun[1],
        inside=0.0,
        weights={name: hash_weights(weights) for name, weights in hashes.items()},
    )


def take_turn(engine: str, config: RunConfig) -> Turn:
    if config.workers == 1:
        run_plain(shortened(config))  # the first steps in a process prepare what all others use
    inside = Inside()
    return replace(run_engine(engine, config), inside=inside.seconds)


def run_engine(engine: str, config: RunConfig) -> Turn:
    if not engine:
        return run_plain(config)
    from ramw_fed.federation.inline import run_inline
    from ramw_fed.federation.ray import run_ray

    stopwatch = Stopwatch()
    {"inline": run_inline, "ray": run_ray}[engine](config, stopwatch)
    return stopwatch.turn()


def shortened(config: RunConfig) -> RunConfig:
    tables = {name: replace(getattr(config, name), num_rounds=1, local_epochs=1) for name in config.tasks}
    return replace(config, **tables)


def take_turns(arms: Mapping[str, tuple[str, int]], config: RunConfig, repeats: int) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {arm: [] for arm in arms}
    context = multiprocessing.get_context("spawn")
    for _ in range(repeats):
        for arm, (engine, workers) in arms.items():
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                turns[arm].append(pool.submit(take_turn, engine, replace(config, workers=workers)).result())
            print(f"{arm}: {turns[arm][-1].rounds:.2f} s and {turns[arm][-1].fixed:.2f} s fixed", file=sys.stderr)
    ends = {tuple(sorted(turn.weights.items())) for arm in turns.values() for turn in arm}
    assert len(ends) == 1, f"the engines ended with different weights: {ends}"
    return turns


def table(turns: Mapping[str, Sequence[Turn]]) -> str:
    lines = [
        "| arm | rounds, wall s | ratio | rounds, CPU s | ratio | of it outside / inside | fixed, wall s |",
        "|---|---|---|---|---|---|---|",
    ]
    plain = turns["plain loop"]
    for arm, own in turns.items():
        cells = [arm, *_cells([turn.rounds for turn in own], [turn.rounds for turn in plain])]
        if "1 worker" in arm or own is plain:  # else the work is done in other processes
            cells += _cells([turn.processor for turn in own], [turn.processor for turn in plain])
            outside = [turn.processor / turn.inside - 1 for turn in own]
            cells += [f"{min(outside):.1%} ({min(outside):.1%} to {max(outside):.1%})"]
        else:
            cells += ["", "", ""]
        lines.append(f"| {' | '.join([*cells, _spread([turn.fixed for turn in own])])} |")
    return "\n".join(lines)


def _cells(own: Sequence[float], plain: Sequence[float]) -> list[str]:
    return [_spread(own), f"{min(own) / min(plain):.3f}"]


def _spread(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def demo_config(root: Path, rounds: int) -> RunConfig:
    demo = read_toml(DEMO)
    tables = {name: {**demo[name], "num-rounds": rounds} for name in ("segmentation", "erosion")}
    return resolve({**demo, **tables, "cohort": str(root), "resamples": 100, "device": "cpu", "baselines": False})


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    before = os.getloadavg()
    with TemporaryDirectory() as folder:
        os.environ["RAMW_FED_CACHE"] = str(Path(folder) / "cache")
        root = Path(folder) / "cohort"
        write_phantom(PhantomConfig(patients=arguments.patients, size=96, prevalence=0.15), root)
        config = demo_config(root, arguments.rounds)
        run_plain(shortened(config))  # fills the cache
        turns = take_turns(ARMS | (RAY if arguments.ray else {}), config, arguments.repeats)
    print(table(turns))
    print(f"\nLeast of {arguments.repeats} turns (least to largest); all arms ended with equal bytes.")
    after = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(
        f"Load of the machine's {os.cpu_count()} cores: {before[0]:.1f} before; 1, 5, 15 minutes to the end: {after}."
    )
    if before[0] > 0.5:
        print("The cores were not free before: wall times are those of a shared machine and tell little.")


if __name__ == "__main__":
    main()
