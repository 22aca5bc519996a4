"""The dial ``shift`` as a linear probe (scikit-learn) sees it, on a few plain features, with patients kept apart."""

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ramw_fed.config import PhantomConfig
from ramw_fed.data.phantom.plan import plan
from ramw_fed.data.phantom.writer import draw_wrist

PATIENTS_A_CENTER = 24
PERMUTATIONS = 99
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)

Numbers = NDArray[np.int64]


def features(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Grey values, edges, and the light in 4 x 4 blocks of the image at 64 pixels."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float64)
    rows, columns = np.gradient(small)
    edges = np.hypot(rows, columns)
    blocks = small.reshape(4, 16, 4, 16).swapaxes(1, 2).reshape(16, -1)
    spreads = [np.percentile(values, PERCENTILES) for values in (small, edges)]
    return np.concatenate([*spreads, [small.std(), edges.std()], blocks.mean(axis=1), blocks.std(axis=1)])


@cache
def examples(shift: float) -> tuple[NDArray[np.float64], Numbers, Numbers]:
    """Return features, and each image's center and patient; left hands are mirrored onto right ones."""
    config = PhantomConfig(patients=6 * PATIENTS_A_CENTER, size=96, seed=11, shift=shift)
    exposures = plan(config)
    images = [draw_wrist(config, one).image[:, :: -1 if one.side == "L" else 1] for one in exposures]
    seen = np.stack([features(np.ascontiguousarray(image)) for image in images])
    return seen, np.array([one.center for one in exposures]), np.array([one.patient for one in exposures])


def accuracy(seen: NDArray[np.float64], centers: Numbers, patients: Numbers) -> float:
    """Return the share of images whose center is told by a probe that never saw their patient; chance is near 1/6."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    told = cross_val_predict(probe, seen, centers, groups=patients, cv=GroupKFold(5))
    return float(np.mean(told == centers))


@pytest.mark.slow
def test_centers_far_apart_are_told_by_their_looks() -> None:
    assert accuracy(*examples(1.0)) >= 0.80


@pytest.mark.slow
def test_centers_of_one_distribution_are_not_told_apart() -> None:
    # Centers are dealt to whole patients, any other deal is as likely: in one seed of 100 the true one beats 99 others.
    seen, centers, patients = examples(0.0)
    known, rows = np.unique(patients, return_inverse=True)
    own = np.array([centers[patients == patient][0] for patient in known])
    rng = np.random.default_rng(0)
    others = [accuracy(seen, rng.permutation(own)[rows], patients) for _ in range(PERMUTATIONS)]
    assert accuracy(seen, centers, patients) <= max(others)
