from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ramw_fed.data.transforms import MILD, STRONG, VARIATIONS, Variation, cut_middle, standardize, vary

STILL = Variation(
    rotation=0.0,
    zoom=(1.0, 1.0),
    shift=0.0,
    elastic=0.0,
    knots=4,
    gamma=0.0,
    contrast=0.0,
    brightness=0.0,
    shading=0.0,
    blur=0.0,
    unsharp=0.0,
    noise=0.0,
    band=0.0,
    band_width=0.0,
)


def wrist(size: int = 64) -> tuple[Tensor, Tensor]:
    """An image that is its two masks: an off-center disc and a bar."""
    axis = torch.arange(size) / size
    disc = (axis[:, None] - 0.4) ** 2 + (axis - 0.6) ** 2 < 0.03
    bar = (axis[:, None] > 0.7).expand(size, size) & (axis < 0.5)
    masks = torch.stack([disc, bar]).to(torch.uint8)
    return 0.3 * masks[:1].float() + 0.6 * masks[1:].float(), masks


def overlap(first: Tensor, second: Tensor) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_without_variation_a_warp_gives_back_the_image() -> None:
    image, masks = wrist()
    same, same_masks = vary(image, masks, STILL, 64, key=(0, 0, "a"))
    torch.testing.assert_close(same, image, atol=1e-5, rtol=0)
    assert same_masks is not None
    assert torch.equal(same_masks, masks)


@pytest.mark.parametrize("level", ["mild", "strong"])
def test_masks_move_with_the_image(level: str) -> None:
    known = VARIATIONS[level]
    assert known is not None
    geometry = replace(
        known, gamma=0.0, contrast=0.0, brightness=0.0, shading=0.0, blur=0.0, unsharp=0.0, noise=0.0, band=0.5
    )
    image, masks = wrist()
    moved, judged = 0, [0, 0]
    for name in "abcdefgh":
        seen, seen_masks = vary(image, masks, geometry, 64, key=(0, 1, name))
        assert seen_masks is not None
        if seen_masks[0].sum() > 60:  # an outline of few pixels is mostly rim
            judged[0] += 1
            assert overlap((seen[0] > 0.15) & (seen[0] < 0.45), seen_masks[0] > 0) > 0.8
        if seen_masks[1].sum() > 60:
            judged[1] += 1
            assert overlap(seen[0] > 0.45, seen_masks[1] > 0) > 0.9
        moved += not torch.equal(seen_masks, masks)
    assert min(judged) >= 6
    assert moved == 8


def test_a_shift_to_the_right_moves_the_content_to_the_left() -> None:
    # Half a half-frame is a quarter of the side: 16 of 64 pixels; the direction is drawn, so compare with the draw.
    image, masks = wrist()
    seen, seen_masks = vary(image, masks, replace(STILL, shift=0.2), 64, key=(0, 0, "a"))
    assert seen_masks is not None
    generator_seen = (seen[0] > 0.45).nonzero().float().mean(dim=0)
    assert not torch.allclose(generator_seen, (image[0] > 0.45).nonzero().float().mean(dim=0), atol=1)
    torch.testing.assert_close(generator_seen, seen_masks[1].nonzero().float().mean(dim=0), atol=0.6, rtol=0)


def test_equal_keys_give_equal_pictures_and_each_part_of_the_key_another() -> None:
    image, masks = wrist()

    def picture(*key: int | str) -> Tensor:
        return vary(image, masks, STRONG, 64, key=key)[0]

    assert torch.equal(picture(0, 1, "a"), picture(0, 1, "a"))
    assert not any(torch.equal(picture(0, 1, "a"), picture(*key)) for key in [(1, 1, "a"), (0, 2, "a"), (0, 1, "b")])


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    image, masks = wrist()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, _ = vary(image, masks, STRONG, 64, key=(0, 0, "a"))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, vary(image, masks, STRONG, 64, key=(0, 0, "a"))[0])


def test_masks_stay_masks_and_nothing_becomes_infinite() -> None:
    image, masks = wrist()
    for name in map(str, range(20)):
        seen, seen_masks = vary(image, masks, STRONG, 64, key=(0, 0, name))
        assert seen_masks is not None
        assert seen_masks.dtype == torch.uint8
        assert int(seen_masks.max()) <= 1
        assert seen.isfinite().all()


def test_contrast_is_never_inverted() -> None:
    image, _ = wrist()
    for name in map(str, range(30)):
        look = replace(STRONG, rotation=0.0, zoom=(1.0, 1.0), shift=0.0, elastic=0.0, band=0.0, noise=0.0)
        seen, _ = vary(image, None, look, 64, key=(0, 0, name))
        assert float(seen[image > 0.5].mean()) > float(seen[image == 0].mean())


def test_a_larger_canvas_gives_the_frame_in_its_middle_at_the_same_scale() -> None:
    image, masks = wrist(96)
    middle, middle_masks = vary(image, masks, None, 64, key=("a",))
    warped, warped_masks = vary(image, masks, STILL, 64, key=(0, 0, "a"))
    assert middle.shape == (1, 64, 64)
    assert torch.equal(middle, cut_middle(image, 64))
    torch.testing.assert_close(warped, middle, atol=1e-4, rtol=0)
    assert middle_masks is not None
    assert warped_masks is not None
    assert torch.equal(warped_masks, middle_masks)


def test_zooming_out_on_a_larger_canvas_shows_what_lies_around_the_frame() -> None:
    image = torch.ones(1, 96, 96)
    wide, _ = vary(image, None, replace(STILL, zoom=(1 / 1.5, 1 / 1.5)), 64, key=(0, 0, "a"))
    black, _ = vary(image, None, replace(STILL, zoom=(0.5, 0.5)), 64, key=(0, 0, "a"))
    assert float(wide[:, 2:-2, 2:-2].min()) == pytest.approx(1)
    assert float(black.min()) == 0


def test_a_crop_goes_on_as_its_edge_does() -> None:
    image = torch.ones(1, 48, 48)
    seen, _ = vary(image, None, replace(STILL, zoom=(0.5, 0.5)), 48, key=(0, 0, "a"), extend=True)
    torch.testing.assert_close(seen, image)


def test_standardized_images_have_mean_0_and_deviation_1_and_constant_ones_are_0() -> None:
    image = standardize(torch.rand(1, 32, 32) * 0.1 + 0.5)
    assert float(image.mean()) == pytest.approx(0, abs=1e-5)
    assert float(image.std(unbiased=False)) == pytest.approx(1, abs=1e-3)
    assert float(standardize(torch.full((1, 8, 8), 0.25)).abs().max()) < 1e-3


def test_mild_is_milder_than_strong() -> None:
    names = ("rotation", "shift", "elastic", "gamma", "contrast", "brightness", "shading", "blur", "unsharp", "noise")
    assert all(getattr(MILD, name) < getattr(STRONG, name) for name in names)
