"""From attenuation to the grey values of a processed radiograph."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.phantom.styles import Style
from ramw_fed.data.phantom.texture import Field, draw_noise, draw_slow_field


def expose(bones: Field, soft: Field, style: Style, *, scale: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Image ``(H, W)`` uint8 of bones' and soft tissue's attenuation, same shape.

    Args:
        bones: Attenuation of bone.
        soft: Thickness of soft tissue, 0 in air.
        style: The exposure.
        scale: Output pixels per frame pixel.
        rng: Source of shading and noise.
    """
    height, width = soft.shape
    tendons = draw_slow_field(rng, height, width, (5, 26)) + draw_slow_field(rng, height, width, (9, 9))
    attenuation = style.bone * bones + style.soft_tissue * 0.55 * soft * (1 + 0.03 * tendons)
    attenuation = cv2.GaussianBlur(attenuation, (0, 0), max(style.blur * scale, 0.35))
    tone = 1 - np.exp(-style.exposure * attenuation)
    radius = style.unsharp_radius * scale
    coarse = cv2.GaussianBlur(tone, (0, 0), max(radius, 1.0))
    tone = tone + style.unsharp * (tone - coarse)
    white = np.percentile(tone[:: max(height // 100, 1), :: max(width // 100, 1)], 99)
    tone = np.clip(tone / white, 0, 1.06)
    grey = style.air + (style.white - style.air) * np.power(tone, style.gamma)
    grey += style.shading * draw_slow_field(rng, height, width, (3, 3)) * 0.5
    # Quantum noise: the thicker the hand, the fewer the photons that arrive.
    noise = draw_noise(rng, height, width, style.grain * scale)
    grey += style.noise * (0.35 + 0.8 * tone) * noise
    return np.asarray(np.clip(grey * 255 + 0.5, 0, 255), dtype=np.uint8)
