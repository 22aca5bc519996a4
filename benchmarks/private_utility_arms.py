"""The arms of ``private_utility.py``: one training each, by the product's own code."""

import copy
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ramw_fed import api
from ramw_fed.center import Center
from ramw_fed.config import PhantomConfig, RunConfig
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.data.batches import Rows
from ramw_fed.federation.opening import simulated_ledgers
from ramw_fed.learning.inference import predict
from ramw_fed.methods import Weights, get_method
from ramw_fed.metrics.classification import classification_metrics
from ramw_fed.privacy.account import Account
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.randomness import SEED_VARIABLE
from ramw_fed.rounds import federate
from ramw_fed.starting_weights import starting_weights
from ramw_fed.tasks import get_task
from ramw_fed.tasks.task import Task

PRETRAIN = Path(__file__).parents[1] / "simulations" / "pretrain.toml"
# As many patients as RAM-W600 has, and bone so faint that the pretrained networks lose on TUNING about what the shipped
# ones lose on real wrists (docs/phantom.md).
PATIENTS = PhantomConfig(patients=390, size=160, seed=62, shift=1.0, contrast=0.12, prevalence=0.15)
TUNING = PhantomConfig(patients=150, size=160, seed=63, shift=1.0, contrast=0.12, prevalence=0.15)
CPU = torch.device("cpu")

COURSE: Mapping[str, Mapping[str, Any]] = {
    "head": {"num-rounds": 2, "local-epochs": 4},
    "full": {"num-rounds": 2, "local-epochs": 2},
}
# By task, arm and start: the learning rate with privacy and without, set before PATIENTS were looked at. From phantoms:
# the better of two or three on phantoms of TUNING's seed, with longer courses (heads; erosions); for all weights of
# bones one rate was tried with privacy, and without it that of erosions is taken. From seeded weights: the demo's.
LEARNING_RATES: Mapping[tuple[str, str, str], tuple[float, float]] = {
    ("segmentation", "head", "phantoms"): (0.004, 0.004),
    ("segmentation", "full", "phantoms"): (0.0005, 0.002),
    ("segmentation", "full", "seeded"): (0.006, 0.006),
    ("erosion", "head", "phantoms"): (0.01, 0.01),
    ("erosion", "full", "phantoms"): (0.002, 0.002),
    ("erosion", "full", "seeded"): (0.004, 0.004),
}
GRID: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("head", "phantoms"): (0.003, 0.01),
    ("full", "phantoms"): (0.0005, 0.002),
    ("full", "seeded"): (0.002, 0.006),
}
# At most the median length of a patient's gradient on TUNING at the start (bones .13 at the head; erosions 19, and 57
# for all weights); for all weights of bones as for those of erosions.
CLIP_NORMS: Mapping[tuple[str, str], float] = {
    ("segmentation", "head"): 0.1,
    ("segmentation", "full"): 1.0,
    ("erosion", "head"): 10.0,
    ("erosion", "full"): 1.0,
}
_SHAPE = ("image-size", "encoder", "decoder-width", "crop-size")


@dataclass(frozen=True, kw_only=True, order=True)
class Training:
    """One of the experiment.

    Attributes:
        task: Name.
        arm: ``untouched``: the pretrained network as it is; ``head``: federated, behind the frozen backbone; ``full``:
            federated, all weights; ``local``: all weights, at each center alone, measured there.
        start: ``phantoms`` or ``seeded`` weights.
        epsilon: At each center for the whole training, or ``none``.
        seed: Of the order of images, of augmentation and of the noise.
    """

    task: str
    arm: str
    start: str
    epsilon: str
    seed: int

    @property
    def is_private(self) -> bool:
        """Whether patients are protected."""
        return self.epsilon != "none"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a training reached and spent; extremes over centers, None where patients are not protected."""

    value: float
    noise_least: float | None = None
    noise_most: float | None = None
    epsilon_most: float | None = None
    delta_most: float | None = None
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Seen:
    """Examples as a head sees them, ``(rows, channels, height, width)``; nothing is varied."""

    inputs: Tensor
    targets: Tensor
    patients: Any
    names: Any

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.names)

    def batch(self, rows: Rows, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of these rows."""
        return self.inputs[rows], self.targets[rows]


