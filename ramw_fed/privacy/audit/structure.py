"""Properties of the installed training that no statistic of a whole run is needed for: each is measured on its own.

An audit by canaries proves what an attacker can learn, and needs a gross fault to see one. Here a fault of a percent
shows: the noise that is missing, the patient who pushes too far, the sample that is none.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor, nn

from ramw_fed.errors import PrivacyError
from ramw_fed.learning.corrections import Correction, proximal
from ramw_fed.privacy.audit.canaries import CanaryExamples, canary_loss
from ramw_fed.privacy.audit.checks import Check
from ramw_fed.privacy.audit.mechanism import (
    PLAIN,
    Blank,
    Mechanism,
    Protect,
    blank_loss,
    blank_network,
    noise_of_a_step,
    protect,
    train,
)
from ramw_fed.privacy.audit.sampling import ALARM, Drawn, Watched, chi2_p_value, least, sampling_p_values

_PLACES = 20_000


def check_noise(noise_multiplier: float, clip_norm: float, *, protect: Protect = protect) -> Check:
    """Compare the spread of the noise with what is claimed, from steps of patients who all have empty records."""
    mechanism = Mechanism(sampling_rate=1.0, steps=1, noise_multiplier=noise_multiplier, clip_norm=clip_norm)
    claimed = noise_multiplier * clip_norm
    first, second = (noise_of_a_step(mechanism, protect, places=_PLACES) for _ in range(2))
    p_spread = chi2_p_value(float((first**2).sum()) / claimed**2, _PLACES)
    measured = float(np.sqrt((first**2).mean()))
    # Of independent vectors the cosine is normal with variance 1 / places.
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    cosine = float(first @ second / lengths) if lengths > 0 else 1.0
    p_repeat = 2 * norm.sf(abs(cosine) * np.sqrt(_PLACES))
    return Check(
        name="noise",
        claimed=f"deviation {claimed:.4g}, new each time",
        audited=f"deviation {measured:.4g}, {'repeats' if p_repeat < ALARM else 'new each time'}",
        holds=bool(min(p_spread, p_repeat) >= ALARM),
        figures={"claimed": claimed, "measured": measured, "cosine_of_two": cosine},
    )


def check_contribution(clip_norm: float, *, images: Sequence[int] = (1, 2, 40), protect: Protect = protect) -> Check:
    """Measure how far one patient moves all weights together, by gradients far above the clip norm and little noise."""
    noise_multiplier = 1e-4
    mechanism = Mechanism(sampling_rate=1.0, steps=1, noise_multiplier=noise_multiplier, clip_norm=clip_norm)
    lengths = {count: _push(count, mechanism, protect) for count in images}
    return Check(
        name="contribution of a patient",
        claimed=f"at most {clip_norm:.4g}, however many images",
        audited=", ".join(f"{length:.4g} by {count}" for count, length in lengths.items()),
        holds=max(lengths.values()) <= clip_norm * (1 + 10 * noise_multiplier),
        figures={"claimed": clip_norm, "measured": {str(count): length for count, length in lengths.items()}},
    )


class _Layers(nn.Module):
    """Three layers with a weight each, to whose sum an image adds nothing: clipped one by one they would go farther."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ParameterList([torch.zeros(1) for _ in range(3)])

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat(list(self.layers)).sum().expand(len(inputs))


def _push(images: int, mechanism: Mechanism, protect: Protect) -> float:
    model, examples = _Layers(), Blank(["patient"] * images)
    train(
        model,
        examples,
        lambda logits, _: 1000 * mechanism.clip_norm * logits.mean(),
        PLAIN,
        protect(examples.patients, mechanism),
    )
    return float(torch.cat(list(model.parameters())).detach().norm())


def watch_rounds(mechanism: Mechanism, patients: int, rounds: int, protect: Protect) -> Drawn:
    """Return who was in which step of ``rounds`` rounds of patients with one to four images each."""
    watched = Watched(Blank([f"patient {one:05d}" for one in range(patients) for _ in range(1 + one % 4)]))
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1))
    with watched.watching():
        for round_number in range(1, rounds + 1):
            private = protect(watched.patients, mechanism)
            train(model, watched, blank_loss, PLAIN, private, round_number=round_number)
    return watched.drawn


