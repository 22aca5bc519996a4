"""One center: its own radiographs, the task, the method. What it knows of the others is the weights it is sent."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ramw_fed.config import RunConfig
from ramw_fed.data.cohort import Cohort, Description
from ramw_fed.data.radiograph import Split
from ramw_fed.errors import PrivacyError
from ramw_fed.learning.corrections import squared_drift
from ramw_fed.learning.training import Private, pick_device, train_round
from ramw_fed.methods.method import Method, Weights
from ramw_fed.methods.unseen import images_of
from ramw_fed.privacy.account import Charge
from ramw_fed.privacy.sums import PatientSums
from ramw_fed.privacy.withheld import Withheld
from ramw_fed.seeding import derive_seed
from ramw_fed.tasks.task import Counts, Examples, Sums, Table, Task


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """What a center registers once, before the first round, for one task.

    Attributes:
        patients: Patients with a training example; the center's weight in every mean. 0: it does not train.
        examples: Training examples (images or joints).
        validation: Validation examples.
        test: Radiographs of the test split with the task's labels.

            Where a run protects patients, only their number is told: ``examples`` is ``patients``, and the others are 0
            unless the run evaluates without protection; ``validation`` is patients too where validation is paid for.
        counts: Training examples of each class; empty unless the run asks for them.
    """

    patients: int
    examples: int
    validation: int
    test: int
    counts: Counts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one center sends after one round of one task.

    Attributes:
        center: Name.
        weights: Shared tensors after the local steps.
        examples: Training examples that were used.
        steps: Steps of the optimizer that were done.
        loss: Mean plain loss over the steps, without any correction; None where patients are protected.
        squared_drift: Squared distance of the parameters from the round's start.
        seconds: Wall time of the training; 0 where patients are protected.
        worker: Number of the process that did it.
        device: What it computed on, ``cpu`` or ``cuda``.
        own: The other tensors after the local steps: they stay at the center, which goes on from them.
        charge: What the update cost the center's patients; None where the run does not protect them.
    """

    center: str
    weights: dict[str, Tensor]
    examples: int
    steps: int
    loss: float | None
    squared_drift: float
    seconds: float
    worker: int
    device: str
    own: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    charge: Charge | None = None


