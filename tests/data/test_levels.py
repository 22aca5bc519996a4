import numpy as np

from ramw_fed.data.levels import stretch, to_eight_bits


def test_levels_between_black_and_white_are_linear_and_the_rest_is_cut() -> None:
    # by hand: (x - 100) / 200 * 255 at 100, 150, 200, 300 is 0, 63.75, 127.5, 255
    levels = np.array([0, 100, 150, 200, 300, 65535], np.uint16)
    assert to_eight_bits(levels, 100, 300).tolist() == [0, 0, 64, 128, 255, 255]


def test_without_a_range_levels_above_black_are_white() -> None:
    assert to_eight_bits(np.array([6, 7, 8]), 7, 7).tolist() == [0, 0, 255]


def test_one_bright_pixel_in_ten_thousand_does_not_darken_the_rest() -> None:
    levels = np.linspace(0, 1000, 10_000)
    levels[-1] = 65535
    # the 99.9th percentile of 10,000 even steps up to 1000 is 999.0, the 0.1st is 1.0; the middle is 127.5
    assert stretch(levels)[[0, 5000, 9000, -1]].tolist() == [0, 128, 230, 255]


def test_equal_levels_are_all_black() -> None:
    assert not stretch(np.full((4, 4), 3000, np.uint16)).any()
