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
        (0.80 * base_half, 36 / length + 0.05),
        (0.30 * base_half + 0.70 * shaft_half, 70 / length + 0.05),
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
            "258,252 267,241 281,237 299,236 317,234 331,237 338,246 339,262 335,283 335,304 340,322 340,342 331,360"
            " 315,370 298,374 281,370 267,359 256,343 253,326 257,309 260,293 257,277 255,264"
        ),
        "DistalRadius": _points(
            "173,418 175,402 186,392 203,396 222,411 246,427 274,438 306,446 334,450 354,451 367,458 369,471 366,486"
            " 363,506 351,547 338,592 330,652 329,760 331,1000 333,1300 243,1300 241,1000 238,760 228,655 214,605"
            " 197,555 183,506 174,458"
        ),
        "DistalUlna": _points(
            "375,466 378,451 391,441 412,441 430,446 439,445 445,436 454,426 466,426 475,436 479,462 476,504 468,545"
            " 463,600 462,700 464,1000 466,1300 405,1300 404,1000 402,700 399,600 395,545 388,507 378,486"
        ),
        "Hamate": _points(
            "329,250 335,237 350,233 372,235 391,239 406,248 424,258 438,267 447,278 446,289 434,295 422,302 407,313"
            " 394,326 381,338 367,348 353,354 341,349 334,336 331,316 329,293 328,270"
        ),
        "Lunate": _points(
            "293,424 290,408 292,392 297,380 306,375 320,377 334,375 346,368 355,365 364,373 376,389 387,403 393,414"
            " 386,424 371,433 353,440 334,442 315,440 302,435"
        ),
        "Pisiform&Triquetrum": _points(
            "348,360 356,349 369,339 384,329 398,320 414,312 430,308 446,311 457,319 461,331 457,345 455,359 446,373"
            " 436,386 425,399 413,407 400,406 389,399 377,388 363,376 353,369"
        ),
        "Scaphoid": _points(
            "189,343 197,329 209,317 223,308 239,303 252,305 258,313 260,328 263,342 270,356 281,367 292,377 299,391"
            " 299,405 291,415 277,420 260,419 242,413 226,404 214,394 206,383 197,376 187,371 181,361 183,351"
        ),
        "Trapezium": _points(
            "183,232 197,236 212,243 223,258 229,280 226,299 217,316 204,327 188,335 172,344 158,346 144,338 135,329"
            " 127,319 126,308 132,298 139,288 146,276 153,262 161,247 170,235"
        ),
        "Trapezoid": _points(
            "196,262 198,247 208,237 222,232 236,226 250,231 264,238 272,250 274,266 270,282 262,296 254,306 240,307"
            " 225,300 211,289 201,276"
        ),
        "Metacarpal1st": _tube(
            [(45, 14), (42, 0), (29, -6), (13, 0), (-8, -2), (-26, -10), (-38, -8), (-46, 3), (-46, 20)],
            place=(134, 262), degrees=-28, base_half=46, shaft_half=28, head_half=40, length=280,
        ),
        "Metacarpal2nd": _tube(
            [(52, 18), (54, 0), (46, -17), (34, -13), (19, -2), (2, 3), (-15, 1), (-33, -9), (-48, -6), (-56, 8)],
            place=(217, 235), degrees=-6, base_half=52, shaft_half=23, head_half=36, length=405,
        ),
        "Metacarpal3rd": _tube(
            [(39, 22), (38, 7), (28, 0), (8, 2), (-12, 0), (-26, -5), (-37, -13), (-43, -4), (-42, 10), (-39, 25)],
            place=(299, 234), degrees=5, base_half=39, shaft_half=21, head_half=35, length=390,
        ),
        "Metacarpal4th": _tube(
            [(36, 22), (36, 6), (26, -2), (8, 0), (-10, -3), (-26, 2), (-36, 5), (-37, 22)],
            place=(359, 233), degrees=13, base_half=35, shaft_half=18, head_half=30, length=345,
        ),
        "Metacarpal5th": _tube(
            [(43, 36), (47, 18), (42, 3), (28, -9), (8, -6), (-12, -2), (-28, 8), (-40, 15), (-41, 32)],
            place=(416, 254), degrees=24, base_half=41, shaft_half=22, head_half=31, length=320,
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
