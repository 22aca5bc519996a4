"""From a run folder, or the package, to a network that is ready to predict."""

from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ramw_fed.center import Center
from ramw_fed.config import TASK_CONFIGS
from ramw_fed.data.radiograph import Split
from ramw_fed.errors import ConfigError
from ramw_fed.learning.training import pick_device
from ramw_fed.learning.weights_file import Card, load_weights
from ramw_fed.methods import Weights
from ramw_fed.methods.unseen import weights_at, with_rule
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks import TASKS
from ramw_fed.tasks.task import Task


def weights_for(folder: RunFolder, task: Task, center: Center, rule: str | None, split: Split) -> Weights:
    """Return a finished run's weights for ``center``: its own part where it has one, else by a rule.

    Args:
        folder: Of the run.
        task: Whose weights.
        center: Of the run or not.
        rule: As in :func:`ramw_fed.methods.unseen.weights_at`.
        split: Whose images a rule may read; no label is.

    Raises:
        ConfigError: A rule is wanted and there is none.
        RunError: There are no such weights.
    """
    weights, own = folder.load_model(task.name)[0], folder.load_own(task.name)
    network = task.untrained(center.description, center.config.training(task.name)).to(center.device)
    return weights_at(center.name, weights, own, rule, network, partial(center.images, task, split))


@dataclass(frozen=True)
class Trained:
    """A network on its device, and what its weights say of themselves."""

    network: nn.Module
    card: Card
    device: torch.device


@dataclass(frozen=True)
class Source:
    """Where weights come from.

    Attributes:
        run: Folder of a finished run; None for the weights that come with the package.
        center: Whose images they are for, where the run left tensors at its centers.
        rule: What a center gets that took no part in such a run; None for what the run was configured with.
    """

    run: Path | None
    center: str | None
    rule: str | None

    def load(self, task: Literal["segmentation", "erosion"]) -> Trained:
        """Return the network of ``task``.

        Raises:
            ConfigError: Center or rule are wanted and not given, or given where all centers have the same weights.
            RunError: There are no such weights.
        """
        weights, card = self._shipped(task) if self.run is None else self._of_run(RunFolder.open(self.run), task)
        device = pick_device("auto")
        return Trained(TASKS[task].restore(weights, card, device), card, device)

    def _shipped(self, task: str) -> tuple[Weights, Card]:
        if self.center is not None or self.rule is not None:
            raise ConfigError("the shipped weights are the same for every center; leave --center and the rule out")
        with resources.as_file(resources.files("ramw_fed") / "weights" / f"{task}.safetensors") as path:
            return load_weights(path)

    def _of_run(self, folder: RunFolder, task: str) -> tuple[Weights, Card]:
        (weights, card), own = folder.load_model(task), folder.load_own(task)
        rule = with_rule(folder.config(), self.rule).unseen_batch_norm
        if rule is None and not own:  # its method shares all tensors
            if self.center is not None:
                raise ConfigError(f"all centers of {folder.path} have the same weights; leave --center out")
            return weights, card
        self._refuse_unsaid(folder, sorted(own), rule)
        network = TASKS[task].untrained(card.description, TASK_CONFIGS[task].read(card.training))
        return weights_at(self.center or "", weights, own, rule, network, lambda: torch.empty(0)), card

    def _refuse_unsaid(self, folder: RunFolder, known: list[str], rule: str | None) -> None:
        if self.center in known or not known:
            return
        if self.center is None and rule in (None, "refuse"):
            raise ConfigError(
                f"the centers of {folder.path} have batch normalisation of their own; say whose images these are with "
                f"--center (of {', '.join(known)}), or choose --unseen-batch-norm mean for a center that took no part"
            )
        if rule not in (None, "refuse", "mean"):
            raise ConfigError(
                f"unseen-batch-norm {rule!r} reads all images of a center, and predict takes them one by one; take "
                "mean, or measure a cohort with ramw-fed evaluate"
            )
