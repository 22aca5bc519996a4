"""The true image of a phantom beside what an attacker sees of it in each update."""

from collections.abc import Sequence

import cv2
import numpy as np

from ramw_fed.privacy.inversion.arms import Arm, Finding
from ramw_fed.privacy.inversion.likeness import as_grey
from ramw_fed.privacy.inversion.scene import Wanted
from ramw_fed.report.digits import short
from ramw_fed.report.overlays import Image

_SIDE, _GAP, _LINE = 192, 8, 18
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
_INK, _PAPER, _SHOWN = (41, 31, 31), (255, 255, 255), (0, 94, 213)


def sheet(wanted: Sequence[Wanted], findings: Sequence[Finding], arms: Sequence[Arm]) -> Image:
    """Return one picture: a row an image, first the truth, then each arm; how alike they are stands below.

    What is a reconstruction has a frame.
    """
    heads = [_text(_lines("true image"))] + [_text(_lines(arm.name)) for arm in arms]
    rows = [np.hstack(heads)]
    by_place = {(one.arm, one.wanted): one for one in findings}
    for number, one in enumerate(wanted):
        cells = [_cell(as_grey(one.image, one.image), [one.joint, ""], framed=False)]
        for arm in arms:
            found = by_place[arm.name, number]
            alike = found.likeness
            lines = [f"likeness {short(alike.correlation)}", f"place {alike.rank} of {alike.candidates}"]
            grey = as_grey(found.picture, one.image)
            cells.append(_cell(grey, lines, framed=alike.is_reconstruction))
        rows.append(np.hstack(cells))
    return np.asarray(np.vstack(rows), dtype=np.uint8)


def _cell(grey: Image, lines: Sequence[str], *, framed: bool) -> Image:
    large = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    colour = cv2.cvtColor(large, cv2.COLOR_GRAY2BGR)
    edge, half = _SHOWN if framed else _PAPER, _GAP // 2
    framed_picture = cv2.copyMakeBorder(colour, half, half, half, half, cv2.BORDER_CONSTANT, value=edge)
    return np.asarray(np.vstack([framed_picture, _text(lines)]), dtype=np.uint8)


def _text(lines: Sequence[str]) -> Image:
    strip = np.full((_LINE * len(lines) + _GAP, _SIDE + _GAP, 3), _PAPER, np.uint8)
    for number, line in enumerate(lines):
        at = (_GAP // 2, _LINE * (number + 1) - 4)
        cv2.putText(strip, line, at, _FONT, _SCALE, _INK, 1, cv2.LINE_AA)
    return np.asarray(strip, dtype=np.uint8)


def _lines(title: str) -> list[str]:
    first, _, second = title.partition(", ")
    return [first, second]
