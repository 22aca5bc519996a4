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
    """Draw the tiles at ``scale`` output pixels per frame pixel.

    Struts are the zero crossings of band-passed noise: thin winding bright lines, as plates seen edge-on.
    """
    side = max(int(_TILE * scale), 24)
    noise = rng.standard_normal((3, side, side), dtype=np.float32)
    fine = _band(noise[0], max(1.2 * scale, 0.5), max(2.1 * scale, 1.0))
    coarse = _band(noise[1], max(2.4 * scale, 0.7), max(3.8 * scale, 1.4))
    patches = np.clip(1 + 0.3 * draw_slow_field(rng, side, side, 8), 0.4, 1.6)
    struts = np.exp(-((fine / 0.45) ** 2)) + 0.9 * np.exp(-((coarse / 0.3) ** 2)) * patches
    struts = _unit(struts)
    streaks = _unit(cv2.GaussianBlur(noise[2], (0, 0), max(0.9 * scale, 0.4), sigmaY=max(6.0 * scale, 1.2)))
    broad = _unit(cv2.GaussianBlur(noise[0], (0, 0), max(1.8 * scale, 0.6), sigmaY=max(12.0 * scale, 2.0)))
    slow = draw_slow_field(rng, side, side, 9)
    # Averaging over a coarser pixel takes contrast from the texture.
    contrast = 0.22 * min(scale, 1.0) ** 0.35
    net = contrast * struts
    return Spongiosa(net, contrast * (0.6 * streaks + 0.3 * broad + 0.8 * struts), slow)


def draw_slow_field(rng: np.random.Generator, height: int, width: int, num_knots: int = 5) -> Field:
    """A smooth field ``(height, width)`` of about unit spread, through ``num_knots`` random knots a side."""
    knots = rng.standard_normal((num_knots, num_knots), dtype=np.float32)
    return np.asarray(cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def draw_noise(rng: np.random.Generator, height: int, width: int, grain: float) -> Field:
    """White noise ``(height, width)`` of unit spread, blurred over ``grain`` output pixels."""
    noise = rng.standard_normal((height, width), dtype=np.float32)
    return _unit(cv2.GaussianBlur(noise, (0, 0), grain)) if grain > 0.25 else noise


def _band(noise: Field, fine: float, coarse: float) -> Field:
    return _unit(cv2.GaussianBlur(noise, (0, 0), fine) - cv2.GaussianBlur(noise, (0, 0), coarse))


def _unit(field: Field) -> Field:
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), dtype=np.float32)
