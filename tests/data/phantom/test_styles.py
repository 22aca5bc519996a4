from dataclasses import astuple, fields

import numpy as np
import pytest

from ramw_fed.data.phantom.styles import Style, draw_style

LOOKS = [field.name for field in fields(Style) if field.name not in ("zoom", "shift_x", "shift_y", "rotation", "band")]


def test_without_shift_all_centers_draw_identical_styles() -> None:
    styles = {draw_style(np.random.default_rng(7), center=center, shift=0.0) for center in range(6)}
    assert len(styles) == 1


@pytest.mark.parametrize("shift", [0.0, 0.4, 1.0])
def test_every_center_takes_equally_many_draws(shift: float) -> None:
    after = set()
    for center in range(6):
        rng = np.random.default_rng(7)
        draw_style(rng, center=center, shift=shift)
        after.add(rng.random())
    assert len(after) == 1


def _looks(center: int, shift: float) -> np.ndarray:
    styles = [draw_style(np.random.default_rng([center, seed]), center=center, shift=shift) for seed in range(60)]
    return np.array([[getattr(style, name) for name in LOOKS] for style in styles])


def test_full_shift_makes_six_narrow_distant_looks() -> None:
    wide = _looks(0, 0.0).std(axis=0)
    centers = [_looks(center, 1.0) for center in range(6)]
    assert all((looks.std(axis=0) < 0.3 * wide).all() for looks in centers)
    means = np.array([looks.mean(axis=0) / wide for looks in centers])
    gaps = [np.linalg.norm(means[a] - means[b]) for a in range(6) for b in range(a)]
    assert min(gaps) > 2.5


def test_half_a_shift_lies_between() -> None:
    spread = [_looks(2, shift).std(axis=0).mean() for shift in (0.0, 0.5, 1.0)]
    assert spread[0] > spread[1] > spread[2]


def test_a_style_is_a_plain_tuple_of_finite_numbers() -> None:
    style = draw_style(np.random.default_rng(0), center=5, shift=1.0)
    assert np.isfinite(astuple(style)).all()
