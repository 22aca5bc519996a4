"""How a training image is varied, and how every image is normalised.

Two torchvision transforms on ``tv_tensors``: :class:`Warp` moves image and masks alike, :class:`Look` changes grey
values. Torchvision's own draw from torch's global generator; these draw from one of their own, which :func:`vary`
seeds for each image: a picture depends on (seed, epoch, image) alone, and the caller's generator stays where it was.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision import tv_tensors
from torchvision.transforms import v2

from ramw_fed.seeding import derive_seed

# Contrast is never inverted: bone is bright in every cohort, and a network that may not rely on that learns less.


@dataclass(frozen=True, kw_only=True)
class Variation:
    """How widely images are varied. Lengths are shares of the frame's half side: they mean the same at any size.

    Attributes:
        rotation: Standard deviation in degrees.
        zoom: Smallest and largest magnification, drawn log-uniformly.
        shift: Standard deviation of the shift along each axis.
        elastic: Standard deviation of the elastic displacement.
        knots: Side of the lattice from which the elastic displacement is interpolated.
        gamma: Standard deviation of the logarithm of gamma.
        contrast: Standard deviation of the logarithm of the contrast; what leaves the range is clipped.
        brightness: Standard deviation of an offset, white being 1.
        shading: Standard deviation of the logarithm of a smooth field of exposure.
        blur: Largest standard deviation of a Gaussian blur.
        unsharp: Largest amount by which the difference to a blurred image is added.
        noise: Largest standard deviation of white noise, white being 1.
        band: Chance that a side is cut off as by a collimator.
        band_width: Largest width of that band.
    """

    rotation: float
    zoom: tuple[float, float]
    shift: float
    elastic: float
    knots: int
    gamma: float
    contrast: float
    brightness: float
    shading: float
    blur: float
    unsharp: float
    noise: float
    band: float
    band_width: float


MILD = Variation(
    rotation=6.0,
    zoom=(0.9, 1.12),
    shift=0.05,
    elastic=0.012,
    knots=4,
    gamma=0.15,
    contrast=0.1,
    brightness=0.03,
    shading=0.05,
    blur=0.012,
    unsharp=0.3,
    noise=0.02,
    band=0.05,
    band_width=0.1,
)

# As wide as carried phantom bones over to real wrists, on a canvas larger than the frame.
STRONG = Variation(
    rotation=12.0,
    zoom=(0.74, 1.4),
    shift=0.17,
    elastic=0.025,
    knots=5,
    gamma=0.35,
    contrast=0.3,
    brightness=0.1,
    shading=0.2,
    blur=0.025,
    unsharp=1.0,
    noise=0.06,
    band=0.15,
    band_width=0.25,
)

VARIATIONS: Mapping[str, Variation | None] = MappingProxyType({"none": None, "mild": MILD, "strong": STRONG})


class Warp(v2.Transform):  # type: ignore[misc]
    """Rotate, zoom, shift, bend and cut in one resampling: images bilinearly, masks by nearest pixel.

    What lies outside the canvas is 0 in images and in masks (or the nearest edge, with ``extend``).
    """

    _transformed_types = (tv_tensors.Image, tv_tensors.Mask)

    def __init__(self, variation: Variation, frame: int, generator: torch.Generator, *, extend: bool = False) -> None:
        super().__init__()
        self.variation = variation
        self.frame = frame
        self.generator = generator
        self.extend = extend

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw where in the canvas each pixel of the frame comes from."""
        canvas = max(flat_inputs[0].shape[-2:])
        points, inside = _points(self.variation, self.frame, self.generator)
        return {"points": points * (self.frame / canvas), "inside": None if self.extend else inside}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Resample ``(C, canvas, canvas)`` to ``(C, frame, frame)``."""
        warp = _warp_masks if isinstance(inpt, tv_tensors.Mask) else _warp_image
        warped: Tensor = tv_tensors.wrap(warp(inpt.as_subclass(Tensor), params, self.extend), like=inpt)
        return warped


def _points(variation: Variation, frame: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw ``(frame, frame, 2)`` points (x, y) in half frames from the center, and which of them no band covers."""
    normal = torch.randn(3, generator=generator)
    uniform = torch.rand(9, generator=generator)
    axis = (torch.arange(frame) + 0.5) * (2 / frame) - 1
    grid = torch.stack([axis.expand(frame, frame), axis[:, None].expand(frame, frame)], dim=-1)
    angle = math.radians(variation.rotation) * float(normal[0])
    low, high = (math.log(bound) for bound in variation.zoom)
    side = math.exp(-low - (high - low) * float(uniform[8]))
    cos, sin = side * math.cos(angle), side * math.sin(angle)
    points = grid @ torch.tensor([[cos, sin], [-sin, cos]]) + variation.shift * normal[1:]
    if variation.elastic:
        bend = variation.elastic * torch.randn(1, 2, variation.knots, variation.knots, generator=generator)
        smooth = functional.interpolate(bend, size=(frame, frame), mode="bicubic", align_corners=True)
        points += smooth[0].permute(1, 2, 0)
    bands = torch.where(uniform[:4] < variation.band, variation.band_width * uniform[4:8], 0.0)
    left, right, top, bottom = (1 - bands).tolist()
    inside_x = (axis >= -left) & (axis <= right)
    inside_y = (axis >= -top) & (axis <= bottom)
    return points, inside_y[:, None] & inside_x


