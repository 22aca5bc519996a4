import numpy as np
import pytest

from ramw_fed.data.batches import padded_batches, shuffled_batches


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