def check_samples(
    *, patients: int = 100, rate: float = 0.2, steps: int = 40, rounds: int = 3, protect: Protect = protect
) -> Check:
    """Test who was in which step against independent coins with the claimed rate."""
    mechanism = Mechanism(sampling_rate=rate, steps=steps, noise_multiplier=1.0, clip_norm=1.0)
    drawn = watch_rounds(mechanism, patients, rounds, protect)
    p_values = sampling_p_values(drawn, rate, steps_per_round=steps)
    worst, p_value = least(p_values)
    sizes = drawn.sum(axis=1)
    return Check(
        name="samples of patients",
        claimed=f"each of {patients} by itself at rate {rate:g}, {rounds * steps} steps",
        audited=f"{len(drawn)} steps of {sizes.min()} to {sizes.max()} patients; least p {p_value:.2g} ({worst})",
        holds=len(drawn) == rounds * steps and p_value >= ALARM,
        figures={"steps": len(drawn), "p_values": p_values},
    )


def check_correction(*, protect: Protect = protect, correct: Callable[..., Correction] = proximal) -> Check:
    """Measure where a proximal term moves weights that stand off their start, with a clip norm of almost nothing.

    After the noise the term acts in full, whatever the clip norm is; inside the clip next to nothing is left of it.
    """
    strength, offset, clip_norm = 0.5, 0.25, 1e-6
    mechanism = Mechanism(sampling_rate=1.0, steps=1, noise_multiplier=1.0, clip_norm=clip_norm)
    model = blank_network(64)
    correction = correct(list(model.parameters()), strength)
    with torch.no_grad():
        model.places.add_(offset)
    examples = CanaryExamples(Blank(), np.ones(4, np.bool_), images=2)
    loss = canary_loss(blank_loss, 1.0)
    train(model, examples, loss, PLAIN, protect(examples.patients, mechanism), correction=correction)
    moved = float((model.places.detach() - offset).mean())
    wanted = -strength * offset
    return Check(
        name="proximal term",
        claimed=f"outside the clip: moves by {wanted:.4g}",
        audited=f"moves by {moved:.4g}",
        holds=bool(torch.allclose(model.places.detach(), torch.tensor(offset + wanted), atol=20 * clip_norm)),
        figures={"claimed": wanted, "measured": moved},
    )


def check_refusals(*, protect: Protect = protect) -> Check:
    """Try what voids the guarantee, and see it refused."""
    tries: dict[str, Callable[[], None]] = {
        "batch normalisation": lambda: _train_through(nn.BatchNorm2d(1), protect),
        "frozen batch normalisation": lambda: _train_through(_frozen(nn.BatchNorm2d(1)), protect),
        "running statistics": lambda: _train_through(nn.InstanceNorm2d(1, track_running_stats=True), protect),
        "protection of one round used for two": lambda: _twice(protect),
        "other patients than those protected": lambda: _of_others(protect),
        "rows that take turns by class": lambda: _in_turns(protect),
    }
    passed = [name for name, attempt in tries.items() if not _is_refused(attempt)]
    return Check(
        name="refusals",
        claimed=f"{len(tries)} ways to void the guarantee are refused",
        audited=f"not refused: {', '.join(passed)}" if passed else f"all {len(tries)} refused",
        holds=not passed,
        figures={"tried": list(tries), "not_refused": passed},
    )


_ONE_STEP = Mechanism(sampling_rate=1.0, steps=1, noise_multiplier=1.0, clip_norm=1.0)


def _is_refused(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except PrivacyError:
        return True
    return False


def _frozen(layer: nn.Module) -> nn.Module:
    return layer.eval().requires_grad_(False)


def _train_through(layer: nn.Module, protect: Protect) -> None:
    # A layer of batch normalisation wants more than one pixel.
    model = nn.Sequential(nn.Upsample(scale_factor=2), layer, nn.Flatten(), nn.Linear(4, 1))
    train(model, Blank(), blank_loss, PLAIN, protect(Blank().patients, _ONE_STEP))


def _twice(protect: Protect) -> None:
    private = protect(Blank().patients, _ONE_STEP)
    for _ in range(2):
        train(blank_network(1), Blank(), blank_loss, PLAIN, private)


def _of_others(protect: Protect) -> None:
    private = protect(np.array(["somebody else"], np.str_), _ONE_STEP)
    train(blank_network(1), Blank(), blank_loss, PLAIN, private)


def _in_turns(protect: Protect) -> None:
    examples = Blank(["first", "second"])
    private = protect(examples.patients, _ONE_STEP)
    train(blank_network(1), examples, blank_loss, PLAIN, private, groups=np.array(["eroded", "intact"]))
