"""Outlines of an average right wrist, postero-anterior, thumb to the left and fingers up.

Unit of length everywhere in this package: one pixel of a 600-pixel frame. Places and proportions are
averages over 25 real wrists, with the capitate's centroid at (300, 302); long bones go on far beyond the
frame. Points go clockwise as seen on the image; ``smooth_outline`` draws the curve through them.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

FRAME_SIDE = 600.0


def smooth_outline(control: Points, num_between: int = 6) -> Points:
    """Points ``(K * num_between, 2)`` of a closed cubic curve along control points ``(K, 2)``.

    A Catmull-Rom curve mixed with a B-spline: rounder at corners than the first, fuller than the second.
    """
    index = np.arange(len(control))[:, None] + [-1, 0, 1, 2]
    neighbours = control[index % len(control)]
    return np.asarray(np.einsum("tk,nkd->ntd", _basis(num_between), neighbours).reshape(-1, 2))


@cache
def _basis(num_between: int) -> Points:
    t = np.arange(num_between) / num_between
    powers = np.stack([np.ones_like(t), t, t**2, t**3], axis=1)
    catmull_rom = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    b_spline = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6
    return np.asarray(powers @ (0.95 * catmull_rom + 0.05 * b_spline))


def _tube(
    base: list[tuple[float, float]],
    *,
    place: tuple[float, float],
    degrees: float,
    base_half: float,
    shaft_half: float,
    head_half: float,
    length: float,
) -> Points:
    """A short tubular bone: base, waisted shaft, round head.

    Drawn upright with the origin at its base (x to the ulnar side, y towards the fingertip), then turned
    clockwise by ``degrees`` and put to ``place``. ``base`` goes from the ulnar to the radial corner.
    """
    side = [
        (0.86 * base_half, 36 / length + 0.05),
        (0.38 * base_half + 0.62 * shaft_half, 70 / length + 0.05),
        (1.10 * shaft_half, 105 / length + 0.05),
        (0.98 * shaft_half, 0.50),
        (1.08 * shaft_half, 0.70),
        (0.86 * head_half, 0.83),
        (head_half, 0.91),
        (0.72 * head_half, 0.975),
    ]
    radial = [(-x, length * y) for x, y in side]
    ulnar = [(x, length * y) for x, y in reversed(side)]
    upright = np.array([*base, *radial, (0.0, length), *ulnar]) * [1, -1]
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(upright @ turn + place)


def _points(text: str) -> Points:
    return np.array([[float(number) for number in pair.split(",")] for pair in text.split()])


OUTLINES: Mapping[str, Points] = MappingProxyType(
    {
        "Capitate": _points(
            "258,262 262,241 269,235 291,234 316,233 333,236 340,249 337,277 335,304 339,328 338,351"
            " 325,368 304,374 282,372 265,356 256,336 254,313 258,288"
        ),
        "DistalRadius": _points(
            "173,416 177,399 189,390 205,396 222,412 246,428 274,439 306,446 334,450 354,452 366,459 370,480"
            " 365,509 351,547 338,592 330,652 329,760 331,1000 333,1300 243,1300 241,1000 238,760 228,655"
            " 214,605 197,555 184,506 175,458"
        ),
        "DistalUlna": _points(
            "376,466 379,450 393,440 414,441 431,448 441,444 446,428 453,415 465,413 474,426 478,462 476,504"
            " 468,545 463,600 462,700 464,1000 466,1300 405,1300 404,1000 402,700 399,600 395,545 388,507 379,486"
        ),
        "Hamate": _points(
            "331,250 337,236 352,232 376,232 397,237 419,249 439,263 452,275 446,290 423,304 399,316"
            " 378,328 359,344 346,350 335,338 331,318 329,293 329,268"
        ),
        "Lunate": _points(
            "293,417 293,399 298,385 314,379 329,371 344,366 353,376 367,392 384,407 386,418 375,432"
            " 349,440 320,439 300,433"
        ),
        "Pisiform&Triquetrum": _points(
            "349,358 362,342 383,329 405,318 431,310 451,316 460,332 454,358 439,384 417,403 397,407"
            " 381,393 365,375"
        ),
        "Scaphoid": _points(
            "187,344 196,327 213,313 235,304 254,305 256,321 256,336 263,353 278,367 291,377 299,392"
            " 296,409 282,418 261,418 239,410 212,395 193,377 184,360"
        ),
        "Trapezium": _points(
            "181,236 203,236 218,255 229,284 223,310 209,327 185,340 159,345 135,336 120,320 118,299"
            " 127,278 141,262 159,249"
        ),
        "Trapezoid": _points(
            "198,260 203,242 219,229 251,228 268,239 273,262 268,286 256,302 236,306 217,295 205,281"
        ),
        "Metacarpal1st": _tube(
            [(49, 10), (40, -4), (16, 3), (-8, -3), (-32, -14), (-47, -10), (-51, 14)],
            place=(132, 267), degrees=-28, base_half=49, shaft_half=27, head_half=40, length=280,
        ),
        "Metacarpal2nd": _tube(
            [(53, 6), (48, -13), (30, -12), (10, 3), (-10, 5), (-32, -4), (-50, 2), (-57, 20)],
            place=(217, 237), degrees=-6, base_half=52, shaft_half=23, head_half=36, length=405,
        ),
        "Metacarpal3rd": _tube(
            [(39, 16), (34, 2), (10, 0), (-14, -2), (-32, -10), (-40, 0), (-41, 22)],
            place=(299, 232), degrees=5, base_half=39, shaft_half=21, head_half=35, length=390,
        ),
        "Metacarpal4th": _tube(
            [(37, 18), (33, 2), (12, -2), (-12, 1), (-32, 3), (-37, 20)],
            place=(360, 230), degrees=13, base_half=35, shaft_half=18, head_half=30, length=345,
        ),
        "Metacarpal5th": _tube(
            [(42, 28), (40, 8), (24, -8), (0, -6), (-22, 2), (-38, 12), (-41, 30)],
            place=(420, 250), degrees=24, base_half=41, shaft_half=22, head_half=31, length=320,
        ),
    }
)  # fmt: skip
"""Control points ``(K, 2)`` of each bone."""

PISIFORM: Points = _points("380,352 384,334 398,322 416,319 434,325 445,340 446,358 436,374 418,382 400,380 386,370")
"""The pisiform lies in front of the triquetrum and shares its mask."""

PHALANGES: Mapping[str, Points] = MappingProxyType(
    {
        bone: _tube(
            [(half, 12), (half - 6, 1), (0, 6), (6 - half, 1), (-half, 12)],
            place=place, degrees=degrees, base_half=half, shaft_half=0.56 * half, head_half=0.74 * half, length=length,
        )
        for bone, place, degrees, half, length in (
            ("Metacarpal1st", (-22.0, 12.0), -20.0, 36.0, 190.0),
            ("Metacarpal2nd", (178.0, -176.0), -6.0, 38.0, 250.0),
            ("Metacarpal3rd", (335.0, -168.0), 3.0, 38.0, 270.0),
            ("Metacarpal4th", (443.0, -112.0), 12.0, 34.0, 250.0),
            ("Metacarpal5th", (555.0, -48.0), 24.0, 31.0, 200.0),
        )
    }
)  # fmt: skip
"""The proximal phalanx that follows each metacarpal: seen on wide views, no part of any mask."""

SESAMOIDS: Points = _points("22,14 -6,36")
"""Centers of the thumb's two sesamoid bones."""
