import pickle
import shutil
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from ramw_fed.data.cohort import Cohort
from ramw_fed.data.packed import pack, pack_crops
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.errors import CohortError


def mirrored(array: np.ndarray, radiograph: Radiograph) -> np.ndarray:
    return array[..., ::-1] if radiograph.side == "L" else array


def test_at_native_size_it_equals_direct_reading(phantom_cohort: Cohort) -> None:
    packed = pack(phantom_cohort, None)
    assert packed.names == tuple(radiograph.name for radiograph in phantom_cohort.radiographs)
    for row, radiograph in enumerate(phantom_cohort.radiographs):
        assert np.array_equal(packed.image(row), mirrored(radiograph.read_image(), radiograph))
        assert np.array_equal(packed.masks(row), mirrored(radiograph.read_masks(), radiograph))


def test_mirroring_can_be_switched_off(phantom_cohort: Cohort) -> None:
    packed, crops = pack(phantom_cohort, None, mirror=False), pack_crops(phantom_cohort, 24, mirror=False)
    flipped = pack_crops(phantom_cohort, 24)
    for row, radiograph in enumerate(phantom_cohort.radiographs):
        assert np.array_equal(packed.image(row), radiograph.read_image())
        for joint in range(6):
            assert crops.has_crop(row, joint)
            assert np.array_equal(flipped.crop(row, joint), mirrored(crops.crop(row, joint), radiograph))
    assert {radiograph.side for radiograph in phantom_cohort.radiographs} == {"L", "R"}


def test_images_shrink_by_area_means_and_masks_by_majority(phantom_cohort: Cohort) -> None:
    half = pack(phantom_cohort, 32, mirror=False)
    for row in range(5):
        radiograph = phantom_cohort.radiographs[row]
        image, masks = radiograph.read_image(), radiograph.read_masks()
        blocks = masks.reshape(14, 32, 2, 32, 2).sum(axis=(2, 4))
        assert np.array_equal(half.masks(row), blocks > 2)
        means = image.reshape(32, 2, 32, 2).mean(axis=(1, 3))
        assert np.abs(half.image(row) - means).max() <= 0.5


def test_crops_fill_their_square(phantom_cohort: Cohort) -> None:
    crops = pack_crops(phantom_cohort, 24, mirror=False)
    row = next(row for row, radiograph in enumerate(phantom_cohort.radiographs) if radiograph.crops)
    original = phantom_cohort.radiographs[row].read_crop("Lunate")
    expected = cv2.resize(
        original, (24, 24), interpolation=cv2.INTER_LINEAR if max(original.shape) <= 24 else cv2.INTER_AREA
    )
    assert np.array_equal(crops.crop(row, crops.joints.index("Lunate")), expected)


def test_what_is_not_there_is_refused_and_not_black(phantom_cohort: Cohort) -> None:
    bare = phantom_cohort.keep(replace(r, masks=None, crops={}, boxes={}) for r in phantom_cohort.radiographs[:2])
    bare = replace(bare, sha256="bare")
    packed, crops = pack(bare, 32), pack_crops(bare, 16)
    assert (packed.has_masks(0), crops.has_crop(0, 0)) == (False, False)
    with pytest.raises(CohortError, match="masks wanted"):
        packed.masks(0)
    with pytest.raises(CohortError, match="a crop of 'Metacarpal1st' wanted"):
        crops.crop(0, 0)


def test_an_empty_cohort_packs_to_nothing(phantom_cohort: Cohort) -> None:
    empty = phantom_cohort.keep([])
    assert (len(pack(empty, 32)), len(pack_crops(empty, 32))) == (0, 0)


def test_a_second_call_decodes_nothing(phantom_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pack(phantom_cohort, 40)
    monkeypatch.setattr(Radiograph, "read_image", None)
    again = pack(phantom_cohort, 40)
    assert again.folder == first.folder
    assert np.array_equal(again.image(3), first.image(3))


def test_a_center_packs_its_own_radiographs_only(phantom_cohort: Cohort) -> None:
    own = phantom_cohort.at("HU")
    packed = pack(own, 32)
    assert packed.names == tuple(radiograph.name for radiograph in own.radiographs)
    assert (packed.folder / "images.bin").stat().st_size == len(own.radiographs) * 32 * 32
    assert (packed.folder / "masks.bin").stat().st_size == len(own.radiographs) * 14 * 32 * 32 // 8


def test_it_travels_to_another_process_as_a_name(phantom_cohort: Cohort) -> None:
    packed, crops = pack(phantom_cohort, None), pack_crops(phantom_cohort, 24)
    blob = pickle.dumps((packed, crops))
    assert len(blob) < 1000
    again = pickle.loads(blob)
    assert np.array_equal(again[0].masks(2), packed.masks(2))
    assert again[1].names == crops.names


def test_what_it_returns_may_be_changed_without_changing_the_cache(phantom_cohort: Cohort) -> None:
    packed = pack(phantom_cohort, None)
    image = packed.image(0)
    image += 1
    assert not np.array_equal(packed.image(0), image)


def test_two_that_pack_at_the_same_time_do_not_disturb_each_other(phantom_cohort: Cohort) -> None:
    cohort = replace(phantom_cohort, sha256="raced")
    done: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: done.append(pack(cohort, 48).image(1))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert all(np.array_equal(done[0], image) for image in done)
    folder = pack(cohort, 48).folder
    assert [path for path in folder.parent.glob(f"{folder.name}*") if path != folder] == []


def test_a_failure_leaves_no_half_made_cache(phantom_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = replace(phantom_cohort, sha256="failing")
    with monkeypatch.context() as patch:
        patch.setattr(Radiograph, "read_masks", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack(cohort, 32)
    assert len(pack(cohort, 32)) == len(cohort.radiographs)


def test_a_cache_that_was_cut_short_is_named(phantom_cohort: Cohort) -> None:
    packed = pack(replace(phantom_cohort, sha256="cut"), 32)
    with (packed.folder / "masks.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(CohortError, match="delete"):
        pack(replace(phantom_cohort, sha256="cut"), 32)
    shutil.rmtree(packed.folder)


def test_packing_holds_one_image_in_memory_and_not_the_cohort(phantom_cohort: Cohort, tmp_path: Path) -> None:
    # 60 radiographs with masks would be 60 x 15 x 256 x 256 bytes = 59 MB; one is 1 MB, its masks as float32 4 MB.
    cohort = replace(phantom_cohort, sha256="memory")
    tracemalloc.start()
    packed = pack(cohort, 256)
    for row in range(len(packed)):
        packed.image(row)
        packed.masks(row)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6
