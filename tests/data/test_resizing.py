import numpy as np

from ramw_fed.data.resizing import Frame, fit_image, fit_masks, unfit


def test_other_shapes_are_centred_in_black() -> None:
    image = np.full((20, 10), 200, np.uint8)
    square = fit_image(image, 40)
    assert square.shape == (40, 40)
    assert (square[:, 10:30] == 200).all()
    assert square[:, :10].max() == square[:, 30:].max() == 0


def test_a_pixel_half_covered_belongs_to_no_bone() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :2, 0] = True  # covers half of the first block of 2 x 2
    masks[1, :2, :2] = [[True, True], [True, False]]
    small = fit_masks(masks, 2)
    assert not small[0].any()
    assert small[1].tolist() == [[True, False], [False, False]]


def test_the_same_size_is_left_as_it_is() -> None:
    masks = np.random.default_rng(0).random((3, 16, 16)) > 0.5
    assert np.array_equal(fit_masks(masks, 16), masks)


def test_what_is_fitted_comes_back_in_its_own_shape_and_place() -> None:
    image = np.zeros((60, 100), np.uint8)
    image[10:30, 50:90] = 255
    back = unfit(fit_image(image, 64).astype(np.float32), 60, 100)
    assert back.shape == (60, 100)
    assert ((back > 127) == (image > 127)).mean() > 0.97


def test_a_thin_image_keeps_one_row() -> None:
    assert Frame(1, 1000, 64).scaled == (1, 64)
