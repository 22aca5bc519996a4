"""Textures drawn once an exposure: spongy bone, slow density changes, detector noise."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_TILE = 300.0  # side of a texture tile in pixels of a 600-pixel frame


class Spongiosa(NamedTuple):
    """Two texture tiles of zero mean and about unit spread: a net of fine struts, and streaks along y."""

    net: Field
    streaks: Field


def draw_spongiosa(rng: np.random.Generator, scale: float) -> Spongiosa:
    """Draw both tiles at ``scale`` output pixels per frame pixel.

    Struts are the zero crossings of band-passed noise: thin winding bright lines, as plates seen edge-on.
    """
    side = max(int(_TILE * scale), 24)
    noise = rng.standard_normal((2, side, side), dtype=np.float32)
    fine = _band(noise[0], max(1.5 * scale, 0.55), max(3.6 * scale, 1.2))
    coarse = _band(noise[1], max(2.6 * scale, 0.7), max(6.5 * scale, 1.8))
    struts = np.exp(-((fine / 0.45) ** 2)) + 1.1 * np.exp(-((coarse / 0.30) ** 2)) + 0.25 * fine
    long = max(7.0 * scale, 1.2)
    streaks = _unit(cv2.GaussianBlur(noise[1], (0, 0), max(1.1 * scale, 0.4), sigmaY=long))
    broad = _unit(cv2.GaussianBlur(noise[0], (0, 0), max(2.2 * scale, 0.6), sigmaY=1.6 * long))
    streaks = streaks + 0.7 * broad + 0.45 * _unit(struts)
    return Spongiosa(_unit(struts), _unit(streaks))


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
