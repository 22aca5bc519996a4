"""Which rows stand together in a step."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ramw_fed.seeding import derive_seed

Rows = NDArray[np.int64]


class Examples(Protocol):
    """What one center has of one split; a row is what a step counts (an image, a joint)."""

    patients: NDArray[np.str_]  # (rows,)
    names: NDArray[np.str_]  # (rows,) radiograph of each row

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def batch(self, rows: Rows, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Return (inputs, targets) of these rows; ``augment_key`` = (seed, epoch), None for no augmentation."""
        ...


def balanced_batches(groups: NDArray[Any], batch_size: int, *key: int | str) -> list[Rows]:
    """Return as many rows as there are, every group as often as any other, in an order that ``key`` decides.

    Groups take turns, and within a group its rows do: a row of a small group comes again and again, one of a large
    group may not come at all.

    Args:
        groups: ``(rows,)`` the group of each row, such as its class or its patient.
        batch_size: As in :func:`shuffled_batches`.
        key: Decides the order of the groups and of the rows in each.
    """
    generator = np.random.default_rng(derive_seed(*key))
    names = generator.permutation(np.unique(groups))
    members = [generator.permutation(np.flatnonzero(groups == name)) for name in names]
    turns = [divmod(turn, len(members)) for turn in range(len(groups))]
    rows = np.array([members[group][lap % len(members[group])] for lap, group in turns], np.int64)
    return _cut(rows, batch_size)


def shuffled_batches(num_rows: int, batch_size: int, *key: int | str) -> list[Rows]:
    """Return every row once, in an order that ``key`` decides.

    The last batch is shorter and still used; a single left-over row joins the batch before, because batch normalisation
    has no variance of one value.

    >>> [len(rows) for rows in shuffled_batches(9, 4, 0)], [len(rows) for rows in shuffled_batches(10, 4, 0)]
    ([4, 5], [4, 4, 2])
    """
    return _cut(np.random.default_rng(derive_seed(*key)).permutation(num_rows).astype(np.int64), batch_size)


def _cut(order: Rows, batch_size: int) -> list[Rows]:
    num_rows = len(order)
    starts = list(range(0, num_rows, batch_size))
    if len(starts) > 1 and num_rows - starts[-1] == 1:
        starts.pop()
    return [order[start:end] for start, end in zip(starts, [*starts[1:], num_rows], strict=True)]


def padded_batches(num_rows: int, batch_size: int) -> list[tuple[Rows, int]]:
    """Return all rows in order as batches of equal size, the last one filled up with its last row, and how many count.

    One shape for every batch: what a network says of an image then depends on the image alone.
    """
    batches = []
    for start in range(0, num_rows, batch_size):
        rows = np.arange(start, start + batch_size, dtype=np.int64)
        batches.append((np.minimum(rows, num_rows - 1), min(batch_size, num_rows - start)))
    return batches
