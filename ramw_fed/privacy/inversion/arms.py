"""The updates that are attacked, each made by the product's own training, and what the attack finds in them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramw_fed.config import ErosionConfig
from ramw_fed.data.batches import Examples
from ramw_fed.learning.training import train_round
from ramw_fed.privacy.accounting import claimed_epsilon, solve_noise
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.inversion.likeness import Likeness, likeness, place
from ramw_fed.privacy.inversion.prepared import prepared_weights
from ramw_fed.privacy.inversion.reading import Weights, match_gradient, read_image
from ramw_fed.privacy.inversion.scene import Chosen, Scene, Wanted
from ramw_fed.privacy.randomness import seeded
from ramw_fed.privacy.sgd import PatientSteps
from ramw_fed.privacy.workload import workload
from ramw_fed.progress import Watch, nobody
from ramw_fed.seeding import derive_seed
from ramw_fed.tasks.erosion import EROSION

Crossing = Callable[[Weights], Weights]
"""What becomes of an update's tensors between the center and the coordinator: there and back through its bytes."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One kind of update.

    Attributes:
        name: Unique.
        is_round: A whole round over all patients of the center, else one step on one image.
        epsilon: What the patients are promised: an image of its step alone, a round of the whole run; None: nothing.
        is_prepared: The coordinator has prepared the weights, else it sends the seeded ones of a first round.
    """

    name: str
    is_round: bool
    epsilon: float | None
    is_prepared: bool = True


CONTROL = Arm(name="one image", is_round=False, epsilon=None)
ARMS = (
    CONTROL,
    Arm(name="one image, ordinary weights", is_round=False, epsilon=None, is_prepared=False),
    Arm(name="usual round", is_round=True, epsilon=None),
    Arm(name="usual round, epsilon 8", is_round=True, epsilon=8.0),
    Arm(name="usual round, epsilon 1", is_round=True, epsilon=1.0),
    Arm(name="one image, epsilon 8", is_round=False, epsilon=8.0),
    Arm(name="one image, epsilon 1", is_round=False, epsilon=1.0),
)

# The coordinator sets the rate. The prepared network must hardly move while it is trained, and an ordinary one may.
_PREPARED_RATE, _PRIVATE_RATE, _ORDINARY_RATE = 1e-8, 1e-6, 0.1
# A clipped gradient has the same length however loud it was, so there the wanted part of it may be as loud as can be.
_QUIET, _LOUD = 1e-4, 1.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What an attack found of one wanted image in one arm's update.

    Attributes:
        arm: Its name.
        wanted: Number of the image.
        picture: ``(S, S)`` the reconstruction, standardised.
        likeness: To the true image.
        named: Place of the true image among the candidates by whose own gradient the update points to, from 1: an
            attacker who has all their pictures, and asks which of them was trained on.
    """

    arm: str
    wanted: int
    picture: Tensor
    likeness: Likeness
    named: int

    def as_dict(self) -> dict[str, Any]:
        """Return it without the picture."""
        return {
            "arm": self.arm,
            "image": self.wanted,
            **asdict(self.likeness),
            "named": self.named,
            "is_reconstruction": self.likeness.is_reconstruction,
        }


