import numpy as np
import pytest

from ramw_fed.data.batches import balanced_batches, padded_batches, shuffled_batches


@pytest.mark.parametrize("num_rows", [1, 2, 7, 8, 9, 10, 17])
def test_every_row_stands_in_exactly_one_batch(num_rows: int) -> None:
    batches = shuffled_batches(num_rows, 8, 3, "erosion", 1, "HU")
    assert sorted(np.concatenate(batches).tolist()) == list(range(num_rows))
    assert num_rows == 1 or min(len(rows) for rows in batches) > 1


def test_order_follows_the_key_alone() -> None:
    def order(*key: int | str) -> list[int]:
        return np.concatenate(shuffled_batches(50, 8, *key)).tolist()

    assert order(0, "erosion", 1, "HU") == order(0, "erosion", 1, "HU")
    others = [(1, "erosion", 1, "HU"), (0, "segmentation", 1, "HU"), (0, "erosion", 2, "HU"), (0, "erosion", 1, "FA")]
    assert all(order(0, "erosion", 1, "HU") != order(*key) for key in others)


def test_padded_batches_have_one_length_and_say_how_many_rows_count() -> None:
    batches = padded_batches(5, 4)
    assert [rows.tolist() for rows, _ in batches] == [[0, 1, 2, 3], [4, 4, 4, 4]]
    assert [count for _, count in batches] == [4, 1]
    assert padded_batches(0, 4) == []


def test_balanced_batches_take_classes_in_turn_and_every_row_of_the_small_one_equally_often() -> None:
    groups = np.array([False] * 37 + [True] * 3)
    batches = balanced_batches(groups, 8, 0, "erosion", 1, "HU", 0)
    assert [len(rows) for rows in batches] == [8] * 5
    assert [int(groups[rows].sum()) for rows in batches] == [4] * 5
    rows, times = np.unique(np.concatenate(batches), return_counts=True)
    assert times[rows >= 37].tolist() in ([7, 7, 6], [7, 6, 7], [6, 7, 7])  # 20 turns of 3 rows
    assert set(times[rows < 37].tolist()) == {1}


def test_balanced_batches_take_each_patient_before_any_comes_again_whatever_their_joints() -> None:
    patients = np.array(["a"] * 9 + ["b"] * 2 + ["c"])
    drawn = patients[np.concatenate(balanced_batches(patients, 4, 0, 0))]
    assert all(set(drawn[start : start + 3]) == {"a", "b", "c"} for start in range(0, 12, 3))


def test_balanced_batches_follow_the_key_and_do_with_one_group_what_shuffling_does() -> None:
    groups = np.array([0, 1] * 10)
    one, again, other = (np.concatenate(balanced_batches(groups, 4, *key)) for key in ((0, 1), (0, 1), (0, 2)))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    alone = np.concatenate(balanced_batches(np.zeros(9), 4, 0))
    assert sorted(alone.tolist()) == list(range(9))