class Bench:
    """A cohort, the pretrained networks, and what their frozen parts make of the cohort, computed once."""

    def __init__(self, folder: Path, phantom: PhantomConfig) -> None:
        """Make what is not there yet."""
        self.folder = folder
        self.root = (folder / f"cohort-{phantom.seed}").resolve()
        if not self.root.exists():
            api.write_phantom(phantom, self.root)
        self.cohort = api.load_cohort(self.root)
        self.pretrained = folder / "pretrain"
        if not (self.pretrained / "metrics.json").exists():
            api.pretrain(resolve(read_toml(PRETRAIN), {"workers": 1}), out=self.pretrained, resume=True)
        self._heads: dict[str, Task] = {}

    def config(self, training: Training, **knobs: Any) -> RunConfig:
        """Return the run: the networks of the pretraining, on this cohort."""
        task, arm = training.task, "head" if training.arm == "head" else "full"
        shape = {name: value for name, value in read_toml(PRETRAIN)[task].items() if name in _SHAPE}
        rates = LEARNING_RATES[task, arm, training.start]
        own = {
            "batch-size": 8 if task == "segmentation" else 32,
            "norm": "group",
            "augmentation": "none",  # features of a frozen backbone cannot be varied, so that nothing is
            "warmup-steps": 0,
            "learning-rate": rates[0] if training.is_private else rates[1],
            **shape,
            **COURSE[arm],
        }
        own |= {"loss": "weighted"} if task == "erosion" else {}
        own |= {"clip-norm": CLIP_NORMS[task, arm]} if training.is_private else {}
        run = {
            "tasks": task,
            "method": "fedavg",
            "seed": training.seed,
            "start-from": str(self.pretrained) if training.start == "phantoms" else "",
            "cohort": str(self.root),
            "device": "cpu",
            "workers": 1,
            task: own | knobs,
        }
        private = {"privacy": "patient", "target-epsilon": float(training.epsilon)} if training.is_private else {}
        return resolve(run | private)

    def head(self, name: str, config: RunConfig) -> Task:
        """Return the task of the head alone, whose examples are what the frozen network makes of each radiograph."""
        if name not in self._heads:
            task, training = get_task(name), config.training(name)
            network = task.untrained(self.cohort.description, training)
            network.load_state_dict(starting_weights(task, self.cohort.description, config))
            head = task.head(network)  # type: ignore[misc]
            seen = {
                (center, split): _see(network, head, task.examples(self.cohort.at(center), split, training))
                for center in self.cohort.centers
                for split in ("train", "val", "test")
            }
            alone = nn.Sequential(nn.Flatten(), head) if isinstance(head, nn.Linear) else head
            self._heads[name] = replace(
                task,
                examples=lambda cohort, split, _config: seen[cohort.radiographs[0].center, split],
                network=lambda _description, _config: copy.deepcopy(alone),
            )
        return self._heads[name]


def _see(network: nn.Module, head: nn.Module, examples: Any) -> Seen:
    kept: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].clone()))
    parts = [(kept[-1][: len(rows)], targets) for rows, _, targets in predict(network, examples, CPU)]
    handle.remove()
    inputs = torch.cat([part for part, _ in parts])
    inputs = inputs if inputs.ndim == 4 else inputs[:, :, None, None]
    return Seen(inputs.contiguous(), torch.cat([targets for _, targets in parts]), examples.patients, examples.names)


def train(bench: Bench, training: Training, **knobs: Any) -> Found:
    """Do one training and measure it."""
    os.environ[SEED_VARIABLE] = str(training.seed)
    started, config = time.process_time(), bench.config(training, **knobs)
    task = bench.head(training.task, config) if training.arm == "head" else get_task(training.task)
    with tempfile.TemporaryDirectory() as scratch:
        if training.arm == "full" and training.is_private:
            models, spent = _run(bench, config, Path(scratch))
        else:
            models, spent = _rounds(bench, training, config, task, Path(scratch))
    value = score(bench, task, config, models)
    return Found(value=value, **spent, cpu_s=time.process_time() - started)


def _rounds(
    bench: Bench, training: Training, config: RunConfig, task: Task, ledgers: Path
) -> tuple[dict[str, Weights], dict[str, float]]:
    """Train without Flower; return each center's weights, and what was spent."""
    method, knobs, description = get_method(config.method), config.training(task.name), bench.cohort.description
    centers = [Center(name, bench.cohort, config, method) for name in bench.cohort.centers]
    names = [center.name for center in centers]
    start = starting_weights(task, description, config) if training.arm != "head" else _weights(task, config, bench)
    if training.arm == "untouched":
        return dict.fromkeys(names, start), {}
    if training.arm == "local":
        alone = [federate([center], method, task, start, knobs.num_rounds).weights for center in centers]
        return dict(zip(names, alone, strict=True)), {}
    accounts = {}
    for center in centers if training.is_private else ():
        ledger = _new_ledger(ledgers, bench, center.name, config)
        accounts[center.name] = Account(ledger, config, center.name, {task.name: center.num_training_patients(task)})
    done = federate(centers, method, task, start, knobs.num_rounds, accounts or None)
    return dict.fromkeys(names, done.weights), _spent(accounts)


