"""Outlines of an average right wrist, postero-anterior, thumb to the left and fingers up.

Unit of length everywhere in this package: one pixel of a 600-pixel frame. Places and proportions are
averages over 25 real wrists, with the capitate's centroid at (300, 302); long bones go on far beyond the
frame. Points go clockwise as seen on the image; ``smooth_outline`` draws the curve through them.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

FRAME_SIDE = 600.0


def smooth_outline(control: Points, num_between: int = 6) -> Points:
    """Points ``(K * num_between, 2)`` of a closed cubic curve along control points ``(K, 2)``.

    A Catmull-Rom curve mixed with a B-spline: rounder at corners than the first, fuller than the second.
    """
    neighbours = np.stack([np.roll(control, shift, axis=0) for shift in (1, 0, -1, -2)], axis=1)
    return np.asarray(np.einsum("tk,nkd->ntd", _basis(num_between), neighbours).reshape(-1, 2))


def _basis(num_between: int) -> Points:
    t = np.arange(num_between) / num_between
    powers = np.stack([np.ones_like(t), t, t**2, t**3], axis=1)
    catmull_rom = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    b_spline = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6
    return np.asarray(powers @ (0.7 * catmull_rom + 0.3 * b_spline))


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
        (0.80 * base_half, 0.16),
        (1.14 * shaft_half, 0.29),
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
            "260,247 272,238 292,234 316,233 334,239 339,256 335,278 334,302 339,326 338,348 325,365 304,373"
            " 281,370 263,356 253,336 252,314 257,292 259,268"
        ),
        "DistalRadius": _points(
            "175,412 180,395 192,387 206,393 222,410 246,425 274,435 306,441 334,446 352,448 362,457 365,476"
            " 359,506 346,542 333,590 327,650 326,760 330,1000 332,1300 244,1300 242,1000 239,760 233,650"
            " 222,600 205,550 190,502 179,455"
        ),
        "DistalUlna": _points(
            "378,462 382,446 396,437 416,438 434,443 442,436 446,422 454,412 464,416 471,434 475,464 472,504"
            " 466,545 462,600 461,700 463,1000 465,1300 406,1300 405,1000 403,700 401,600 397,545 389,505 380,482"
        ),
        "Hamate": _points(
            "342,250 352,241 374,238 396,242 416,254 434,264 442,278 434,294 414,308 394,322 374,342 356,352"
            " 344,344 339,322 337,298 338,272"
        ),
        "Lunate": _points(
            "294,412 296,396 304,382 320,374 338,370 352,378 366,394 382,408 383,420 368,431 346,437 320,436 302,427"
        ),
        "Pisiform&Triquetrum": _points(
            "353,362 362,349 380,336 402,323 424,318 442,326 449,342 446,362 432,380 412,398 394,402 380,394 366,379"
        ),
        "Scaphoid": _points(
            "187,346 200,328 218,312 236,307 248,316 252,336 259,358 273,376 290,388 297,402 288,416 266,420"
            " 240,411 214,394 194,376 184,361"
        ),
        "Trapezium": _points(
            "150,262 163,250 180,244 196,248 206,264 215,284 212,304 196,320 176,332 154,334 137,326 129,312 134,294"
            " 144,280"
        ),
        "Trapezoid": _points(
            "198,262 208,248 226,238 246,238 262,250 267,268 262,288 248,304 230,310 214,298 203,282"
        ),
        "Metacarpal1st": _tube(
            [(47, 8), (36, -2), (14, 3), (-8, -3), (-32, -12), (-46, -6), (-47, 14)],
            place=(111, 266), degrees=-28, base_half=47, shaft_half=28, head_half=40, length=278,
        ),
        "Metacarpal2nd": _tube(
            [(48, 2), (42, -13), (26, -10), (8, 4), (-10, 6), (-30, -2), (-46, 4), (-52, 20)],
            place=(221, 234), degrees=-6, base_half=49, shaft_half=23, head_half=35, length=402,
        ),
        "Metacarpal3rd": _tube(
            [(34, 14), (28, 1), (8, 0), (-14, -2), (-30, -8), (-36, 2), (-37, 22)],
            place=(300, 227), degrees=5, base_half=36, shaft_half=22, head_half=34, length=388,
        ),
        "Metacarpal4th": _tube(
            [(32, 18), (28, 2), (10, -1), (-12, 2), (-28, 4), (-32, 20)],
            place=(364, 229), degrees=13, base_half=32, shaft_half=18, head_half=29, length=342,
        ),
        "Metacarpal5th": _tube(
            [(36, 26), (34, 8), (20, -6), (0, -4), (-20, 4), (-34, 14), (-36, 30)],
            place=(424, 252), degrees=24, base_half=36, shaft_half=21, head_half=30, length=318,
        ),
    }
)
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
