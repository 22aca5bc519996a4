from itertools import pairwise

import numpy as np

from ramw_fed.data.phantom.erosions import draw_lesions, erode
from ramw_fed.data.phantom.raster import Crop

ROUND = np.stack([50 + 40 * np.cos(np.linspace(0, 6.2, 60)), 50 + 40 * np.sin(np.linspace(0, 6.2, 60))], axis=1)


def _remaining(grade: int) -> float:
    shares = []
    for seed in range(25):
        lesions = draw_lesions("Lunate", ROUND, grade, scale=1.0, rng=np.random.default_rng([seed, grade]))
        _, mask = erode(np.ones((100, 100), np.float32), np.ones((100, 100), np.uint8), lesions, Crop(0, 0, 100, 100))
        shares.append(mask.mean())
    return float(np.mean(shares))


def test_bites_take_more_of_the_mask_with_every_grade() -> None:
    remaining = [_remaining(grade) for grade in range(6)]
    assert remaining[0] == 1
    assert all(after < before - 0.01 for before, after in pairwise(remaining))


def test_bites_sit_at_the_joints_end_of_long_bones() -> None:
    shaft = np.array([[40.0, 0], [60, 0], [60, 300], [40, 300]])
    outline = np.concatenate([np.linspace(a, b, 60) for a, b in zip(shaft, np.roll(shaft, -1, axis=0), strict=True)])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        bites = [lesion for lesion in draw_lesions("Metacarpal1st", outline, 2, scale=1.0, rng=rng) if lesion.is_bite]
        assert min(bite.outline[:, 1].mean() for bite in bites) > 230  # a metacarpal's base is its lower end
        bites = [lesion for lesion in draw_lesions("DistalUlna", outline, 2, scale=1.0, rng=rng) if lesion.is_bite]
        assert max(bite.outline[:, 1].mean() for bite in bites) < 100


def test_a_cyst_takes_attenuation_but_no_mask() -> None:
    lesions = []
    seed = 0
    while not lesions:
        drawn = draw_lesions("Scaphoid", ROUND, 5, scale=1.0, rng=np.random.default_rng(seed))
        lesions = [lesion for lesion in drawn if not lesion.is_bite]
        seed += 1
    attenuation, mask = erode(
        np.ones((100, 100), np.float32), np.ones((100, 100), np.uint8), lesions, Crop(0, 0, 100, 100)
    )
    assert mask.all()
    assert attenuation.min() < 0.8
