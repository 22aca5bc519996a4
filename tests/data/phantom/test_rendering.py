from functools import cache

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ramw_fed.data.phantom.anatomy import BONES, JOINTS, draw_anatomy
from ramw_fed.data.phantom.rendering import Wrist, render
from ramw_fed.data.phantom.styles import draw_style

OVERLAPS = (
    (1, 6), (1, 4), (6, 7), (0, 6), (7, 9), (0, 11), (3, 12),
    (4, 6), (7, 8), (0, 8), (3, 13), (7, 10), (8, 10), (10, 11),
)  # fmt: skip


def _wrist(seed: int, *, size: int = 128, field_of_view: float = 1.0, **scores: int) -> Wrist:
    rng = np.random.default_rng([11, seed])
    anatomy = draw_anatomy(rng, has_arthritis=bool(seed % 2))
    style = draw_style(rng, center=0, shift=0.0)
    return render(anatomy, style, scores=scores, size=size, rng=rng, field_of_view=field_of_view)


@cache
def _sound_wrists() -> list[Wrist]:
    return [_wrist(seed) for seed in range(24)]


def test_same_seed_same_bytes() -> None:
    one, two = _wrist(1, Lunate=3), _wrist(1, Lunate=3)
    assert one.image.tobytes() == two.image.tobytes()
    assert one.masks.tobytes() == two.masks.tobytes()
    assert one.boxes == two.boxes


def test_same_generator_state_same_bytes_whatever_was_spawned_before() -> None:
    anatomy = draw_anatomy(np.random.default_rng(0), has_arthritis=False)
    style = draw_style(np.random.default_rng(0), center=0, shift=0.0)
    fresh, used = np.random.default_rng(5), np.random.default_rng(5)
    used.spawn(2)
    images = [render(anatomy, style, scores={}, size=96, rng=rng).image for rng in (fresh, used)]
    assert np.array_equal(*images)


def test_another_exposure_of_the_same_hand_is_another_image() -> None:
    rng = np.random.default_rng(2)
    anatomy, style = draw_anatomy(rng, has_arthritis=False), draw_style(rng, center=0, shift=0.0)
    first, second = (render(anatomy, style, scores={}, size=96, rng=rng) for _ in range(2))
    assert not np.array_equal(first.image, second.image)
    assert not np.array_equal(first.masks, second.masks)


@pytest.mark.parametrize("size", [48, 96, 200])
def test_shapes_and_types(size: int) -> None:
    wrist = _wrist(0, size=size)
    assert (wrist.image.shape, wrist.image.dtype) == ((size, size), np.uint8)
    assert (wrist.masks.shape, wrist.masks.dtype) == ((14, size, size), bool)
    assert tuple(wrist.boxes) == JOINTS


def test_a_wider_field_of_view_keeps_the_scale_and_shows_more() -> None:
    pairs = [(_wrist(seed), _wrist(seed, field_of_view=1.5)) for seed in range(4)]
    assert pairs[0][1].image.shape == (192, 192)
    capitate = BONES.index("Capitate")
    areas = np.array([[wrist.masks[capitate].sum(), wrist.masks.sum()] for pair in pairs for wrist in pair])
    # The thumb's bones reach out of the frame, the capitate never: same pixels, wherever it lies.
    assert areas[1::2, 0] == pytest.approx(areas[::2, 0], rel=0.05)
    assert (areas[1::2, 1] > 1.1 * areas[::2, 1]).all()


def test_every_bone_is_there_and_inside_plausible_area() -> None:
    shares = np.array([wrist.masks.mean(axis=(1, 2)) for wrist in _sound_wrists()])
    assert (shares > 0.004).all()
    assert (shares < 0.16).all()
    # Means of outlines drawn on 25 real wrists: capitate .029, lunate .014, scaphoid .020, radius .083 of the frame.
    for bone, share in {"Capitate": 0.029, "Lunate": 0.014, "Scaphoid": 0.020, "DistalRadius": 0.083}.items():
        assert shares[:, BONES.index(bone)].mean() == pytest.approx(share, rel=0.35)