def initial_weights(task: Task, description: Description, config: RunConfig) -> dict[str, Tensor]:
    """Return the seeded weights with which a federation of ``task`` starts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, task.name, "initial"))
        network = task.network(description, config.training(task.name))
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


class Center:
    """A center that trains and evaluates on its own radiographs only.

    One network a task is built once and reused: building costs more than loading weights.
    """

    def __init__(self, name: str, cohort: Cohort, config: RunConfig, method: Method) -> None:
        """Take the radiographs of ``cohort`` that belong to ``name``."""
        self.name = name
        self.cohort = cohort.at(name)
        self.config = config
        self.method = method
        self.device = pick_device(config.device)
        self._networks: dict[str, nn.Module] = {}
        self._examples: dict[tuple[str, Split], Examples] = {}

    @property
    def description(self) -> Description:
        """What the center's radiographs show."""
        return self.cohort.description

    def enrol(self, task: Task) -> Enrolment:
        """Return what the center has to train ``task``."""
        examples = self._read(task, "train")
        patients, told = self.num_training_patients(task), self.config.is_evaluated
        return Enrolment(
            patients=patients,
            examples=patients if self.config.is_private else len(examples),
            validation=len(self._read(task, "val")) if told else self._num_paid_for(task),
            test=len(task.of(self.cohort, "test").radiographs) if told else 0,
            counts={} if self.config.is_private else task.counts(examples, self.config.training(task.name)),
        )

    def training_patients(self, task: Task) -> NDArray[np.str_]:
        """Return ``(rows,)`` whose each training example is."""
        return self._read(task, "train").patients

    def num_training_patients(self, task: Task) -> int:
        """Return how many patients have a training example."""
        return len(np.unique(self.training_patients(task)))

    def validation_patients(self, task: Task) -> NDArray[np.str_]:
        """Return ``(rows,)`` whose each validation example is."""
        return self._read(task, "val").patients

    def _num_paid_for(self, task: Task) -> int:
        return len(np.unique(self.validation_patients(task))) if self.config.pays_to_validate else 0

    def train(self, task: Task, weights: Weights, round_number: int, private: Private | None = None) -> Update:
        """Train from ``weights`` for one round.

        Args:
            task: What to learn.
            weights: The round's start.
            round_number: From 1.
            private: Protects the patients; there must be one where the configuration says so, and else none.

        Raises:
            PrivacyError: It is missing, or the loss looks at other patients.
        """
        if self.config.is_private == (private is None):
            raise PrivacyError(
                f"privacy is {self.config.privacy!r}, and the steps of this round say otherwise; nothing is trained"
            )
        started = time.perf_counter()
        config = self.config.training(task.name)
        network = self._load(task, weights)
        examples = self._read(task, "train")
        named = {name: param for name, param in network.named_parameters() if param.requires_grad}
        names, params = list(named), list(named.values())
        log = train_round(
            network,
            examples,
            task.loss(examples if private is None else Withheld(), config),  # type: ignore[arg-type]
            config,
            correction=self.method.correction(params, self.config),
            key=(self.config.seed, task.name, round_number, self.name),
            round_number=round_number,
            device=self.device,
            groups=None if private else task.groups(examples, config),
            private=private,
        )
        ends = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        shared, own = self.method.part(ends)
        return Update(
            center=self.name,
            weights=shared,
            examples=self.num_training_patients(task) if private else len(examples),
            steps=log.steps,
            loss=log.loss,
            squared_drift=squared_drift(params, [weights[name].to(self.device) for name in names]),
            # How long it took tells who was drawn.
            seconds=0.0 if private else time.perf_counter() - started,
            worker=os.getpid(),
            device=self.device.type,
            own=own,
        )

    def validate(self, task: Task, weights: Weights, private: PatientSums | None = None) -> Sums:
        """Return sums over the validation split, to be added up across centers; empty where it has none.

        Args:
            task: What is learned.
            weights: To validate.
            private: Adds noise; there must be one where the configuration pays for it, and else none. Then the sums are
                those of the task's ``contributions``.

        Raises:
            PrivacyError: It is missing.
        """
        if self.config.pays_to_validate == (private is None):
            raise PrivacyError(
                f"evaluation is {self.config.evaluation!r}, and the sums of this round say otherwise; nothing is told"
            )
        examples, config = self._read(task, "val"), self.config.training(task.name)
        if len(examples) == 0:
            return {}
        network = self._load(task, weights)
        if private is None:
            return task.validate(network, examples, config, self.device)
        own = task.validation()
        noisy = private.release(own.rows(network, examples, config, self.device))
        return {name: float(value) for name, value in zip(own.names, noisy, strict=True)}

    def measure(self, task: Task, weights: Weights, split: Split) -> Table:
        """Return a row for each radiograph (or joint) of ``split``."""
        config = self.config.training(task.name)
        return task.measure(self._load(task, weights), self.cohort, split, config, self.device)

    def images(self, task: Task, split: Split) -> Tensor:
        """Return the images of ``split`` as the task's network takes them, in order, without their labels."""
        return images_of(self._read(task, split))

    def _read(self, task: Task, split: Split) -> Examples:
        if (task.name, split) not in self._examples:
            config = self.config.training(task.name)
            self._examples[task.name, split] = task.examples(self.cohort, split, config)
        return self._examples[task.name, split]

    def _load(self, task: Task, weights: Weights) -> nn.Module:
        if task.name not in self._networks:
            network = task.untrained(self.description, self.config.training(task.name))
            self._networks[task.name] = network.to(self.device)
        network = self._networks[task.name]
        network.load_state_dict(dict(weights))
        return network
