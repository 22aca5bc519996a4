"""What the manifest says of privacy: unit, epsilon and delta of each center, how it was counted, what else left."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ramw_fed.config import RunConfig
from ramw_fed.federation.opening import run_tasks
from ramw_fed.privacy.accounting import claimed_epsilon
from ramw_fed.privacy.event import Event

_OFF, _FIXED, _PUBLIC = "off: not told", "fixed beforehand: no look at the patients", "none: a public number"
_OUTSIDE = "not covered: outside the guarantee, as evaluation = 'unprotected' says"
_COVERED = "covered by epsilon"


def privacy_record(
    config: RunConfig,
    charges: Mapping[str, Mapping[str, Any]],
    rounds: Sequence[Mapping[str, Any]],
    centers: Iterable[str],
) -> dict[str, Any] | None:
    """Return the manifest's ``privacy``; None where the run protects nobody.

    Args:
        config: The run's.
        charges: Center to what it last said, as ``promises.py`` keeps it.
        rounds: Lines of ``rounds.jsonl``.
        centers: All that were asked.
    """
    if not config.is_private:
        return None
    is_seeded = any(charge["is_seeded"] for charge in charges.values())
    return {
        "unit": "patient: all images, hands, exams and joints of one patient at one center",
        "neighbours": "the records of one patient replaced by none; how many patients a center has is public",
        "assumption": "no patient is at two centers: then each center's epsilon holds for its own patients",
        "mechanism": "DP-SGD: each patient's summed gradient clipped on its own, Gaussian noise on their sum",
        "sampling": "Poisson: in every step each patient with the same probability, independently",
        "randomness": "seeded, as in a test: no privacy" if is_seeded else "AES-256-CTR, keyed by the operating system",
        "accountant": {
            "claimed": f"privacy loss distributions, pessimistic (dp-accounting {version('dp-accounting')})",
            "beside": f"PRV (Opacus {version('opacus')}), within 5 %; RDP as upper bound",
        },
        "clip_norm": {task: config.training(task).clip_norm for task in sorted(run_tasks(config))},
        "centers": {center: _of_center(center, charges[center], rounds, config) for center in sorted(charges)},
        # No answer of theirs came that could be read: what they spent stands in their ledgers, at most the run's plan.
        "untold": sorted(set(centers) - set(charges)),
        "largest_epsilon": max((charge["epsilon"]["pld"] for charge in charges.values()), default=None),
        "releases": releases(config),
    }


def _of_center(
    center: str, charge: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]], config: RunConfig
) -> dict[str, Any]:
    """Return a center's epsilon of the run, with how its patients were drawn for each task."""
    updates = [(record["task"], record["centers"].get(center, {}).get("privacy")) for record in rounds]
    names = ("epsilon", "delta", "noise_multiplier", "spent", "cap")
    found = {name: charge[name] for name in names} | {"tasks": _drawn(updates)}
    if not config.pays_to_validate:
        return found
    # The last charge may be a validation's, whose noise is another.
    noise = next((own["noise_multiplier"] for _, own in reversed(updates) if own), None)
    paid = [(record["task"], record.get("validation_privacy", {}).get(center)) for record in rounds]
    events = [Event(sampling_rate=1.0, noise_multiplier=own["noise_multiplier"], steps=1) for _, own in paid if own]
    alone = {"epsilon": claimed_epsilon(events, charge["delta"]), "noise_multiplier": config.evaluation_noise}
    return found | {"noise_multiplier": noise, "validations": {**alone, "tasks": _drawn(paid)}}


def _drawn(charges: Sequence[tuple[str, Mapping[str, Any] | None]]) -> dict[str, Any]:
    """Return task to how its patients were drawn, and in how many rounds."""
    tasks: dict[str, Any] = {}
    for task, own in charges:
        if own:
            drawn = {name: own[name] for name in ("patients", "sampling_rate", "steps")}
            tasks[task] = {**drawn, "rounds": tasks.get(task, {"rounds": 0})["rounds"] + 1}
    return tasks


def releases(config: RunConfig) -> list[dict[str, str]]:
    """Return everything that leaves a center of this private run, or could have, with what it costs its patients."""
    evaluation = _OUTSIDE if config.is_evaluated else _OFF
    validation = _paid(config) if config.pays_to_validate else evaluation
    chosen = config.erosion.asks_for_scores and "erosion" in config.tasks
    counts = config.erosion.prior is not None and "erosion" in config.tasks
    return [
        {"what": "weights after each round, and what follows from them", "cost": _COVERED},
        {"what": "number of training patients of each task", "cost": _PUBLIC},
        {"what": "noise multiplier, sampling rate, steps, epsilon", "cost": "none: they follow from public numbers"},
        *_numbers(config),
        {"what": "number of training images", "cost": _OFF},
        {"what": "hash of the files, and what was left out", "cost": "off where a center stands for itself: not told"},
        {"what": "what the center's ledger holds in all, and its cap", "cost": "none: not of patients' records"},
        {"what": "training loss", "cost": _OFF},
        {"what": "class counts and priors", "cost": _FIXED if counts else _OFF},
        {"what": "validation metrics of each round", "cost": validation},
        {
            "what": "choice of the best round",
            "cost": validation if config.is_validated else "fixed beforehand: the last",
        },
        {"what": "early stopping", "cost": _FIXED},
        {"what": "threshold and calibration", "cost": evaluation if chosen else _FIXED},
        {"what": "test metrics", "cost": evaluation},
        {"what": "seconds of a round", "cost": "off: not told; not covered is when an answer arrives"},
        {"what": "that a center failed", "cost": "not covered: a file that cannot be read, memory that ends"},
    ]


def _numbers(config: RunConfig) -> list[dict[str, str]]:
    if config.pays_to_validate:
        return [
            {"what": "number of validation patients of each task", "cost": _PUBLIC},
            {"what": "numbers of validation and test images", "cost": _OFF},
        ]
    return [{"what": "numbers of validation and test images", "cost": _OUTSIDE if config.is_evaluated else _OFF}]


def _paid(config: RunConfig) -> str:
    """Return what validating costs; a choice that follows from noisy sums costs nothing more."""
    rounds = ", ".join(f"{config.training(task).num_rounds} releases of {task}" for task in sorted(run_tasks(config)))
    return f"{_COVERED}: noise multiplier {config.evaluation_noise:g}, at most {rounds}"
