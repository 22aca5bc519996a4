"""How often do 95 % intervals hold the truth, and tests find what is there or is not: simulated studies of six centers.

Usage: ``python benchmarks/coverage.py means|auroc|fairness|ranks|areas [--studies 2000] [--per-center 65]``.

* means: pooled and macro mean of patients' values that are skewed to the left, as Dice is, and differ by center.
* auroc: pooled and macro AUROC; sixteen joints a patient, one in eight eroded, clustered by patient; centers differ
  in prevalence, in scores and in how well they are told apart.
* fairness: the worst center and the gap, of centers that are alike and of centers that are not.
* ranks: four arms. Three contrasts without an effect, under Holm: studies that find any. Then one arm better by what
  the planner calls found with power .8: studies that find it.
* areas: the same for AUROC, two contrasts, by the bootstrap.

Every study has its own data; fifty at a time share the bootstrap's draws. Standard errors are those of a share.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy reads them

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from ramw_fed.metrics.ranking import ranking_statistic
from ramw_fed.metrics.rows import Rows
from ramw_fed.statistics.comparison import holm
from ramw_fed.statistics.fairness import CenterValue, fairness
from ramw_fed.statistics.intervals import Interval, Patient, Replicates, bootstrap, interval_of_mean
from ramw_fed.statistics.power import StudySize, estimate_power, paired_power

Values = NDArray[np.float64]
Shares = dict[str, float]

CENTERS, JOINTS, BATCH = 6, 16, 50
PREVALENCE = np.array([0.08, 0.10, 0.12, 0.12, 0.15, 0.18])[:, None]
LEVELS = np.linspace(0.80, 0.92, CENTERS)[:, None]
SPREADS = np.linspace(0.02, 0.06, CENTERS)[:, None]


def names(per_center: int) -> list[Patient]:
    return [(center, f"{number:05d}") for center in "ABCDEF" for number in range(per_center)]


def batches(studies: int) -> Iterator[tuple[int, int]]:
    """Number of a batch and how many studies it has."""
    for start in range(0, studies, BATCH):
        yield start // BATCH, min(BATCH, studies - start)


# --- patients' means -------------------------------------------------------------------------------------------------


def patient_values(rng: np.random.Generator, studies: int, per_center: int) -> Values:
    """Skewed to the left, ``(studies, centers, patients)``; the centers' means are ``LEVELS``."""
    return LEVELS + SPREADS * (1 - rng.gamma(4, 1 / 4, size=(studies, CENTERS, per_center)))


def intervals_of_means(values: Values, patients: list[Patient], seed: int) -> list[Interval]:
    """One interval a study; ``values`` is ``(studies, patients)``."""

    def statistic(weights: Values) -> Values:
        return weights @ values.T / weights.sum(axis=1, keepdims=True)

    drawn = bootstrap(statistic, patients, np.ones(values.T.shape, bool), seed=seed)
    return [replicates.interval() for replicates in drawn if replicates is not None]


def coverage_of_means(studies: int, per_center: int) -> Shares:
    patients, hits = names(per_center), {"pooled": 0, "macro": 0, "one center": 0.0}
    for batch, count in batches(studies):
        values = patient_values(np.random.default_rng([1, batch]), count, per_center)
        pooled = intervals_of_means(values.reshape(count, -1), patients, batch)
        by_center = [
            intervals_of_means(values[:, k], patients[k * per_center : (k + 1) * per_center], batch)
            for k in range(CENTERS)
        ]
        truth = float(LEVELS.mean())
        for study in range(count):
            parts = [(float(values[study, k].mean()), by_center[k][study], per_center) for k in range(CENTERS)]
            hits["pooled"] += holds(pooled[study], truth)
            hits["macro"] += holds(interval_of_mean(parts), truth)
            hits["one center"] += sum(holds(parts[k][1], LEVELS[k, 0]) for k in range(CENTERS)) / CENTERS
    return {name: count / studies for name, count in hits.items()}


