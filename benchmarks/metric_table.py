"""Time the whole metric table of 388 patients: six centers, pooled and macro, every interval from 2000 resamples.

Usage: ``python benchmarks/metric_table.py [--patients 388] [--resamples 2000] [--repeats 5] [--loop-resamples 10]``.

Segmentation: two radiographs a patient, 14 bones, six measures and three counts each and of their mean. Erosion: six
joints of 2.7 radiographs a patient, 18 measures over all joints and joint by joint. Beside it the loop that one would
write with libraries: scipy.stats.bootstrap of patients' means, column by column; patients drawn with replacement and
scikit-learn's measures of their joints, resample by resample. The loop of scikit-learn runs ``--loop-resamples``
times and is scaled up, as scipy's runs for one column in eight. Processor time of this process, one thread, ours the
smallest of all turns.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy reads them

import numpy as np
import scipy
import sklearn
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn import metrics as theirs
from sklearn.linear_model import LogisticRegression

from ramw_fed.metrics.erosion_scopes import Reading, erosion_tree
from ramw_fed.metrics.erosion_table import ErosionTable
from ramw_fed.metrics.segmentation_scopes import SegmentationTable, patient_values, segmentation_tree
from ramw_fed.metrics.surface import SEGMENTATION_COUNTS, SEGMENTATION_METRICS
from ramw_fed.statistics import intervals

CENTERS, BONES, JOINTS = "ABCDEF", 14, 6
THRESHOLD = 0.5


def segmentation_table(patients: int, rng: np.random.Generator) -> SegmentationTable:
    rows = [(CENTERS[p % 6], f"{p:03d}", f"{p:03d}{view}") for p in range(patients) for view in "LR"]
    values = {name: rng.beta(20, 2, (len(rows), BONES)) for name in SEGMENTATION_METRICS}
    for table in values.values():
        table[rng.random(table.shape) < 0.01] = np.nan
    values |= {name: (rng.random((len(rows), BONES)) < 0.01).astype(float) for name in SEGMENTATION_COUNTS}
    empty = {name: np.empty((len(rows), 0)) for name in values}
    columns = [tuple(column) for column in zip(*rows, strict=True)]
    bones = tuple(f"bone {number}" for number in range(BONES))
    return SegmentationTable(
        centers=columns[0],
        patients=columns[1],
        radiographs=columns[2],
        bones=bones,
        overlaps=(),
        bone_values=values,
        overlap_values=empty,
    )


def erosion_table(patients: int, rng: np.random.Generator) -> ErosionTable:
    joints = [f"joint {number}" for number in range(JOINTS)]
    rows = [
        (CENTERS[p % 6], f"{p:03d}", f"{p:03d}{view}", joint)
        for p in range(patients)
        for view in range(3 if rng.random() < 0.7 else 2)
        for joint in joints
    ]
    grades = np.where(rng.random(len(rows)) < 0.12, rng.integers(1, 6, len(rows)), 0)
    logits = rng.normal(-2, 1, len(rows)) + 1.3 * (grades > 0)
    columns = [tuple(column) for column in zip(*rows, strict=True)]
    return ErosionTable(
        centers=columns[0],
        patients=columns[1],
        radiographs=columns[2],
        joints=columns[3],
        joint_names=tuple(joints),
        probabilities=1 / (1 + np.exp(-logits)),
        grades=grades,
        predicted_grades=np.clip(grades + rng.integers(-1, 2, len(rows)), 0, 5),
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def scipy_seconds(table: SegmentationTable, resamples: int, part: int = 8) -> float:
    """Percentile intervals of patients' means by scipy; every ``part``-th column, times ``part``."""
    columns = [values[:, [bone]] for values in table.bone_values.values() for bone in range(BONES)]
    columns += list(table.bone_values.values())
    scopes = [table, *(table.at(center) for center in CENTERS)]

    def resample() -> None:
        for scope in scopes:
            rows = [index for index, center in enumerate(table.centers) if center in set(scope.centers)]
            for values in columns[::part]:
                means = patient_values(scope.centers, scope.patients, values[rows], "dsc")
                sample = (means[~np.isnan(means)],)
                bootstrap(sample, np.mean, n_resamples=resamples, method="percentile", vectorized=True, random_state=0)

    return seconds(resample) * len(columns) / len(columns[::part])


