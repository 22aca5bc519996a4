"""Time and memory of a step that protects patients, beside the plain step and Opacus' own ways.

Usage: ``python benchmarks/private_step.py [--turns 7] [--steps 3] [--tasks segmentation,erosion]``.

Default networks of both tasks with group normalisation, at the default sizes, on one thread. Every arm sees the same
rows and takes AdamW's step; all but "plain" clip and add noise. Rows are 22 radiographs of 8 patients (1, 2, 2, 3, 3,
3, 4 and 4 of them: 2.75 a patient), for erosions with 6 joints each; in "one radiograph each" every radiograph is
another patient's. Plain and own arms go through ``train_round``, from rows that lie in memory unvaried, as reading
costs all the same. The plain step takes all rows at once; "plain, default batch size" takes them in steps of 4
radiographs or 16 joints. By patient, no more than twice so many rows go through the network at once. Opacus' arms
clip each row, which protects a radiograph or a joint and no patient.

Opacus' hooks fail on timm's residual blocks, which add in place; to price them, their arms run with blocks that add out
of place, against a plain step with such blocks.

Time is processor time of a step, arms taking turns in one process; the least of all turns counts, the most is printed
beside it. A turn is one round of a few steps, with what a round does but once. Memory is the peak of resident memory
over two rounds, in a fresh process for each arm, above what the process held before (libraries, network, rows).
Targets: at 2.75 radiographs a patient 1.5 times the plain step, and 1.2 times its memory.
"""

import argparse
import copy
import inspect
import multiprocessing
import os
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy reads it

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from timm.models import resnet
from torch import Tensor, nn
from torch.optim import AdamW

from ramw_fed.config import ErosionConfig, SegmentationConfig, TrainingConfig
from ramw_fed.learning.losses import ClassCounts, Loss, cross_entropy, dice_bce
from ramw_fed.learning.models import erosion_network, segmentation_network
from ramw_fed.learning.training import channels_last, reproducible, train_round
from ramw_fed.privacy.randomness import secure
from ramw_fed.privacy.sgd import PatientSteps

CPU = torch.device("cpu")
RADIOGRAPHS = (1, 2, 2, 3, 3, 3, 4, 4)
BONES, JOINTS = 14, 6
NOISE, CLIP = 1.0, 1.0


class InMemory:
    """Rows as tensors, and whose they are."""

    def __init__(self, inputs: Tensor, targets: Tensor, patients: NDArray[np.str_]) -> None:
        self.inputs, self.targets, self.patients, self.names = inputs, targets, patients, patients

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: NDArray[np.int64], *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Return the rows as they are."""
        return self.inputs[rows], self.targets[rows]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One task's network and rows; ``rows_each`` rows of a radiograph."""

    network: nn.Module
    examples: InMemory
    loss: Loss
    config: TrainingConfig
    rows_each: int


def segmentation() -> Job:
    config = SegmentationConfig(norm="group")
    inputs = torch.randn(sum(RADIOGRAPHS), 1, config.image_size, config.image_size)
    targets = (torch.rand(len(inputs), BONES, config.image_size, config.image_size) < 0.05).to(torch.uint8)
    examples = InMemory(inputs, targets, owners(RADIOGRAPHS))
    return Job(
        network=segmentation_network(BONES, config), examples=examples, loss=dice_bce, config=config, rows_each=1
    )


def erosion() -> Job:
    config = ErosionConfig(norm="group")
    rows = JOINTS * sum(RADIOGRAPHS)
    inputs = torch.randn(rows, 1 + JOINTS, config.crop_size, config.crop_size)
    targets = (torch.rand(rows) < 0.12).float()
    loss = cross_entropy(ClassCounts(negatives=rows, positives=rows), config)
    examples = InMemory(inputs, targets, owners([JOINTS * count for count in RADIOGRAPHS]))
    return Job(network=erosion_network(JOINTS, config), examples=examples, loss=loss, config=config, rows_each=JOINTS)


