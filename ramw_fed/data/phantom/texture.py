"""Textures drawn once an exposure: spongy bone, slow density changes, detector noise."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_TILE = 300.0  # side of a texture tile in pixels of a 600-pixel frame


class Spongiosa(NamedTuple):
    """Square texture tiles of zero mean: a net of fine struts, streaks along y, slow changes of density.

    Struts and streaks are relative changes of spongy attenuation; ``slow`` has unit spread.
    """

    net: Field
    streaks: Field
    slow: Field


def draw_spongiosa(rng: np.random.Generator, scale: float) -> Spongiosa:
    """Draw the tiles at ``scale`` output pixels per frame pixel."""
    side = max(int(_TILE * scale), 24)
    noise = rng.standard_normal((3, side, side), dtype=np.float32)
    mesh = _strands(noise[0], 0.95 * scale, stretch=1.3)
    strands = _strands(noise[1], 1.0 * scale, stretch=4.0)
    across = np.rot90(_strands(noise[2], 1.0 * scale, stretch=3.0))
    struts = _unit(np.asarray(0.7 * mesh + strands + 0.6 * across, dtype=np.float32))
    streaks = _strands(noise[2], 1.0 * scale, stretch=8.0) + 0.5 * _strands(noise[0], 1.6 * scale, stretch=6.0)
    slow = draw_slow_field(rng, side, side, (13, 13))
    # Averaging over a coarser pixel takes contrast from the texture.
    contrast = 0.19 * min(scale, 1.0) ** 0.35
    return Spongiosa(0.9 * contrast * struts, contrast * (0.85 * _unit(streaks) + 0.5 * struts), slow)


def _strands(noise: Field, width: float, *, stretch: float) -> Field:
    """Thin winding bright lines on dark ground, longer along y by ``stretch``: zero crossings of banded noise.

    So look thin plates seen edge-on.
    """
    smooth = cv2.GaussianBlur(noise, (0, 0), max(width, 0.45), sigmaY=max(width * stretch, 0.45))
    wide = max(1.7 * width, 0.9)
    smooth -= cv2.GaussianBlur(noise, (0, 0), wide, sigmaY=wide * stretch)
    return np.asarray(np.exp(-((_unit(smooth) / 0.38) ** 2)), dtype=np.float32)


def draw_slow_field(rng: np.random.Generator, height: int, width: int, knots: tuple[int, int]) -> Field:
    """A smooth field ``(height, width)`` of about unit spread, through random ``knots`` (rows, columns)."""
    values = rng.standard_normal(knots, dtype=np.float32)
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def draw_noise(rng: np.random.Generator, height: int, width: int, grain: float) -> Field:
    """White noise ``(height, width)`` of unit spread, blurred over ``grain`` output pixels."""
    noise = rng.standard_normal((height, width), dtype=np.float32)
    return _unit(cv2.GaussianBlur(noise, (0, 0), grain)) if grain > 0.25 else noise


def _unit(field: Field) -> Field:
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), dtype=np.float32)
