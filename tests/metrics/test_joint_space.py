"""Widths of shapes whose distance is known by construction; one pixel is 1 mm where nothing else is said."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from ramw_fed.data.layout import BONES, RAMW600
from ramw_fed.data.phantom.outlines import OUTLINES, smooth_outline
from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.estimate import NotEstimable
from ramw_fed.metrics.joint_space import JointSpace, facing, joint_space, joint_spaces, mean_widths, outline

SQUARE = (1.0, 1.0)
Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


def draw(shape: Shape, size: int = 160) -> np.ndarray:
    """Pixels whose middle lies inside; x and y in px from the middle of the image."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.asarray(shape(columns, rows), dtype=bool)


def plates(gap: float, degrees: float, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two parallel plates, 96 px long, with this gap."""
    angle = np.deg2rad(degrees)

    def across(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.cos(angle) * x + np.sin(angle) * y - offset

    def is_within(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.abs(np.cos(angle) * y - np.sin(angle) * x) < 48

    one = draw(lambda x, y: is_within(x, y) & (across(x, y) < -gap / 2) & (across(x, y) > -gap / 2 - 30))
    other = draw(lambda x, y: is_within(x, y) & (across(x, y) > gap / 2) & (across(x, y) < gap / 2 + 30))
    return one, other


def rectangles(gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows 20 to 49 and, after ``gap`` rows, 30 more; columns 30 to 79 in both."""
    one, other = np.zeros((2, 130, 120), bool)
    one[20:50, 30:80], other[50 + gap : 80 + gap, 30:80] = True, True
    return one, other


def found(one: np.ndarray, other: np.ndarray, spacing_mm: tuple[float, float] | None = SQUARE) -> JointSpace:
    space = joint_space(one, other, spacing_mm)
    assert isinstance(space, JointSpace)
    return space


@pytest.mark.parametrize("gap", [1, 2, 7, 20])
def test_rectangles_stand_as_far_apart_as_rows_lie_between_them(gap: int) -> None:
    # From edge to edge: between middles of pixels it would be one more.
    space = found(*rectangles(gap))
    assert space.mean_mm == pytest.approx(gap, abs=0.01)
    assert space.minimum_mm == pytest.approx(gap, abs=0.001)


@pytest.mark.parametrize("depth", [0, 1, 6])
def test_an_overlap_is_negative_and_as_deep_as_the_rows_in_common(depth: int) -> None:
    assert found(*rectangles(-depth)).mean_mm == pytest.approx(-depth, abs=0.01)


def test_pixels_of_unequal_sides_count_along_the_way_that_is_measured() -> None:
    one, other = rectangles(6)
    assert found(one, other, (0.2, 0.5)).mean_mm == pytest.approx(6 * 0.2, abs=0.01)
    assert found(one.T, other.T, (0.2, 0.5)).mean_mm == pytest.approx(6 * 0.5, abs=0.01)


@pytest.mark.parametrize("degrees", [9, 20, 31, 53, 70, 118])
@pytest.mark.parametrize("gap", [-3.3, 0.4, 2.0, 5.3, 11.7])
def test_slanted_plates_to_less_than_a_fifth_of_a_pixel(gap: float, degrees: float) -> None:
    assert found(*plates(gap, degrees, offset=0.3)).mean_mm == pytest.approx(gap, abs=0.18)


def test_slanted_plates_of_oblong_pixels() -> None:
    # Every second row left out: a pixel is 2 mm high. The gap is 8 mm.
    one, other = plates(8.0, 31)
    assert found(one[::2], other[::2], (2.0, 1.0)).mean_mm == pytest.approx(8, abs=0.15)


@pytest.mark.parametrize("radius", [20, 40, 60])
@pytest.mark.parametrize("gap", [-2.0, 3.0, 6.5])
def test_a_head_in_its_socket(radius: float, gap: float) -> None:
    head = draw(lambda x, y: np.hypot(x, y) <= radius, 260)
    socket = draw(lambda x, y: (np.hypot(x, y) >= radius + gap) & (np.hypot(x, y) < radius + 30) & (y > 0), 260)
    # Softening moves an edge of radius R by 1 / (2 R), both edges the same way.
    assert found(head, socket).mean_mm == pytest.approx(gap, abs=0.2)


def test_the_backs_and_flanks_of_two_plates_do_not_count() -> None:
    one, other = (outline(mask, SQUARE) for mask in rectangles(6))
    part = facing(one, other)
    assert part.lengths.sum() == pytest.approx(50, abs=3)  # of a way around of 160
    assert part.points[:, 0] == pytest.approx(49.5, abs=0.5)
    assert outline(rectangles(6)[0], SQUARE).lengths.sum() == pytest.approx(160, abs=5)


def test_order_mirror_and_turn_change_nothing() -> None:
    one, other = plates(5.3, 20)
    wanted = found(one, other)
    for turn in (
        lambda mask: mask,
        lambda mask: mask[:, ::-1],
        lambda mask: mask[::-1],
        lambda mask: mask.T,
        lambda mask: np.rot90(mask),
    ):
        for pair in ((one, other), (other, one)):
            space = found(*(np.ascontiguousarray(turn(mask)) for mask in pair))
            assert space.mean_mm == pytest.approx(wanted.mean_mm, abs=1e-4)
            assert space.minimum_mm == pytest.approx(wanted.minimum_mm, abs=1e-4)


def test_only_the_largest_piece_counts_and_holes_are_bone() -> None:
    one, other = rectangles(7)
    one[52:55, 40:44] = True  # a speck in the space
    other[60:66, 50:60] = False  # an erosion that does not reach the edge
    assert found(one, other).mean_mm == pytest.approx(7, abs=0.01)


def test_a_bone_that_the_image_cuts_off_has_no_edge_there() -> None:
    one, other = rectangles(7)
    assert outline(one[30:], SQUARE).points[:, 0].max() == pytest.approx(19.5)
    cut = outline(one[30:], SQUARE)
    assert cut.points[:, 0].min() < 1
    assert not ((cut.points[:, 0] < 1) & (np.abs(cut.normals[:, 0]) > 0.5)).any()
    assert found(one[30:], other[30:]).mean_mm == pytest.approx(7, abs=0.01)


def test_what_cannot_be_measured_says_why() -> None:
    one, other = rectangles(7)
    nothing = np.zeros_like(one)
    assert joint_space(one, other, None) == NotEstimable("the size of a pixel is not known")
    assert joint_space(one, nothing, SQUARE) == NotEstimable("a bone is missing")
    assert joint_space(nothing, nothing, SQUARE) == NotEstimable("a bone is missing")
    assert joint_space(one, one, SQUARE) == NotEstimable("the bones do not face each other")  # normals are alike
    widths = mean_widths(np.stack([one, other, nothing]), [(0, 1), (1, 2), (2, 0)], SQUARE)
    np.testing.assert_array_equal(np.isnan(widths), [False, True, True])
    assert mean_widths(np.stack([one, other]), [(0, 1)], None).shape == (1,)
    assert mean_widths(np.stack([one, other]), [], SQUARE).shape == (0,)
    with pytest.raises(RamwFedError, match="binarise"):
        joint_spaces(np.zeros((2, 4, 4), np.uint8), [(0, 1)], SQUARE)  # type: ignore[arg-type]


def average_wrist(side: int, moved: dict[str, tuple[float, float]] | None = None) -> np.ndarray:
    """The phantom's average outlines, painted with ``side`` pixels along its frame of 600."""
    masks = np.zeros((len(BONES), side, side), np.uint8)
    for mask, bone in zip(masks, BONES, strict=True):
        points = (smooth_outline(OUTLINES[bone]) + (moved or {}).get(bone, (0, 0))) * (side / 600) - 0.5
        fine = np.zeros((side * 4, side * 4), np.uint8)
        cv2.fillPoly(fine, [np.round(((points + 0.5) * 4 - 0.5) * 16).astype(np.int32)], 255, shift=4)
        mask[:] = cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA) >= 128
    return masks > 0


