"""The one-run audit of the product: canaries beside real patients, through some rounds of its own training."""

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ramw_fed.config import PhantomConfig, TrainingConfig
from ramw_fed.data.batches import Examples
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import PrivacyError
from ramw_fed.knobs import required
from ramw_fed.privacy.accounting import claimed_epsilon, solve_noise
from ramw_fed.privacy.audit.canaries import toss
from ramw_fed.privacy.audit.checks import Check
from ramw_fed.privacy.audit.mechanism import Mechanism, Protect, canary_scores, protect
from ramw_fed.privacy.audit.one_run import CONFIDENCE, Bound, audited, canaries_needed, largest_provable
from ramw_fed.privacy.withheld import Withheld
from ramw_fed.tasks.task import Task

DELTA = 1e-6
"""At which the audit states epsilon: at a center's own, near 1 / (10 patients), the theorem proves next to nothing."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """How the one-run audit trains.

    Attributes:
        rounds: One after the other, with new protection each.
        steps: Of a round.
        sampling_rate: With which each patient is in a step; so high that each canary is in some step.
        images: Of each canary; each alone would push as far as the patient may, if images were clipped one by one.
        patients: Phantom patients beside the canaries, about so many.
    """

    rounds: int = 2
    steps: int = 8
    sampling_rate: float = 0.5
    images: int = 20
    patients: int = 12

    def mechanism(self, epsilon: float, clip_norm: float) -> Mechanism:
        """Return a round, with the noise that the product solves for this epsilon over all of them."""
        noise = solve_noise([(self.sampling_rate, self.steps * self.rounds)], epsilon, DELTA)
        return Mechanism(
            sampling_rate=self.sampling_rate, steps=self.steps, noise_multiplier=noise, clip_norm=clip_norm
        )


def check_one_run(
    task: Task,
    config: TrainingConfig,
    epsilon: float,
    *,
    design: Design | None = None,
    canaries: int | None = None,
    seed: int | None = None,
    protect: Protect = protect,
) -> Check:
    """Train once with canaries, and hold what their coins' guesses prove against the epsilon that is claimed.

    Args:
        task: Whose default path is trained.
        config: Its knobs; ``clip_norm`` is set.
        epsilon: For which the noise is solved.
        design: How to train; by default as :class:`Design` says.
        canaries: How many; by default so many that the audit can refuse this epsilon, at least 1000.
        seed: Of the coins; by default a new one.
        protect: What protects a round.
    """
    design = design or Design()
    mechanism = design.mechanism(epsilon, required(config.clip_norm, "clip-norm"))
    claimed = claimed_epsilon([mechanism.event()] * design.rounds, DELTA)
    canaries = canaries or canaries_needed(claimed, DELTA)
    _refuse_too_few(canaries, claimed)
    is_in = toss(canaries, np.random.default_rng(seed))
    real, network = _beside(task, config, design.patients)
    scores = canary_scores(
        network,
        real,
        task.loss(Withheld(), config),  # type: ignore[arg-type]
        _read_by_attacker(config),
        mechanism,
        is_in,
        images=design.images,
        rounds=design.rounds,
        protect=protect,
    )
    return _stated(audited(scores, is_in, DELTA), claimed, canaries, mechanism, design)


def _beside(task: Task, config: TrainingConfig, patients: int) -> tuple[Examples, nn.Module]:
    """Return examples of phantom patients, written and read as any cohort, and the network that learns them."""
    with tempfile.TemporaryDirectory(prefix="ramw-fed-audit-") as folder:
        root = Path(folder) / "phantom"
        # About half of the patients are trained on.
        size = int(getattr(config, "image_size", 96))
        write_phantom(PhantomConfig(patients=2 * patients, centers=1, size=size), root)
        cohort = read_cohort(root)
        examples = task.examples(cohort, "train", config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = task.network(cohort.description, config)
    return examples, network


def _read_by_attacker(config: TrainingConfig) -> TrainingConfig:
    """Return the knobs with plain steps of one length, which add up the noisy gradients.

    Any optimizer is computed from these, and no guarantee depends on which; adamw divides by what it has seen, which
    hides from this attacker what another one might find.
    """
    return replace(
        config,
        optimizer="sgd",
        learning_rate=0.01,
        final_learning_rate=1.0,
        warmup_steps=0,
        weight_decay=0.0,
        average=0.0,
    )


def _refuse_too_few(canaries: int, claimed: float) -> None:
    most = largest_provable(canaries, DELTA)
    if most <= claimed:
        raise PrivacyError(
            f"{canaries} canaries can prove an epsilon of {most:.3f} at most, so that they could never refuse "
            f"{claimed:.3f}; take {canaries_needed(claimed, DELTA)}"
        )


def _stated(bound: Bound, claimed: float, canaries: int, mechanism: Mechanism, design: Design) -> Check:
    return Check(
        name=f"one-run audit, {canaries} canaries",
        claimed=f"epsilon {claimed:.3f} at delta {DELTA:g}",
        audited=(
            f"epsilon at least {bound.epsilon:.3f} ({CONFIDENCE:.0%}; {bound.right} of {bound.guesses} guesses right; "
            f"all right would prove {bound.most:.3f})"
        ),
        holds=bound.epsilon <= claimed,
        figures={
            **asdict(bound),
            "claimed": claimed,
            "delta": DELTA,
            "canaries": canaries,
            "noise_multiplier": mechanism.noise_multiplier,
            "clip_norm": mechanism.clip_norm,
            **asdict(design),
        },
    )