@dataclass(frozen=True, kw_only=True)
class Protection:
    """What an arm's patients were promised, and by which noise.

    Attributes:
        epsilon: Of all that the promise covers.
        delta: Of the promise.
        noise_multiplier: Of each step.
        sampling_rate: Of each step.
        steps: Of this update.
        clip_norm: Of a patient's gradient.
        spent: Epsilon of this update alone.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    sampling_rate: float
    steps: int
    clip_norm: float
    spent: float


class Attack:
    """All arms on one scene."""

    def __init__(self, scene: Scene, crossing: Crossing, *, seed: int, match_steps: int) -> None:
        self.scene, self.crossing, self.seed, self.match_steps = scene, crossing, seed, match_steps
        self.network = EROSION.untrained(scene.description, scene.config)
        self.loss = EROSION.loss(scene.examples, scene.config)
        self._gradients: dict[tuple[bool, bool], Tensor] = {}

    def run(self, arms: Sequence[Arm] = ARMS, watch: Watch = nobody) -> list[Finding]:
        """Return what is found in each arm's update, of each wanted image in turn."""
        rounds = {arm.name: self.update(arm, None) for arm in arms if arm.is_round}
        found: list[Finding] = []
        total = len(arms) * len(self.scene.wanted)
        for number, wanted in enumerate(self.scene.wanted):
            self._gradients.clear()  # half a gigabyte
            for arm in arms:
                watch("reconstruction", len(found), total)
                found.append(self._look(arm, number, rounds.get(arm.name) or self.update(arm, wanted), wanted))
        watch("reconstruction", total, total)
        return found

    def update(self, arm: Arm, wanted: Wanted | None) -> tuple[Weights, Weights]:
        """Return the weights that the center was sent, and those that came back from it."""
        before, config = self.before(arm), self.config(arm)
        self.network.load_state_dict(dict(before))
        examples: Examples = self.scene.examples
        if wanted is not None:
            examples = Chosen(self.scene.examples, np.array([wanted.row]))
        train_round(
            self.network,
            examples,
            self.loss,
            config,
            correction=None,
            key=(self.seed, EROSION.name, 1, self.scene.center),
            round_number=1,
            device=torch.device("cpu"),
            groups=EROSION.groups(self.scene.examples, config) if arm.is_round and not arm.epsilon else None,
            private=self._private(arm, examples, 0 if wanted is None else wanted.row),
        )
        after = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        return before, self.crossing(after)

    def before(self, arm: Arm) -> Weights:
        """Return the weights that the coordinator sends."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, EROSION.name, "initial"))
            network = EROSION.network(self.scene.description, self.scene.config)
        if arm.is_prepared:
            return prepared_weights(network, loudness=_LOUD if arm.epsilon else _QUIET)
        return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def config(self, arm: Arm) -> ErosionConfig:
        """Return the knobs: the center's, with the plain steps and the rate that suit the attacker."""
        rate = _ORDINARY_RATE if not arm.is_prepared else _PRIVATE_RATE if arm.epsilon else _PREPARED_RATE
        plain = replace(
            self.scene.config,
            optimizer="sgd",
            learning_rate=rate,
            final_learning_rate=1.0,
            warmup_steps=0,
            weight_decay=0.0,
        )
        return plain if arm.is_round else replace(plain, local_epochs=1, batch_size=1)

    def protection(self, arm: Arm) -> Protection | None:
        """Return what the arm's patients are promised."""
        if arm.epsilon is None:
            return None
        delta = 1 / (10 * self.scene.num_patients)
        rate, steps, rounds = 1.0, 1, 1
        if arm.is_round:
            planned = workload(self.scene.config, self.scene.num_patients)
            rate, steps, rounds = planned.sampling_rate, planned.steps, planned.rounds
        noise = solve_noise([(rate, steps * rounds)], arm.epsilon, delta)
        assert self.scene.config.clip_norm is not None
        return Protection(
            epsilon=arm.epsilon,
            delta=delta,
            noise_multiplier=noise,
            sampling_rate=rate,
            steps=steps,
            clip_norm=self.scene.config.clip_norm,
            spent=claimed_epsilon([Event(sampling_rate=rate, noise_multiplier=noise, steps=steps)], delta),
        )

    def _private(self, arm: Arm, examples: Examples, row: int) -> PatientSteps | None:
        protection = self.protection(arm)
        if protection is None:
            return None
        return PatientSteps(
            examples.patients,
            sampling_rate=protection.sampling_rate,
            steps=protection.steps,
            noise_multiplier=protection.noise_multiplier,
            clip_norm=protection.clip_norm,
            randomness=seeded(self.seed, arm.name, row),
            rows_at_once=self.scene.config.batch_size,
        )

    def _look(self, arm: Arm, number: int, update: tuple[Weights, Weights], wanted: Wanted) -> Finding:
        before, after = update
        named = self._name(arm, update, wanted)
        self.network.load_state_dict(dict(before))
        seed = derive_seed(self.seed, arm.name, number)
        if arm.is_prepared:
            picture = read_image(self.network, before, after, wanted.identity, wanted.label, self.loss, seed=seed)
        else:
            names = [name for name, _ in self.network.named_parameters()]
            gradient = [before[name] - after[name] for name in names]
            picture = match_gradient(
                self.network, gradient, wanted.identity, wanted.label, self.loss, steps=self.match_steps, seed=seed
            )
        alike = likeness(picture, wanted.image, list(wanted.others))
        return Finding(arm=arm.name, wanted=number, picture=picture, likeness=alike, named=named)

    def _name(self, arm: Arm, update: tuple[Weights, Weights], wanted: Wanted) -> int:
        before, after = update
        key = (arm.is_prepared, arm.epsilon is not None)
        if key not in self._gradients:
            self.network.load_state_dict(dict(before))
            self._gradients[key] = self._candidates(wanted)
        names = [name for name, _ in self.network.named_parameters()]
        change = torch.cat([(before[name] - after[name]).flatten() for name in names])
        scores = (self._gradients[key] @ change).tolist()
        return place(scores[0], scores[1:])

    def _candidates(self, wanted: Wanted) -> Tensor:
        """Return each candidate's gradient, of length 1; the true image's is the first.

        Where all are clipped to one length, the largest product with a noisy one is the likeliest (Neyman and Pearson).
        """
        images = torch.cat([wanted.image[None], wanted.others])
        labels = torch.cat([wanted.label, wanted.other_labels])
        params = list(self.network.parameters())
        gradients = torch.zeros(len(images), sum(param.numel() for param in params))
        for row, image, label in zip(gradients, images, labels, strict=True):
            value = self.loss(self.network(torch.cat([image[None], wanted.identity])[None]), label[None])
            parts = torch.autograd.grad(value, params)
            torch.cat([part.flatten() for part in parts], out=row)
        gradients /= gradients.norm(dim=1, keepdim=True).clamp(min=1e-30)
        return gradients


def summary(findings: Sequence[Finding]) -> Mapping[str, Mapping[str, Any]]:
    """Return by arm, over its images: medians of the measures, and how many were reconstructed."""
    by_arm: dict[str, list[Finding]] = {}
    for one in findings:
        by_arm.setdefault(one.arm, []).append(one)
    return {arm: _summarized(own) for arm, own in by_arm.items()}


def _summarized(findings: Sequence[Finding]) -> dict[str, Any]:
    def median(values: Sequence[float]) -> float:
        column: NDArray[np.float64] = np.array(values, np.float64)
        return float(np.median(column))

    alike = [one.likeness for one in findings]
    return {
        "images": len(findings),
        "reconstructed": sum(one.is_reconstruction for one in alike),
        "correlation": median([one.correlation for one in alike]),
        "psnr": median([one.psnr for one in alike]),
        "ssim": median([one.ssim for one in alike]),
        "others": median([one.others for one in alike]),
        "rank": median([one.rank for one in alike]),
        "named": median([one.named for one in findings]),
        "candidates": median([one.candidates for one in alike]),
    }