def coverage_of_fairness(studies: int, per_center: int, levels: Values = LEVELS) -> Shares:
    """Of the worst center's value and of the gap; a level a center, ``(centers, 1)``."""
    patients, hits = names(per_center), {"worst": 0, "gap": 0}
    for batch, count in batches(studies):
        values = patient_values(np.random.default_rng([5, batch]), count, per_center) - LEVELS + levels
        by_center = [
            intervals_of_means(values[:, k], patients[k * per_center : (k + 1) * per_center], batch)
            for k in range(CENTERS)
        ]
        for study in range(count):
            centers = {
                str(k): CenterValue(
                    value=float(values[study, k].mean()), interval=by_center[k][study], patients=per_center
                )
                for k in range(CENTERS)
            }
            found = fairness(centers, {}, margin=0.0)
            hits["worst"] += holds(found.worst_interval, float(levels.min()))
            hits["gap"] += holds(found.gap_interval, float(np.ptp(levels)))
    return {name: count / studies for name, count in hits.items()}


# --- AUROC of clustered joints ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Joints:
    """One study: labels ``(centers, patients, joints)``, scores ``(arms, centers, patients, joints)``."""

    labels: NDArray[np.bool_]
    scores: Values

    def rows(self, arm: int = 0, center: int | None = None) -> Rows:
        """Columns of all centers or of one."""
        part = slice(None) if center is None else slice(center, center + 1)
        labels, scores = self.labels[part], self.scores[arm, part]
        num_units = labels.shape[0] * labels.shape[1]
        return Rows(
            probabilities=1 / (1 + np.exp(-scores.ravel())),
            labels=labels.ravel(),
            units=np.repeat(np.arange(num_units), JOINTS),
            num_units=num_units,
        )


def joints(rng: np.random.Generator, per_center: int, lifts: tuple[float, ...] = (0.0,)) -> Joints:
    """Draw one study; each arm ranks by its lift better than the first, with noise of its own and noise all share."""
    shape = (CENTERS, per_center, JOINTS)
    severity = rng.normal(size=(CENTERS, per_center, 1))
    liability = np.log(PREVALENCE / (1 - PREVALENCE))[:, :, None] - 0.4 + severity
    labels = rng.random(shape) < 1 / (1 + np.exp(-liability))
    telling = np.linspace(1.0, 1.6, CENTERS)[:, None, None]
    shared = 0.4 * severity + 0.7 * rng.normal(size=shape) - 2 + np.linspace(-0.3, 0.3, CENTERS)[:, None, None]
    own = 0.7 * rng.normal(size=(len(lifts), *shape)) + 0.3 * rng.normal(size=(len(lifts), CENTERS, per_center, 1))
    return Joints(labels, shared + own + labels * (telling + np.array(lifts)[:, None, None, None]))


def area(rows: Rows) -> float:
    return float(ranking_statistic(rows)(np.ones((1, rows.num_units)))["auroc"][0])


def bootstrap_areas(rows: list[Rows], patients: list[Patient], seed: int) -> list[Replicates | None]:
    """Replicates of the first arm's AUROC, or of the other arms' less the first's."""
    statistics = [ranking_statistic(part) for part in rows]

    def statistic(weights: Values) -> Values:
        first, *others = (each(weights)["auroc"] for each in statistics)
        return np.stack([other - first for other in others] or [first], axis=1)

    return bootstrap(statistic, patients, np.ones((len(patients), max(1, len(rows) - 1)), bool), seed=seed)