def _run(bench: Bench, config: RunConfig, scratch: Path) -> tuple[dict[str, Weights], dict[str, float]]:
    """Train by ``ramw-fed run``, with new ledgers: as if nothing had been spent on these patients before."""
    ledgers = simulated_ledgers(bench.root)
    shutil.rmtree(ledgers, ignore_errors=True)
    for name in bench.cohort.centers:
        _new_ledger(ledgers, bench, name, config)
    run = api.run(config, out=scratch / "run")
    weights, _ = run.load_model(config.tasks[0])
    charges = run.read_json("manifest.json")["privacy"]["centers"].values()
    spent = {
        "noise_least": min(charge["noise_multiplier"] for charge in charges),
        "noise_most": max(charge["noise_multiplier"] for charge in charges),
        "epsilon_most": max(charge["epsilon"]["pld"] for charge in charges),
        "delta_most": max(charge["delta"] for charge in charges),
    }
    return dict.fromkeys(bench.cohort.centers, weights), spent


def _weights(task: Task, config: RunConfig, bench: Bench) -> Weights:
    return task.network(bench.cohort.description, config.training(task.name)).state_dict()


def _new_ledger(folder: Path, bench: Bench, center: str, config: RunConfig) -> Ledger:
    everyone = {radiograph.patient for radiograph in bench.cohort.at(center).radiographs}
    return Ledger.init(folder, center, everyone, cap=float(config.target_epsilon or 0))


def _spent(accounts: Mapping[str, Account]) -> dict[str, float]:
    if not accounts:
        return {}
    noise = [account.noise_multiplier for account in accounts.values()]
    return {
        "noise_least": min(noise),
        "noise_most": max(noise),
        "epsilon_most": max(account.ledger.epsilons().claimed for account in accounts.values()),
        "delta_most": max(account.delta for account in accounts.values()),
    }


def score(bench: Bench, task: Task, config: RunConfig, models: Mapping[str, Weights]) -> float:
    """Return the mean over centers of what each center's model reaches on its test patients."""
    training = config.training(task.name)
    network, values = task.network(bench.cohort.description, training), []
    for name, weights in models.items():
        network.load_state_dict(dict(weights))
        examples = task.examples(bench.cohort.at(name), "test", training)
        if task.name == "segmentation":
            values.append(task.quality(task.validate(network, examples, training, CPU)))
            continue
        parts = [
            (logits.double().sigmoid().flatten(), targets) for _, logits, targets in predict(network, examples, CPU)
        ]
        scores, labels = (torch.cat([part[place] for part in parts]).numpy() for place in (0, 1))
        values.append(float(classification_metrics(scores, labels)["auroc"]))  # type: ignore[arg-type]
    return float(np.mean(values))


def gradient_lengths(bench: Bench, training: Training) -> list[float]:
    """Return the first, fifth and ninth decile of how long patients' gradients are at the start, over all centers."""
    config = bench.config(training)
    task = bench.head(training.task, config) if training.arm == "head" else get_task(training.task)
    knobs, found = config.training(task.name), []
    network = task.network(bench.cohort.description, knobs).eval()
    if training.arm != "head":
        network.load_state_dict(starting_weights(task, bench.cohort.description, config))
    for name in bench.cohort.centers:
        examples = task.examples(bench.cohort.at(name), "train", knobs)
        loss = task.loss(examples, knobs)
        for patient in np.unique(examples.patients)[:10]:
            rows = np.flatnonzero(examples.patients == patient)
            inputs, targets = examples.batch(rows, augment_key=None)
            network.zero_grad()
            (loss(network(inputs), targets) * len(rows)).backward()  # type: ignore[no-untyped-call]
            squares = [float(param.grad.square().sum()) for param in network.parameters() if param.grad is not None]
            found.append(sum(squares) ** 0.5)
    return [float(value) for value in np.quantile(found, (0.1, 0.5, 0.9))]
