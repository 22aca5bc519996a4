"""The size of a pixel, as tables and headers write it."""

import re
from typing import Any


def read_spacing(cell: Any) -> tuple[float, float] | None:
    r"""Return height and width of a pixel in mm, one number counting for both; None where it cannot be read.

    >>> read_spacing("[0.15, 0.15]"), read_spacing(0.1), read_spacing("0.2\\0.3"), read_spacing("wide")
    ((0.15, 0.15), (0.1, 0.1), (0.2, 0.3), None)
    """
    numbers = [float(text) for text in re.findall(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", str(cell))]
    if len(numbers) == 1:
        numbers *= 2
    if len(numbers) != 2 or not all(0 < number < 10 for number in numbers):
        return None
    return numbers[0], numbers[1]
