import numpy as np
import pytest

from ramw_fed.data.phantom.raster import Crop, coverage_of, crop_around, depth_inside, draw_lines

SQUARE = np.array([[5.25, 5.5], [15.25, 5.5], [15.25, 15.5], [5.25, 15.5]])


def test_coverage_is_the_area_to_a_fraction_of_a_pixel() -> None:
    coverage = coverage_of(SQUARE, Crop(0, 0, 20, 20))
    assert coverage.sum() == pytest.approx(100, rel=0.06)  # 10 x 10, painted in quarter pixels
    assert coverage[10, 10] == 1
    assert coverage[2, 2] == 0
    assert coverage[5, 10] == pytest.approx(0.5, abs=0.26)


def test_depth_counts_from_the_outline_and_not_from_the_crops_border() -> None:
    shaft = np.array([[4.0, -50], [14, -50], [14, 50], [4, 50]])
    depth = depth_inside(coverage_of(shaft, Crop(0, 0, 20, 20)))
    assert depth[:, 0].max() == 0
    # Column 8 is centered 8.5 - 4 = 4.5 from the left edge, in every row: the cut ends are no edges.
    assert depth[:, 8] == pytest.approx(np.full(20, 4.5), abs=0.35)


def test_a_crop_off_the_canvas_is_none() -> None:
    assert crop_around(SQUARE - 100, side=64) is None
    assert crop_around(SQUARE, side=64, pad=2) == Crop(3, 3, 16, 16)


def test_a_line_thinner_than_a_pixel_is_fainter() -> None:
    line, crop = np.array([[2.0, 10], [18, 10]]), Crop(0, 0, 20, 20)
    thin, full = (draw_lines([line], crop, width=width, closed=False) for width in (0.4, 1.0))
    assert thin.max() < full.max()