def test_neighbours_overlap_in_most_wrists() -> None:
    for one, other in OVERLAPS:
        share = np.mean([(wrist.masks[one] & wrist.masks[other]).any() for wrist in _sound_wrists()])
        assert share > 0.5, (BONES[one], BONES[other])


def test_thumb_is_to_the_left_and_fingers_are_up() -> None:
    def center(wrist: Wrist, bone: str) -> np.ndarray:
        return np.argwhere(wrist.masks[BONES.index(bone)]).mean(axis=0)

    for wrist in _sound_wrists():
        thumb, little, radius = (center(wrist, bone) for bone in ("Metacarpal1st", "Metacarpal5th", "DistalRadius"))
        assert thumb[1] < little[1]
        assert max(thumb[0], little[0]) < radius[0]


@pytest.mark.parametrize("joint", JOINTS)
def test_an_erosion_shrinks_the_mask_of_its_bone_only_and_more_with_the_grade(joint: str) -> None:
    index = BONES.index(joint)
    lost = np.zeros(6)
    for seed in range(4):
        sound = _wrist(seed, size=96).masks
        for grade in (1, 3, 5):
            eroded = _wrist(seed, size=96, **{joint: grade}).masks
            others = np.delete(np.arange(14), index)
            assert np.array_equal(eroded[others], sound[others])
            assert not (eroded[index] & ~sound[index]).any()
            lost[grade] += sound[index].sum() - eroded[index].sum()
    assert 0 < lost[1] < lost[3] < lost[5]


def test_boxes_hold_the_joint_and_have_the_published_size() -> None:
    sides = []
    for wrist in _sound_wrists():
        for joint, (x0, y0, x1, y1) in wrist.boxes.items():
            assert 0 <= x0 < x1 <= 128
            assert 0 <= y0 < y1 <= 128
            if joint in ("Trapezium", "Scaphoid", "Lunate"):
                mask = wrist.masks[BONES.index(joint)]
                assert mask[y0:y1, x0:x1].sum() > 0.85 * mask.sum()
            sides += [(x1 - x0) * 600 / 128, (y1 - y0) * 600 / 128]
    assert 140 < np.median(sides) < 200
    assert np.percentile(sides, 97) < 290


def test_brightness_of_a_crop_says_next_to_nothing_about_erosion() -> None:
    is_eroded, brightness = [], []
    for seed in range(120):
        grades = np.random.default_rng([13, seed]).integers(1, 6, 6) * (np.random.default_rng(seed).random(6) < 0.4)
        wrist = _wrist(seed, size=72, **dict(zip(JOINTS, grades.tolist(), strict=True)))
        for joint, (x0, y0, x1, y1) in wrist.boxes.items():
            is_eroded.append(grades[JOINTS.index(joint)] > 0)
            brightness.append(wrist.image[y0:y1, x0:x1].mean())
    auroc = roc_auc_score(is_eroded, brightness)
    assert max(auroc, 1 - auroc) <= 0.60


def test_a_mean_mask_is_no_segmenter() -> None:
    masks = np.array([wrist.masks for wrist in _sound_wrists()])
    template = masks[:16].mean(axis=0) > 0.3
    dice = 2 * (template & masks[16:]).sum((2, 3)) / (template.sum((1, 2)) + masks[16:].sum((2, 3)))
    assert dice.mean() < 0.60


def test_a_black_band_hides_image_and_masks() -> None:
    rng = np.random.default_rng(0)
    anatomy = draw_anatomy(rng, has_arthritis=False)
    style = next(s for s in (draw_style(rng, center=0, shift=0.0) for _ in range(100)) if s.band > 20)
    wrist = render(anatomy, style, scores={}, size=300, rng=rng)
    rows = round(style.band / 2)
    assert wrist.image[:rows].max() == 0
    assert not wrist.masks[:, :rows].any()
    assert wrist.image[rows].mean() > 3