def sklearn_seconds(table: ErosionTable, resamples: int, runs: int) -> float:
    """A resample's measures by scikit-learn, in every scope; ``runs`` resamples, scaled to all."""
    scopes = [table, *(table.at(center) for center in CENTERS)]
    scopes += [scope.of(joint) for scope in scopes for joint in table.joint_names]

    def loop() -> None:
        for scope in scopes:
            rows: dict[str, list[int]] = {}
            for index, patient in enumerate(scope.patients):
                rows.setdefault(patient, []).append(index)
            parts = [np.array(part) for part in rows.values()]
            rng = np.random.default_rng(0)
            for _ in range(runs):
                drawn = np.concatenate([parts[index] for index in rng.integers(0, len(parts), len(parts))])
                sklearn_metrics(scope.probabilities[drawn], scope.grades[drawn], scope.predicted_grades[drawn])

    return seconds(loop) * resamples / runs


def sklearn_metrics(
    probabilities: NDArray[np.float64], grades: NDArray[np.int64], predicted: NDArray[np.int64]
) -> list[float]:
    truth, called = grades > 0, probabilities >= THRESHOLD
    logit = np.log(probabilities / (1 - probabilities))[:, None]
    tn, fp, fn, tp = theirs.confusion_matrix(truth, called, labels=[False, True]).ravel()
    bins = np.searchsorted(np.quantile(probabilities, [0.2, 0.4, 0.6, 0.8]), probabilities)
    residual = probabilities - truth
    shared = [
        theirs.accuracy_score(truth, called),
        theirs.balanced_accuracy_score(truth, called),
        theirs.f1_score(truth, called, zero_division=0),
        (tp + 0.5) * (tn + 0.5) / ((fp + 0.5) * (fn + 0.5)),
        theirs.recall_score(truth, called, zero_division=0),
        theirs.recall_score(~truth, ~called, zero_division=0),
        theirs.precision_score(truth, called, zero_division=0),
        theirs.precision_score(~truth, ~called, zero_division=0),
        theirs.matthews_corrcoef(truth, called),
        theirs.brier_score_loss(truth, probabilities),
        sum(abs(residual[bins == number].sum()) for number in range(5)) / len(truth),
        theirs.cohen_kappa_score(grades, predicted, weights="quadratic"),
        theirs.mean_absolute_error(grades, predicted),
        float(np.mean(np.abs(grades - predicted) <= 1)),
    ]
    if not 0 < truth.sum() < len(truth):
        return shared
    fit = LogisticRegression(C=np.inf).fit(logit, truth)
    ranking = [theirs.roc_auc_score(truth, probabilities), theirs.average_precision_score(truth, probabilities)]
    return [*shared, *ranking, float(fit.coef_[0, 0]), float(fit.intercept_[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=388)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--loop-resamples", type=int, default=10)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of scikit-learn, about single classes and zero denominators
    rng = np.random.default_rng(0)
    bones, joints = segmentation_table(options.patients, rng), erosion_table(options.patients, rng)
    print(f"{options.patients} patients, {len(bones.radiographs)} radiographs with masks, {len(joints.grades)} joints")

    def ours_of_bones() -> object:
        return segmentation_tree(bones, centers=CENTERS, seed=0, resamples=options.resamples)

    def ours_of_joints() -> object:
        return erosion_tree(joints, Reading(threshold=THRESHOLD), centers=CENTERS, seed=0, resamples=options.resamples)

    turns = []
    for _ in range(options.repeats):
        intervals._draws.cache_clear()  # each turn draws anew, as a run does
        turns.append((seconds(ours_of_bones), seconds(ours_of_joints)))
    together = [sum(turn) for turn in turns]
    segmentation, erosion = (min(column) for column in zip(*turns, strict=True))
    print(f"ramw-fed: segmentation {segmentation:.2f} s, erosion {erosion:.2f} s", end=", ")
    print(f"together {min(together):.2f} (to {max(together):.2f}) CPU-s of {options.repeats} turns")
    by_scipy = scipy_seconds(bones, options.resamples)
    by_sklearn = sklearn_seconds(joints, options.resamples, options.loop_resamples)
    print(f"scipy {scipy.__version__} bootstrap, by column: {by_scipy:.1f} s, {by_scipy / segmentation:.0f} times")
    print(f"scikit-learn {sklearn.__version__}, by resample: {by_sklearn:.0f} s, {by_sklearn / erosion:.0f} times")


if __name__ == "__main__":
    main()
