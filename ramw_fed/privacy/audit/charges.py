"""Is everything charged that is done? The ledger of some rounds against what their training really did."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ramw_fed.config import ErosionConfig, RunConfig
from ramw_fed.privacy.account import Account
from ramw_fed.privacy.accounting import claimed_epsilon
from ramw_fed.privacy.audit.canaries import CanaryExamples, canary_loss
from ramw_fed.privacy.audit.checks import Check
from ramw_fed.privacy.audit.mechanism import PLAIN, Blank, blank_loss, blank_network, train
from ramw_fed.privacy.audit.sampling import ALARM, Drawn, Watched, chi2_p_value, least, sampling_p_values
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.ledger import Ledger

_CENTER, _TASK, _ROUNDS = "audit", "erosion", 3
_PATIENTS, _PER_STEP, _CLIP_NORM, _NOISE_MULTIPLIER = 40, 10, 0.5, 1.5

_RUN = RunConfig(
    tasks=(_TASK,),
    privacy="patient",
    noise_multiplier=_NOISE_MULTIPLIER,
    delta=1 / (10 * _PATIENTS),
    erosion=ErosionConfig(
        norm="group",
        loss="cross-entropy",
        sampling="shuffled",
        num_rounds=_ROUNDS,
        local_epochs=3,
        patients_per_step=_PER_STEP,
        clip_norm=_CLIP_NORM,
    ),
)


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What the rounds did.

    Attributes:
        drawn: Who was in which step.
        noise: ``(places,)`` sum of the noise of all steps, read from the weights.
        stated: Epsilon that was stated with the last update.
    """

    drawn: Drawn
    noise: NDArray[np.float64]
    stated: float

    @property
    def noise_multiplier(self) -> float:
        """Deviation of a step's noise in units of the clip norm."""
        return float(np.sqrt((self.noise**2).mean() / max(len(self.drawn), 1)) / _CLIP_NORM)


def check_charges(folder: Path) -> Check:
    """Train three rounds, each with ledger and account opened anew as a center does; compare steps, rate and noise.

    Args:
        folder: New, for the ledger.
    """
    names = [f"canary {number}" for number in range(_PATIENTS - 1)] + ["nobody"]
    Ledger.init(folder, _CENTER, names, cap=1000.0)
    done = _train(folder, names)
    return _compare(Ledger.open(folder, _CENTER, names).events(), done)


def _train(folder: Path, names: Sequence[str]) -> _Done:
    watched = Watched(CanaryExamples(Blank(), np.zeros(_PATIENTS - 1, np.bool_), images=1))
    model, plain, stated = blank_network(5_000), replace(PLAIN, num_rounds=_ROUNDS), 0.0
    with watched.watching():
        for round_number in range(1, _ROUNDS + 1):
            account = Account(Ledger.open(folder, _CENTER, names), _RUN, _CENTER, {_TASK: _PATIENTS})
            paid = account.reserve("run of the audit", _TASK, round_number)
            private = account.steps(_TASK, watched.patients, round_number)
            train(model, watched, canary_loss(blank_loss, 1.0), plain, private, round_number=round_number)
            weights = model.places.detach().numpy()
            account.ledger.release(paid, hashlib.sha256(weights.tobytes()).hexdigest())
            stated = account.charge(paid).epsilon.claimed
    return _Done(drawn=watched.drawn, noise=weights.astype(np.float64) * _PER_STEP, stated=stated)


def _compare(events: Sequence[Event], done: _Done) -> Check:
    charged, steps = sum(event.steps for event in events), len(done.drawn)
    real = [Event(sampling_rate=_PER_STEP / _PATIENTS, noise_multiplier=_NOISE_MULTIPLIER, steps=steps)]
    epsilon, ledgered = claimed_epsilon(real, _RUN.delta or 0.0), claimed_epsilon(events, _RUN.delta or 0.0)
    worst, p_samples = least(
        sampling_p_values(done.drawn, events[0].sampling_rate, steps_per_round=max(charged // _ROUNDS, 1))
    )
    squares = sum(event.steps * event.noise_multiplier**2 for event in events) * _CLIP_NORM**2
    faults = {
        "steps": charged != steps,
        f"samples ({worst})": p_samples < ALARM,
        "noise": chi2_p_value(float((done.noise**2).sum() / squares), done.noise.size) < ALARM,
        "epsilon": not all(abs(one - epsilon) <= 1e-6 * epsilon for one in (ledgered, done.stated)),
    }
    wrong = [name for name, is_wrong in faults.items() if is_wrong]
    remark = f"; wrong: {', '.join(wrong)}" if wrong else ""
    return Check(
        name=f"ledger over {_ROUNDS} rounds",
        claimed=f"{charged} steps, noise {events[0].noise_multiplier:.3f}, epsilon {ledgered:.3f}",
        audited=f"{steps} steps, noise {done.noise_multiplier:.3f}, epsilon {epsilon:.3f}{remark}",
        holds=not wrong,
        figures={
            "charged_steps": charged,
            "steps": steps,
            "charged_epsilon": ledgered,
            "stated_epsilon": done.stated,
            "epsilon": epsilon,
            "noise_multiplier": done.noise_multiplier,
            "wrong": wrong,
        },
    )
