"""A membership-inference attack on the product's own training: does the loss tell who was trained on?"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ramw_fed.config import SegmentationConfig
from ramw_fed.data.phantom.writer import PHANTOM
from ramw_fed.learning.inference import predict
from ramw_fed.learning.losses import dice_bce
from ramw_fed.privacy.accounting import solve_noise
from ramw_fed.privacy.audit.checks import Check
from ramw_fed.privacy.audit.mechanism import Mechanism, Protect, protect, train
from ramw_fed.privacy.audit.membership import Attack, attack
from ramw_fed.privacy.audit.phantoms import Wrists, draw_patients, gathered
from ramw_fed.privacy.guarantee import guarantee
from ramw_fed.progress import Watch, nobody
from ramw_fed.tasks import get_task

_CPU = torch.device("cpu")
# An attack that does not surely find more than this where nothing protects proves nothing where something does.
_CONTROL = 0.1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who is attacked.

    Attributes:
        members: Patients who are trained on, and as many others for the model that says how hard each patient is.
        others: Patients who are not.
        epochs: Passes over the members: so many that without privacy the network learns them by heart.
        size: Side of the images in pixels.
        sampling_rate: With which each member is in a private step.
    """

    members: int = 60
    others: int = 1000
    epochs: int = 24
    size: int = 64
    sampling_rate: float = 0.05

    def config(self) -> SegmentationConfig:
        """Return the default network at this size, trained on the images as they are: variation protects, too."""
        return SegmentationConfig(
            image_size=self.size,
            norm="group",
            augmentation="none",
            num_rounds=1,
            local_epochs=self.epochs,
            batch_size=2,
        )

    def mechanism(self, epsilon: float, delta: float) -> Mechanism:
        """Return as many private steps as the epochs are, with the noise for this guarantee."""
        steps = max(1, round(self.epochs / self.sampling_rate))
        noise = solve_noise([(self.sampling_rate, steps)], epsilon, delta)
        return Mechanism(sampling_rate=self.sampling_rate, steps=steps, noise_multiplier=noise, clip_norm=1.0)


class Victims:
    """Members, others, and what a model that saw neither finds hard."""

    def __init__(self, plan: Plan, *, seed: int = 0, watch: Watch = nobody) -> None:
        """Draw the patients and train the model of the attacker, on patients of the attacker's own."""
        self.plan, self.config = plan, plan.config()
        count = plan.others + 2 * plan.members
        drawn = []
        for one in draw_patients(count, self.config, seed=seed):
            drawn.append(one)
            watch("phantom patients", len(drawn), count)
        everybody = gathered(drawn, self.config)
        self.members = everybody.part(0, plan.members)
        self.others = everybody.part(2 * plan.members, count)
        reference = self.trained(None, everybody.part(plan.members, 2 * plan.members))
        self._usual = {id(one): losses(reference, one) for one in (self.members, self.others)}

    def trained(self, mechanism: Mechanism | None, wrists: Wrists, *, protect: Protect = protect) -> nn.Module:
        """Return the network after training on ``wrists``, privately where there is a mechanism."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = get_task("segmentation").network(PHANTOM, self.config)
        private = None if mechanism is None else protect(wrists.patients, mechanism)
        train(network, wrists, dice_bce, self.config, private)
        return network

    def attacked(self, network: nn.Module) -> dict[str, Attack]:
        """Return what two attacks find: by the loss, and by how far it lies below that of the attacker's own model."""
        own = {id(one): losses(network, one) for one in (self.members, self.others)}
        scores: dict[str, Callable[[Wrists], NDArray[np.float64]]] = {
            "loss": lambda wrists: -own[id(wrists)],
            "loss against a reference": lambda wrists: np.log(self._usual[id(wrists)] / own[id(wrists)]),
        }
        return {name: attack(score(self.members), score(self.others)) for name, score in scores.items()}


def losses(network: nn.Module, wrists: Wrists) -> NDArray[np.float64]:
    """Return the training loss of each patient's image."""
    return np.array(
        [
            float(dice_bce(logits[place : place + 1], targets[place : place + 1]))
            for _, logits, targets in predict(network, wrists, _CPU)
            for place in range(len(logits))
        ]
    )


def check_control(victims: Victims) -> Check:
    """Attack a network that was trained without privacy: an attack that fails here proves nothing elsewhere."""
    found = victims.attacked(victims.trained(None, victims.members))
    name, best = max(found.items(), key=lambda pair: pair[1].low)
    return Check(
        name="membership, no privacy (control)",
        claimed=f"attackable: above {_CONTROL:.0%} at 1 % false alarms",
        audited=_words(name, best),
        holds=best.low > _CONTROL,
        figures={name: asdict(one) for name, one in found.items()},
    )


def check_membership(victims: Victims, epsilon: float, delta: float, *, protect: Protect = protect) -> Check:
    """Attack a network that was trained for (epsilon, delta), and compare with what that lets any attack find."""
    mechanism = victims.plan.mechanism(epsilon, delta)
    found = victims.attacked(victims.trained(mechanism, victims.members, protect=protect))
    worth = guarantee([mechanism.event()], delta)
    bounds = {name: worth.largest_sensitivity(one.false_high) for name, one in found.items()}
    name, worst = max(found.items(), key=lambda pair: pair[1].true_positives)
    return Check(
        name=f"membership, epsilon {epsilon:g}",
        claimed=f"at most {bounds[name]:.1%} found (epsilon {worth.epsilon:.3f}, delta {delta:.2g})",
        audited=_words(name, worst),
        holds=all(one.low <= bounds[name] for name, one in found.items()),
        figures={name: {**asdict(one), "most": bounds[name]} for name, one in found.items()},
    )


def _words(name: str, one: Attack) -> str:
    return (
        f"{one.true_positives:.1%} of {one.members} [{one.low:.1%}, {one.high:.1%}] at "
        f"{one.false_positives:.1%} of {one.others} others, AUROC {one.auroc:.3f} ({name})"
    )
