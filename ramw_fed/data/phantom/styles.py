"""How an exposure looks: beam, detector, processing and view.

Every knob is drawn as a quantile of one wide range. With ``shift`` 0 all centers use the same uniform
quantiles; with ``shift`` 1 a center keeps to a narrow window of each range; in between the two are mixed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.special import ndtri


@dataclass(frozen=True, kw_only=True)
class Style:
    """One exposure. Lengths in pixels of a 600-pixel frame, grey values in [0, 1].

    Attributes:
        exposure: k in the tone curve ``1 - exp(-k L)``; larger saturates earlier.
        gamma: Power applied after the tone curve; below 1 brightens the dark parts.
        white: Grey value of the brightest bone.
        air: Grey value of air.
        soft_tissue: Attenuation of soft tissue beside that of bone.
        bone: Attenuation of bone.
        overlap_power: p in the power sum over superposed bones; 1 adds them up.
        rim: How much the cortex stands out against spongy bone.
        trabeculae: Contrast of the spongy texture.
        blur: Standard deviation of the focal and detector blur.
        noise: Standard deviation of the detector noise at mid exposure.
        grain: Standard deviation over which noise is correlated.
        unsharp: Amount of the wide unsharp mask of processed radiographs.
        unsharp_radius: Its standard deviation.
        shading: Height of a slow brightness drift (heel effect) over the frame.
        band: Width of a black collimation band at the frame's upper edge, 0 for none.
        margin: Factor on the width of soft tissue beside the bones.
        zoom: Magnification of the hand.
        shift_x, shift_y: Displacement of the hand.
        rotation: Degrees, clockwise.
    """

    exposure: float
    gamma: float
    white: float
    air: float
    soft_tissue: float
    bone: float
    overlap_power: float
    rim: float
    trabeculae: float
    blur: float
    noise: float
    grain: float
    unsharp: float
    unsharp_radius: float
    shading: float
    band: float
    margin: float
    zoom: float
    shift_x: float
    shift_y: float
    rotation: float


# Range of each look, then where in the range the six centers live when they are far apart.
_LOOKS: Mapping[str, tuple[float, float, tuple[float, float, float, float, float, float]]] = MappingProxyType(
    {
        "exposure": (0.5, 1.5, (0.5, 0.9, 0.1, 0.7, 0.3, 0.2)),
        "gamma": (0.86, 1.62, (0.4, 0.1, 0.9, 0.6, 0.2, 0.75)),
        "white": (0.84, 0.98, (0.8, 0.3, 0.9, 0.1, 0.6, 0.5)),
        "air": (0.03, 0.13, (0.8, 0.5, 0.1, 0.3, 0.95, 0.2)),
        "soft_tissue": (1.0, 1.7, (0.4, 0.9, 0.1, 0.7, 0.5, 0.2)),
        "bone": (0.45, 0.7, (0.5, 0.2, 0.9, 0.4, 0.1, 0.8)),
        "overlap_power": (1.4, 3.0, (0.4, 0.8, 0.2, 0.6, 0.9, 0.1)),
        "rim": (0.8, 1.5, (0.5, 0.1, 0.9, 0.3, 0.7, 0.6)),
        "trabeculae": (0.75, 1.4, (0.6, 0.2, 0.9, 0.4, 0.1, 0.8)),
        "blur": (0.35, 0.95, (0.4, 0.8, 0.1, 0.95, 0.6, 0.2)),
        "noise": (0.0035, 0.018, (0.3, 0.1, 0.5, 0.95, 0.7, 0.2)),
        "grain": (0.3, 1.1, (0.4, 0.7, 0.1, 0.9, 0.5, 0.2)),
        "unsharp": (0.1, 0.6, (0.6, 0.3, 0.9, 0.1, 0.2, 0.75)),
        "unsharp_radius": (3.0, 12.0, (0.5, 0.2, 0.8, 0.9, 0.1, 0.4)),
        "shading": (0.0, 0.10, (0.2, 0.5, 0.1, 0.9, 0.7, 0.4)),
        "margin": (0.8, 1.15, (0.4, 0.6, 0.2, 0.1, 0.9, 0.7)),
    }
)
# Views vary within every center: spread (one standard deviation), mean, and the centers' offsets in spreads.
_VIEWS: Mapping[str, tuple[float, float, tuple[float, float, float, float, float, float]]] = MappingProxyType(
    {
        "zoom": (0.085, 0.0, (0.2, -0.6, 0.5, -1.0, 0.9, 0.0)),
        "shift_x": (30.0, 0.0, (0.0, 0.3, -0.3, 0.5, -0.5, 0.1)),
        "shift_y": (60.0, 0.0, (0.2, -0.4, 0.5, 0.7, -0.7, 0.0)),
        "rotation": (9.0, 0.0, (0.0, 0.4, -0.4, 0.6, -0.7, 0.2)),
    }
)
_BAND_SHARE = (0.25, (0.6, 0.1, 0.3, 0.05, 0.8, 0.2))
_WINDOW = 0.16  # width of a center's quantile window at shift 1
_NUM_CENTERS = 6


def draw_style(rng: np.random.Generator, *, center: int, shift: float) -> Style:
    """Draw the look of one exposure.

    Args:
        rng: Source of all randomness; the number of draws depends on nothing.
        center: 0 to 5 (taken modulo six); without any effect at ``shift`` 0.
        shift: 0 (all centers alike: domain randomisation) to 1 (six narrow, distant looks).
    """
    center %= _NUM_CENTERS
    knobs = {}
    for name, (low, high, homes) in _LOOKS.items():
        knobs[name] = low + (high - low) * _quantile(rng.random(), homes[center], shift)
    for name, (spread, mean, offsets) in _VIEWS.items():
        normal = float(np.clip(ndtri(rng.random()), -2.2, 2.2))
        knobs[name] = mean + spread * ((1 - 0.35 * shift) * normal + shift * offsets[center])
    knobs["zoom"] = float(np.exp(knobs["zoom"]))
    share, shares = _BAND_SHARE
    has_band = rng.random() < (1 - shift) * share + shift * shares[center]
    width = rng.uniform(8, 42)
    knobs["band"] = width if has_band else 0.0
    return Style(**knobs)


def _quantile(uniform: float, home: float, shift: float) -> float:
    window = min(max(home - _WINDOW / 2, 0.0), 1 - _WINDOW) + _WINDOW * uniform
    return (1 - shift) * uniform + shift * window
