"""From anatomy, style and scores to a radiograph with masks and joint boxes."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.phantom.anatomy import BONES, JOINTS, Anatomy
from ramw_fed.data.phantom.attenuation import BoneShadow, Build, cast_shadow
from ramw_fed.data.phantom.boxes import joint_boxes
from ramw_fed.data.phantom.erosions import draw_lesions
from ramw_fed.data.phantom.exposure import expose
from ramw_fed.data.phantom.outlines import FRAME_SIDE, Points
from ramw_fed.data.phantom.pose import PosedWrist, pose
from ramw_fed.data.phantom.soft_tissue import soft_tissue_thickness
from ramw_fed.data.phantom.styles import Style
from ramw_fed.data.phantom.texture import Field, Spongiosa, draw_slow_field, draw_spongiosa


@dataclass(frozen=True)
class Wrist:
    """One synthetic radiograph of a right hand, thumb to the left.

    Attributes:
        image: ``(H, W)`` uint8.
        masks: ``(14, H, W)`` bool in the order of ``BONES``; bones overlap.
        boxes: Per joint ``(x0, y0, x1, y1)`` in pixels, inside the image.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    boxes: Mapping[str, tuple[int, int, int, int]]


def render(
    anatomy: Anatomy,
    style: Style,
    *,
    scores: Mapping[str, int],
    size: int,
    rng: np.random.Generator,
    field_of_view: float = 1.0,
) -> Wrist:
    """Render one exposure of a right hand.

    Args:
        anatomy: The patient.
        style: The exposure.
        scores: Erosion grade 0 to 5 per joint; joints left out have none.
        size: Side of the 600-pixel frame in output pixels.
        rng: Source of pose, lesions, textures and noise.
        field_of_view: Side of the canvas in frames; above 1 shafts, heads and phalanges run on around the frame.

    Returns:
        Image and masks with ``round(size * field_of_view)`` pixels a side.
    """
    side = round(size * field_of_view)
    wrist = pose(anatomy, style, side=side, frame=size, rng=rng)
    lesions_rng, texture_rng, exposure_rng = rng.spawn(3)
    spongiosa = draw_spongiosa(texture_rng, wrist.scale)
    masks = np.zeros((len(BONES), side, side), bool)
    total = np.zeros((side, side), np.float32)
    for index, bone in enumerate(BONES):
        lesions = draw_lesions(bone, wrist.bones[bone], scores.get(bone, 0), scale=wrist.scale, rng=lesions_rng)
        build = _build(bone, anatomy, style, wrist.scale, texture_rng)
        outline = wrist.bones[bone]
        shadow = cast_shadow(outline, _joint(bone, outline), build, spongiosa, lesions, side=side, rng=texture_rng)
        if shadow is not None:
            masks[(index, *shadow.window)] = shadow.mask
            _add(total, shadow, style.overlap_power)
    for outline in wrist.phalanges.values():
        build = _build("Phalanx", anatomy, style, wrist.scale, texture_rng)
        shadow = cast_shadow(outline, outline.mean(axis=0), build, spongiosa, [], side=side, rng=texture_rng)
        if shadow is not None:
            _add(total, shadow, style.overlap_power)
    bones = np.power(total, 1 / style.overlap_power)
    bones *= 1 + 0.07 * draw_slow_field(texture_rng, side, side)
    soft = soft_tissue_thickness(wrist, height=side, width=side, margin=style.margin * anatomy.soft_tissue)
    image = expose(bones, soft, style, scale=size / FRAME_SIDE, rng=exposure_rng)
    return Wrist(image, masks, joint_boxes(wrist, side=side, rng=exposure_rng))


def _add(total: Field, shadow: BoneShadow, power: float) -> None:
    total[shadow.window] += np.power(shadow.attenuation, power)


def _joint(bone: str, outline: Points) -> Points:
    is_distal_end = bone.startswith("Distal")
    return np.asarray(outline[np.argmin(outline[:, 1]) if is_distal_end else np.argmax(outline[:, 1])])


_DEPTHS = {"DistalRadius": 48.0, "DistalUlna": 34.0, "Capitate": 42.0, "Pisiform&Triquetrum": 32.0}
_SHAFT_STARTS = {"DistalRadius": (70.0, 260.0), "DistalUlna": (50.0, 200.0), "Metacarpal1st": (50.0, 130.0)}


def _build(bone: str, anatomy: Anatomy, style: Style, scale: float, rng: np.random.Generator) -> Build:
    is_long = bone.startswith(("Distal", "Metacarpal", "Phalanx"))
    depth = _DEPTHS.get(bone, 28.0 if is_long else 34.0)
    start, full = _SHAFT_STARTS.get(bone, (40.0, 130.0))
    return Build(
        depth=depth * scale,
        cortex_end=1.9 * scale,
        cortex_shaft=anatomy.cortex * (0.62 if bone == "DistalRadius" else 0.5) * depth * scale,
        shaft=(start * scale, full * scale) if is_long else None,
        density=anatomy.density * float(np.exp(rng.normal(0, 0.06))),
        rim=style.rim,
        trabeculae=style.trabeculae * anatomy.trabeculae,
    )