def owners(rows: Sequence[int]) -> NDArray[np.str_]:
    return np.array([str(patient) for patient, count in enumerate(rows) for _ in range(count)], np.str_)


def plain(job: Job, steps: int) -> None:
    """Train as without privacy, all rows at once."""
    _train(job, replace(job.config, batch_size=len(job.examples), local_epochs=steps), None)


def plain_in_batches(job: Job, steps: int) -> None:
    """Train on as many rows in as many steps as the default batch size makes of them."""
    _train(job, replace(job.config, local_epochs=steps), None)


def by_patient(job: Job, steps: int) -> None:
    """Train with the product's own steps, every patient in each."""
    private = PatientSteps(
        job.examples.patients,
        sampling_rate=1.0,
        steps=steps,
        noise_multiplier=NOISE,
        clip_norm=CLIP,
        randomness=secure(),
        rows_at_once=2 * job.config.batch_size,
    )
    _train(job, replace(job.config, local_epochs=steps), private)


def one_each(job: Job, steps: int) -> None:
    """Train so, as if every radiograph were another patient's."""
    examples = job.examples
    patients = owners([job.rows_each] * (len(examples) // job.rows_each))
    by_patient(replace(job, examples=InMemory(examples.inputs, examples.targets, patients)), steps)


def _train(job: Job, config: TrainingConfig, private: PatientSteps | None) -> None:
    train_round(
        job.network,
        job.examples,
        job.loss,
        replace(config, num_rounds=1, optimizer="adamw"),
        correction=None,
        key=(0, "benchmark", 1, "HU"),
        round_number=1,
        device=CPU,
        private=private,
    )


def hooks(job: Job, steps: int) -> None:
    """Clip each row by Opacus' gradients of each row."""
    hooked = GradSampleModule(job.network, loss_reduction="mean")
    try:
        inner = AdamW(hooked.parameters(), lr=job.config.learning_rate)
        optimizer = DPOptimizer(
            inner, noise_multiplier=NOISE, max_grad_norm=CLIP, expected_batch_size=len(job.examples)
        )
        with _as_in_training(job):
            for _ in range(steps):
                optimizer.zero_grad(set_to_none=True)
                job.loss(hooked(_placed(job)), job.examples.targets).backward()
                optimizer.step()
    finally:
        hooked.to_standard_module()


def ghost(job: Job, steps: int) -> None:
    """Clip each row by Opacus' ghost clipping: norms first, then a second backward of the weighted losses."""
    hooked = GradSampleModuleFastGradientClipping(
        job.network, loss_reduction="mean", max_grad_norm=CLIP, use_ghost_clipping=True
    )
    try:
        inner = AdamW(hooked.parameters(), lr=job.config.learning_rate)
        optimizer = DPOptimizerFastGradientClipping(
            inner, noise_multiplier=NOISE, max_grad_norm=CLIP, expected_batch_size=len(job.examples)
        )
        with _as_in_training(job):
            for _ in range(steps):
                _ghost_step(job, hooked, optimizer)
    finally:
        hooked.to_standard_module()


def _ghost_step(job: Job, hooked: GradSampleModuleFastGradientClipping, optimizer: DPOptimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    logits, targets = hooked(_placed(job)), job.examples.targets
    each = torch.stack([job.loss(logits[[row]], targets[[row]]) for row in range(len(targets))])
    each.mean().backward(retain_graph=True)
    optimizer.zero_grad(set_to_none=True)
    factors = hooked.get_clipping_coef()
    hooked.disable_hooks()
    (factors * each).sum().backward()
    hooked.enable_hooks()
    optimizer.step()


def _placed(job: Job) -> Tensor:
    return job.examples.inputs.contiguous(memory_format=torch.channels_last)


@contextmanager
def _as_in_training(job: Job) -> Iterator[None]:
    with reproducible(0, CPU), channels_last(job.network), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of Opacus' hooks
        yield


def add_out_of_place() -> None:
    """Let timm's residual blocks add out of place, in this process: hooks on their layers fail where they do not."""
    for block in (resnet.BasicBlock, resnet.Bottleneck):
        source = textwrap.dedent(inspect.getsource(block.forward))
        namespace = dict(vars(resnet))
        exec(source.replace("x += shortcut", "x = x + shortcut"), namespace)
        block.forward = namespace["forward"]


TASKS: Mapping[str, Callable[[], Job]] = {"segmentation": segmentation, "erosion": erosion}
ARMS: Mapping[str, Callable[[Job, int], None]] = {
    "plain, all rows at once": plain,
    "plain, default batch size": plain_in_batches,
    "by patient, 2.75 radiographs each": by_patient,
    "by patient, one radiograph each": one_each,
    "Opacus' hooks, by row": hooks,
    "ghost clipping, by row": ghost,
}
OPACUS = ("Opacus' hooks, by row", "ghost clipping, by row")


def seconds_of(task: str, steps: int, turns: int, arms: Sequence[str]) -> dict[str, list[float]]:
    """Return the processor time of a step in each turn, arm by arm; the first turn, which warms up, is left out."""
    torch.set_num_threads(1)
    job = TASKS[task]()
    jobs = {arm: replace(job, network=copy.deepcopy(job.network)) for arm in arms}
    taken: dict[str, list[float]] = {arm: [] for arm in arms}
    for turn in range(turns + 1):
        for arm in arms:
            begun = time.process_time()
            ARMS[arm](jobs[arm], steps)
            if turn:
                taken[arm].append((time.process_time() - begun) / steps)
    return taken


def memory_of(task: str, arm: str) -> float:
    """Return by how many MiB resident memory peaks in two rounds above what was there before."""
    torch.set_num_threads(1)
    if arm in OPACUS:
        add_out_of_place()
    job = TASKS[task]()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    for _ in range(2):
        ARMS[arm](job, 2)
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def failure_of(task: str, arm: str) -> str:
    """Return how an arm fails on the network as it is; empty where it does not."""
    try:
        ARMS[arm](TASKS[task](), 1)
    except RuntimeError as error:
        return str(error).partition(". ")[0]
    return ""


def in_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="of each arm; the least counts")
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    parser.add_argument("--tasks", default=",".join(TASKS), help="which, by comma")
    arguments = parser.parse_args()
    for task in arguments.tasks.split(","):
        report(task, arguments.steps, arguments.turns)


def report(task: str, steps: int, turns: int) -> None:
    for arm in OPACUS:
        print(f"{task}: {arm}: {in_fresh_process(failure_of, task, arm) or 'goes'}")
    own = [arm for arm in ARMS if arm not in OPACUS]
    taken = in_fresh_process(seconds_of, task, steps, turns, own)
    # their networks add out of place, so they have turns of their own, beside a plain step that does too
    beside = in_fresh_process(seconds_of_mended, task, steps, turns, ["plain, all rows at once", *OPACUS])
    base = min(taken["plain, all rows at once"])
    mended = min(beside.pop("plain, all rows at once"))
    memory = {arm: in_fresh_process(memory_of, task, arm) for arm in ARMS}
    print("\n| arm | ms a step | most | ratio | peak MiB | ratio | to default batches |\n|---|---|---|---|---|---|---|")
    for arm, times in {**taken, **beside}.items():
        against = base if arm in taken else mended
        print(
            f"| {arm} | {1e3 * min(times):.0f} | {1e3 * max(times):.0f} | {min(times) / against:.2f} "
            f"| {memory[arm]:.0f} | {memory[arm] / memory['plain, all rows at once']:.2f} "
            f"| {memory[arm] / memory['plain, default batch size']:.2f} |",
            flush=True,
        )


def seconds_of_mended(task: str, steps: int, turns: int, arms: Sequence[str]) -> dict[str, list[float]]:
    """Return what :func:`seconds_of` does, with residual blocks that hooks can take."""
    add_out_of_place()
    return seconds_of(task, steps, turns, arms)


if __name__ == "__main__":
    main()
