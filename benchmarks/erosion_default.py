"""The experiment behind the default loss of erosions: losses side by side where erosions are rare and unequal.

Usage: ``python benchmarks/erosion_default.py FOLDER [--seeds 0 1 2]``. Finished trainings are kept in FOLDER, so that a
killed experiment goes on where it was; about ten minutes of one core in all.

Every seed is a cohort of its own (``simulations/erosion.toml``, another phantom) and other initial weights. In seeds 0
to 4 each loss is federated, and its best round by its own validation is ranked by the AUROC of all validation joints.
The default changes only to a loss that is better there than the present one by more than two standard errors of the
paired differences. Seeds 5 to 9 are fresh: on their test splits, which had no part in any choice, the loss that ranks
first, the default and plain cross-entropy are measured.
"""

import argparse
import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy reads it

import numpy as np
import torch
from scipy.special import expit, logit

from ramw_fed.center import Center
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import read_toml, resolve
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.data.radiograph import Split
from ramw_fed.data.reading import read_cohort
from ramw_fed.learning.decision import decide
from ramw_fed.methods import Weights, get_method
from ramw_fed.metrics.classification import classification_metrics
from ramw_fed.starting_weights import starting_weights
from ramw_fed.tasks import EROSION
from ramw_fed.tasks.task import Sums, Table, is_better, join_tables, settled