def coverage_of_auroc(studies: int, per_center: int) -> Shares:
    """Pooled, macro and one center's; centers as the metric tables treat them, and macro of those that have a value."""
    patients, hits = names(per_center), {"pooled": 0, "macro": 0, "one center": 0}
    of_all, of_centers = true_areas()
    with_macro = centers_seen = 0
    for study in range(studies):
        drawn = joints(np.random.default_rng([2, study]), per_center)
        pooled = bootstrap_areas([drawn.rows()], patients, study // BATCH)[0]
        hits["pooled"] += pooled is not None and holds(pooled.interval().within(0, 1), of_all)
        parts = {
            k: part
            for k in range(CENTERS)
            if (part := _center_area(drawn.rows(center=k), patients[k * per_center : (k + 1) * per_center], study))
        }
        centers_seen += len(parts)
        hits["one center"] += sum(holds(part[1], of_centers[k]) for k, part in parts.items())
        if parts:
            with_macro += 1
            truth = float(np.mean([of_centers[k] for k in parts]))
            hits["macro"] += holds(interval_of_mean(list(parts.values())).within(0, 1), truth)
    return {
        "pooled": hits["pooled"] / studies,
        "macro": hits["macro"] / with_macro,
        "one center": hits["one center"] / centers_seen,
        "centers with an interval": centers_seen / studies / CENTERS,
    }


def _center_area(rows: Rows, patients: list[Patient], study: int) -> tuple[float, Interval, int] | None:
    if len(np.unique(rows.units[rows.labels])) < 2:  # as ramw_fed.metrics.erosion_scopes has it
        return None
    replicates = bootstrap_areas([rows], patients, study // BATCH)[0]
    return None if replicates is None else (area(rows), replicates.interval().within(0, 1), len(patients))


def true_areas() -> tuple[float, list[float]]:
    many = joints(np.random.default_rng(3), 20_000)
    return area(many.rows()), [area(many.rows(center=k)) for k in range(CENTERS)]


# --- findings --------------------------------------------------------------------------------------------------------


def findings_of_ranks(studies: int, per_center: int, contrasts: int = 3) -> Shares:
    """Families with a false finding, and studies that find a planted effect, which takes power .8 by the planner.

    scipy's test for a batch at once: the p-value of :func:`ramw_fed.statistics.comparison.signed_rank` is scipy's.
    """
    size = StudySize(patients_per_center=per_center, centers=CENTERS, contrasts=contrasts)
    noise = 0.02  # an arm's own, twice: the deviation of a difference is sqrt(2) of it
    effect = paired_power(size, deviation=math.sqrt(2) * noise).smallest or 0.0
    false = found = 0
    for batch, count in batches(studies):
        rng = np.random.default_rng([4, batch])
        values = patient_values(rng, count, per_center).reshape(count, 1, -1)
        arms = values + noise * rng.normal(size=(count, contrasts + 1, round(size.patients)))
        differences = arms[:, 1:] - arms[:, :1]
        p_values = wilcoxon(differences, axis=2).pvalue
        planted = wilcoxon(differences[:, 0] + effect, axis=1).pvalue
        false += sum(min(holm(row.tolist())) < size.alpha for row in p_values)
        found += sum(holm([p, *row[1:]])[0] < size.alpha for p, row in zip(planted, p_values.tolist(), strict=True))
    return {"false findings": false / studies, "found": found / studies, "planned": 0.8, "effect": effect}


def findings_of_areas(studies: int, per_center: int, lift: float = 0.2) -> Shares:
    """The same for AUROC; what is planned follows from the errors that the studies show."""
    patients, size = names(per_center), StudySize(patients_per_center=per_center, centers=CENTERS, contrasts=2)
    effect, false, found, differences = true_difference(lift), 0, 0, []
    for study in range(studies):
        drawn = joints(np.random.default_rng([6, study]), per_center, (0.0, 0.0, 0.0, lift))
        rows = [drawn.rows(arm) for arm in range(4)]
        one, other, better = (part.p_value() for part in bootstrap_areas(rows, patients, study // BATCH) if part)
        false += min(holm([one, other])) < size.alpha
        found += holm([better, one])[0] < size.alpha
        differences.append(area(rows[3]) - area(rows[0]))
    planned = estimate_power(size, error=float(np.std(differences)), difference=effect, metric="auroc").power
    return {"false findings": false / studies, "found": found / studies, "planned": planned, "effect": effect}


def true_difference(lift: float) -> float:
    many = joints(np.random.default_rng(7), 20_000, (0.0, lift))
    return area(many.rows(1)) - area(many.rows(0))


def holds(interval: Interval | None, truth: float) -> bool:
    return interval is not None and interval.low <= truth <= interval.high


def both_kinds_of_fairness(studies: int, per_center: int) -> Shares:
    alike = coverage_of_fairness(studies, per_center, np.full((CENTERS, 1), 0.86))
    unlike = coverage_of_fairness(studies, per_center)
    return {f"{name}, centers alike": share for name, share in alike.items()} | unlike


PARTS: Mapping[str, Callable[[int, int], Shares]] = {
    "means": coverage_of_means,
    "auroc": coverage_of_auroc,
    "fairness": both_kinds_of_fairness,
    "ranks": findings_of_ranks,
    "areas": findings_of_areas,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--per-center", type=int, default=65)
    options = parser.parse_args()
    start = time.process_time()
    shares = PARTS[options.part](options.studies, options.per_center)
    print(f"{options.part}, {options.studies} studies of {options.per_center} patients in each of {CENTERS} centers")
    for name, share in shares.items():
        error = math.sqrt(share * (1 - share) / options.studies)
        print(f"  {name:26s} {share:.4f}" + ("" if name in {"effect", "planned"} else f" (standard error {error:.4f})"))
    print(f"  {time.process_time() - start:.0f} CPU-s")


if __name__ == "__main__":
    main()