def _warp_image(image: Tensor, params: dict[str, Any], extend: bool) -> Tensor:
    padding = "border" if extend else "zeros"
    warped = functional.grid_sample(
        image[None], params["points"][None], mode="bilinear", padding_mode=padding, align_corners=False
    )[0]
    return warped if params["inside"] is None else warped * params["inside"]


def _warp_masks(masks: Tensor, params: dict[str, Any], extend: bool) -> Tensor:
    """Take the nearest pixel of all masks by one index: a tenth of the cost of resampling each."""
    height, width = masks.shape[-2:]
    size = torch.tensor([width, height])
    index = torch.floor((params["points"] + 1) * (size / 2)).long()
    held = torch.minimum(index.clamp(min=0), size - 1)
    source = (held[..., 1] * width + held[..., 0]).flatten()
    warped = torch.index_select(masks.flatten(1), 1, source).view(len(masks), *index.shape[:2])
    if extend:
        return warped
    inside: Tensor = (index == held).all(dim=-1) & params["inside"]
    return warped * inside


class Look(v2.Transform):  # type: ignore[misc]
    """Change exposure, contrast, sharpness and noise of ``(1, S, S)`` images in [0, 1]; masks stay."""

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, variation: Variation, generator: torch.Generator) -> None:
        super().__init__()
        self.variation = variation
        self.generator = generator

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw how this image looks."""
        known, size, generator = self.variation, flat_inputs[0].shape[-1], self.generator
        normal = torch.randn(3, generator=generator).tolist()
        uniform = torch.rand(3, generator=generator).tolist()
        return {
            "gamma": math.exp(known.gamma * normal[0]),
            "contrast": math.exp(known.contrast * normal[1]),
            "brightness": known.brightness * normal[2],
            "shading": known.shading * torch.randn(1, 1, 3, 3, generator=generator),
            "blur": known.blur * (size / 2) * uniform[0],
            "unsharp": known.unsharp * max(0.0, 2 * uniform[1] - 1),
            "noise": known.noise * uniform[2] * torch.randn(1, size, size, generator=generator),
        }

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Return the image as another machine might have shown it."""
        image = inpt.as_subclass(Tensor).clamp(0, 1) ** params["gamma"]
        size = image.shape[-1]
        field = functional.interpolate(params["shading"], size=(size, size), mode="bilinear", align_corners=True)
        image = (image * field[0].exp() - 0.5) * params["contrast"] + (0.5 + params["brightness"])
        image = image.clamp(0, 1)
        if params["unsharp"] > 0:
            image = image + params["unsharp"] * (image - _widely_blurred(image))
        if params["blur"] > 0.25:  # pixels; less changes nothing that can be seen
            image = _blurred(image, params["blur"])
        seen: Tensor = tv_tensors.wrap(image + params["noise"], like=inpt)
        return seen


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian, one axis after the other."""
    reach = math.ceil(2.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(image[None], [reach] * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[0]


def _widely_blurred(image: Tensor) -> Tensor:
    """Blur over about a 24th of the side, by way of a small image."""
    size = image.shape[-1]
    small = functional.avg_pool2d(image[None], max(1, size // 24), ceil_mode=True)
    return functional.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)[0]


def vary(
    image: Tensor,
    masks: Tensor | None,
    variation: Variation | None,
    frame: int,
    *,
    key: tuple[int | str, ...],
    extend: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Vary an image, and its masks with it.

    Args:
        image: ``(1, canvas, canvas)`` float in [0, 1].
        masks: ``(bones, canvas, canvas)`` uint8, or none.
        variation: How widely; None only cuts the frame out of the middle.
        frame: Side of the result; not larger than the canvas.
        key: (seed, epoch, image): equal keys give equal pictures.
        extend: Outside the canvas goes on as its edge does, instead of being black.
    """
    if variation is None:
        return cut_middle(image, frame), None if masks is None else cut_middle(masks, frame)
    generator = torch.Generator().manual_seed(derive_seed(*key))
    transform = v2.Compose([Warp(variation, frame, generator, extend=extend), Look(variation, generator)])
    sample = [tv_tensors.Image(image)] + ([] if masks is None else [tv_tensors.Mask(masks)])
    varied = [part.as_subclass(Tensor) for part in transform(sample)]
    return varied[0], varied[1] if masks is not None else None


def cut_middle(array: Tensor, frame: int) -> Tensor:
    """Return the middle ``frame`` pixels of the last two axes."""
    top, left = ((side - frame) // 2 for side in array.shape[-2:])
    return array[..., top : top + frame, left : left + frame]


def standardize(image: Tensor) -> Tensor:
    """Return ``(1, S, S)`` with mean 0 and standard deviation 1; a constant image becomes 0."""
    centered = image - image.mean()
    return centered / (centered.square().mean().sqrt() + 1e-6)