CONFIG = Path(__file__).parent.parent / "simulations" / "erosion.toml"
REFERENCE = "logit adjustment, local prior"
PLAIN = "cross-entropy"
ARMS: Mapping[str, Mapping[str, Any]] = {
    REFERENCE: {"loss": "logit-adjustment"},
    "logit adjustment, federated prior": {"loss": "logit-adjustment", "prior": "federated"},
    PLAIN: {"loss": "cross-entropy", "sampling": "shuffled"},
    "cross-entropy, classes in turn": {"loss": "cross-entropy", "sampling": "classes"},
    "weighted [1, 6]": {"loss": "weighted"},
    "class-balanced": {"loss": "class-balanced"},
    "focal": {"loss": "focal"},
    "distance-weighted grades": {"loss": "distance-weighted"},
}
CHOOSING, FRESH = range(5), range(5, 10)
CHOICES = {"threshold-rule": "youden", "calibration": "platt"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[*CHOOSING, *FRESH], help="stop after these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [measure(arm, seed, options.folder) for seed in CHOOSING if seed in options.seeds for arm in ARMS]
    if len(chosen) < len(ARMS) * len(CHOOSING):
        return
    print_choice(chosen)
    first = max(ARMS, key=lambda arm: _mean(chosen, arm, "val", "auroc"))
    reported = list(dict.fromkeys([first, REFERENCE, PLAIN]))
    fresh = [measure(arm, seed, options.folder) for seed in FRESH if seed in options.seeds for arm in reported]
    if len(fresh) == len(reported) * len(FRESH):
        print_report(fresh, reported)


def measure(arm: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return what one training reached, from FOLDER where it is there already."""
    path = folder / f"{seed}-{'-'.join(arm.replace(',', '').split())}.json"
    if not path.exists():
        found = train(arm, seed, cohort_of(seed, folder), is_fresh=seed in FRESH)
        path.write_text(json.dumps({"arm": arm, "seed": seed, **found}, indent=1))
        print(f"seed {seed}, {arm}: validation AUROC {found['val']['auroc']:.3f}", flush=True)
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def cohort_of(seed: int, folder: Path) -> Cohort:
    root = folder / f"cohort-{seed}"
    if not root.exists():
        write_phantom(resolve(read_toml(CONFIG), {"phantom.seed": seed}).phantom, root)
    return read_cohort(root)


def train(arm: str, seed: int, cohort: Cohort, *, is_fresh: bool) -> dict[str, Any]:
    """Federate one arm on one cohort; the test split is measured in fresh seeds only."""
    knobs = {f"erosion.{name}": value for name, value in (ARMS[arm] | CHOICES).items()}
    config = resolve(read_toml(CONFIG), {**knobs, "seed": seed, "device": "cpu"})
    centers = [Center(name, cohort, config, get_method(config.method)) for name in cohort.centers]
    best, sums, best_round = federate(centers, cohort, config)
    decided, _ = decide(config.erosion, sums)
    table = join_tables([center.measure(EROSION, best, "val") for center in centers])
    found: dict[str, Any] = {"round": best_round, "val": values(table, config.erosion.threshold)}
    found["val"]["balanced_log_loss"] = -EROSION.quality(_added(sums))
    if is_fresh:
        found["test"] = test_values(centers, best, config, decided)
    return found


def federate(centers: Sequence[Center], cohort: Cohort, config: RunConfig) -> tuple[Weights, dict[str, Sums], int]:
    """Run all rounds; return weights, validation sums and number of the best one, as a run would choose it."""
    enrolments = {center.name: center.enrol(EROSION) for center in centers}
    shares = {name: float(enrolment.patients) for name, enrolment in enrolments.items()}
    training = [center for center in centers if shares[center.name]]
    told = settled(config, EROSION, (enrolment.counts for enrolment in enrolments.values()))
    weights: Weights = starting_weights(EROSION, cohort.description, config)
    best, best_sums, best_round, best_quality = weights, dict[str, Sums](), 0, None
    for center in centers:
        center.config = told
    for number in range(1, config.erosion.num_rounds + 1):
        ends = {center.name: center.train(EROSION, weights, number).weights for center in training}
        weights = centers[0].method.aggregate(weights, ends, shares)
        sums = {center.name: center.validate(EROSION, weights) for center in training}
        quality = EROSION.quality(_added(sums))
        if is_better(quality if quality == quality else None, best_quality):
            best, best_sums, best_round, best_quality = weights, sums, number, quality
    return best, best_sums, best_round


def test_values(centers: Sequence[Center], weights: Weights, config: RunConfig, decided: Any) -> dict[str, float]:
    """Measure the test split as it is, then at the thresholds and probabilities that validation chose."""
    plain = join_tables([_measured(center, weights, config, "test") for center in centers])
    found = values(plain, config.erosion.threshold)
    own = [
        values({name: column[plain["center"] == center.name] for name, column in plain.items()}, 0.5)["auroc"]
        for center in centers
    ]
    found["macro_auroc"] = float(np.mean([one for one in own if not math.isnan(one)]))
    chosen = dict(plain) | {
        "probability": expit(logit(np.asarray(plain["probability"])) / decided.temperature + decided.shift)
    }
    at_chosen = values(chosen, decided.threshold)
    return found | {f"chosen_{name}": at_chosen[name] for name in ("bacc", "sen", "spc", "brier", "ece")}


def values(table: Table, threshold: float) -> dict[str, float]:
    """Return the measures over all rows, each joint counting once; NaN where there is none."""
    found = classification_metrics(table["probability"], table["grade"] > 0, threshold=threshold)
    names = ("auroc", "auprc", "prevalence", "bacc", "sen", "spc", "brier", "ece")
    return {name: one if isinstance(one := found[name], float) else math.nan for name in names}


def print_choice(found: Sequence[Mapping[str, Any]]) -> None:
    """Print validation by arm, best first, each with its paired difference to the default."""
    print(
        "\n| loss | AUROC | less the default (SE) | AUPRC | balanced log loss | BACC at .5 |\n|---|---|---|---|---|---|"
    )
    for arm in sorted(ARMS, key=lambda arm: -_mean(found, arm, "val", "auroc")):
        gaps = [a - b for a, b in zip(*(_column(found, one, "val", "auroc") for one in (arm, REFERENCE)), strict=True)]
        error = statistics.stdev(gaps) / math.sqrt(len(gaps))
        gap = f"{statistics.mean(gaps):+.3f} ({error:.3f})" if arm != REFERENCE else "0"
        rest = (f"{_mean(found, arm, 'val', name):.3f}" for name in ("auprc", "balanced_log_loss", "bacc"))
        print(f"| {arm} | {_mean(found, arm, 'val', 'auroc'):.3f} | {gap} | {' | '.join(rest)} |")
    print(f"\nprevalence of the validation joints: {_mean(found, REFERENCE, 'val', 'prevalence'):.3f}\n")


def print_report(found: Sequence[Mapping[str, Any]], arms: Iterable[str]) -> None:
    """Print the test splits of the fresh seeds: mean and standard deviation over seeds."""
    names = ("auroc", "macro_auroc", "auprc", "bacc", "chosen_bacc", "brier", "chosen_brier", "ece", "chosen_ece")
    print(f"| loss | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for arm in arms:
        columns = [_column(found, arm, "test", name) for name in names]
        cells = [f"{statistics.mean(column):.3f} ± {statistics.stdev(column):.3f}" for column in columns]
        print(f"| {arm} | {' | '.join(cells)} |")
    print(f"\nprevalence of the test joints: {_mean(found, REFERENCE, 'test', 'prevalence'):.3f}")


def _measured(center: Center, weights: Weights, config: RunConfig, split: Split) -> Table:
    center.config = config
    return center.measure(EROSION, weights, split)


def _added(sums: Mapping[str, Sums]) -> dict[str, float]:
    names = {name for own in sums.values() for name in own}
    return {name: math.fsum(own.get(name, 0.0) for own in sums.values()) for name in sorted(names)}


def _column(found: Sequence[Mapping[str, Any]], arm: str, split: str, name: str) -> list[float]:
    return [one[split][name] for one in sorted(found, key=lambda one: int(one["seed"])) if one["arm"] == arm]


def _mean(found: Sequence[Mapping[str, Any]], arm: str, split: str, name: str) -> float:
    return statistics.mean(_column(found, arm, split, name))


if __name__ == "__main__":
    main()
