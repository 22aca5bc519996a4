"""Grey levels of any depth to the 8 bits that everything else works with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A radiograph of RAM-W600 has half a megapixel; a header that promises more than this is a bomb or a mistake.
MAX_PIXELS = 64_000_000

# A marker of lead and a dead pixel are fewer than one in a thousand; the darkest and brightest bone are more.
_TAILS = (0.1, 99.9)


def to_eight_bits(levels: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Return levels as uint8: ``black`` and below 0, ``white`` and above 255, linear between, rounded to even.

    Where ``white`` does not lie above ``black``, all levels above ``black`` are 255.
    """
    values = np.asarray(levels, np.float64)
    if white <= black:
        return np.where(values > black, 255, 0).astype(np.uint8)
    return np.asarray(np.rint(((values - black) / (white - black)).clip(0, 1) * 255).astype(np.uint8))


def stretch(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return levels as uint8, from their own 0.1st percentile to their 99.9th."""
    black, white = np.percentile(levels, _TAILS)
    return to_eight_bits(levels, float(black), float(white))