def wrist_widths(side: int, **moved: tuple[float, float]) -> np.ndarray:
    spacing = 0.149 * 600 / side
    return mean_widths(average_wrist(side, moved), RAMW600.joint_space_indices(), (spacing, spacing))


def test_the_phantoms_joint_spaces_are_the_same_at_three_resolutions() -> None:
    fine = wrist_widths(1600)
    assert np.isfinite(fine).all()
    np.testing.assert_allclose(wrist_widths(800), fine, atol=0.12)
    np.testing.assert_allclose(wrist_widths(600), fine, atol=0.15)  # one pixel is .149 mm
    np.testing.assert_allclose(wrist_widths(300), fine, atol=0.25)  # one pixel is .298 mm


def test_a_bone_that_moves_off_widens_its_joint_and_no_other() -> None:
    before, after = wrist_widths(600), wrist_widths(600, Metacarpal3rd=(0, -8))
    names = ["+".join(pair) for pair in RAMW600.joint_spaces]
    change = dict(zip(names, (after - before) / 0.149, strict=True))
    # 8 px along the axis of the hand; the surface is curved, so its width grows by 8 times the cosine of its slope.
    assert 6.5 < change.pop("Capitate+Metacarpal3rd") <= 8.1
    assert all(value == 0 for value in change.values())
