"""From anatomy, style and scores to a radiograph with masks and joint boxes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.phantom.anatomy import BONES, Anatomy
from ramw_fed.data.phantom.attenuation import BoneShadow, Build, cast_shadow
from ramw_fed.data.phantom.boxes import joint_boxes
from ramw_fed.data.phantom.creases import creases_of
from ramw_fed.data.phantom.erosions import draw_lesions
from ramw_fed.data.phantom.exposure import expose
from ramw_fed.data.phantom.outlines import FRAME_SIDE, Points
from ramw_fed.data.phantom.pose import PosedWrist, pose
from ramw_fed.data.phantom.soft_tissue import draw_artery, draw_fat_planes, draw_skin_folds, soft_tissue_thickness
from ramw_fed.data.phantom.styles import Style
from ramw_fed.data.phantom.texture import Field, Spongiosa, draw_spongiosa


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
    # Children from drawn seeds, not rng.spawn: that counts its calls outside the generator's state.
    lesion_rng, texture_rng, exposure_rng = (np.random.default_rng(seed) for seed in rng.integers(0, 2**63, (3, 2)))
    masks = np.zeros((len(BONES), side, side), bool)
    bones = _superpose(wrist, anatomy, style, scores, masks, lesion_rng, texture_rng)
    soft = soft_tissue_thickness(wrist, side=side, margin=style.margin * anatomy.soft_tissue)
    draw_skin_folds(soft, wrist, rng=texture_rng)
    draw_fat_planes(soft, wrist, rng=texture_rng)
    draw_artery(soft, wrist, opacity=anatomy.calcified_artery, rng=texture_rng)
    image = expose(bones, soft, style, scale=size / FRAME_SIDE, rng=exposure_rng)
    if style.band:
        # Beyond the collimator there is neither image nor, as an annotator sees it, bone.
        hidden = (side - size) // 2 + round(style.band * size / FRAME_SIDE)
        image[:hidden], masks[:, :hidden] = 0, False
    return Wrist(image, masks, joint_boxes(wrist, side=side, rng=exposure_rng))


def _superpose(
    wrist: PosedWrist,
    anatomy: Anatomy,
    style: Style,
    scores: Mapping[str, int],
    masks: NDArray[np.bool_],
    lesion_rng: np.random.Generator,
    rng: np.random.Generator,
) -> Field:
    """Attenuation of all bones, a power sum of their shadows; fills ``masks`` in place."""
    side = masks.shape[1]
    power = style.overlap_power
    total = np.zeros((side, side), np.float32)
    spongiosa = draw_spongiosa(rng, wrist.scale)
    for index, bone in enumerate(BONES):
        outline = wrist.bones[bone]
        lesions = draw_lesions(bone, outline, scores.get(bone, 0), scale=wrist.scale, rng=lesion_rng)
        shadow = cast_shadow(
            outline,
            _build(bone, outline, anatomy, style, wrist.scale, rng),
            spongiosa,
            creases=creases_of(bone, wrist, rng),
            lesions=lesions,
            side=side,
            rng=rng,
        )
        if shadow is not None:
            masks[(index, *shadow.crop.window)] = shadow.mask
            total[shadow.crop.window] += np.power(shadow.attenuation, power)
    for shadow in _shadows_without_mask(wrist, anatomy, style, spongiosa, rng, side):
        total[shadow.crop.window] += np.power(shadow.attenuation, power)
    np.power(total, 1 / power, out=total)
    total += _bed(total, wrist.scale)
    # What stands well in front of the other bones shares nothing with them: its shadow adds.
    for kind, opacity, outline in (("Pisiform", 0.45, wrist.pisiform), ("Hook", 0.22, wrist.hook)):
        build = _build(kind, outline, anatomy, style, wrist.scale, rng)
        shadow = cast_shadow(outline, build, spongiosa, side=side, rng=rng)
        if shadow is not None:
            total[shadow.crop.window] += opacity * shadow.attenuation
            if kind == "Pisiform":
                masks[BONES.index("Pisiform&Triquetrum")][shadow.crop.window] |= shadow.mask
    return total


def _bed(bones: Field, scale: float) -> Field:
    """Capsule and cartilage around the joints, and the bones' own scatter: they lift the gaps between bones."""
    height, width = bones.shape
    coarse = cv2.resize(bones, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    wide = cv2.GaussianBlur(coarse, (0, 0), max(_BED_REACH * scale / 4, 0.5))
    return np.asarray(_BED * cv2.resize(wide, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _shadows_without_mask(
    wrist: PosedWrist, anatomy: Anatomy, style: Style, spongiosa: Spongiosa, rng: np.random.Generator, side: int
) -> Iterator[BoneShadow]:
    """Phalanges and sesamoids, which are no bones of the task."""
    extras = [("Phalanx", outline) for outline in wrist.phalanges.values()]
    extras += [("Sesamoid", outline) for outline in wrist.sesamoids]
    for kind, outline in extras:
        build = _build(kind, outline, anatomy, style, wrist.scale, rng)
        shadow = cast_shadow(outline, build, spongiosa, side=side, rng=rng)
        if shadow is not None:
            yield shadow


_BED = 0.5  # attenuation around joints beside that of the bones
_BED_REACH = 22.0  # px of 600
_ULNAR_CORNER = 10 * 6  # on the outline of the radius: the eleventh control point
_DEPTHS = {
    "DistalRadius": 46.0,
    "DistalUlna": 33.0,
    "Capitate": 40.0,
    "Hamate": 38.0,
    "Trapezoid": 32.0,
    "Pisiform&Triquetrum": 34.0,
    "Pisiform": 26.0,
    "Hook": 22.0,
    "Sesamoid": 11.0,
    "Phalanx": 24.0,
}
_DENSITIES = {"DistalRadius": 0.85, "DistalUlna": 0.82, "Pisiform": 0.8, "Hook": 0.8, "Sesamoid": 0.6}
_SHAFTS = {"DistalRadius": (60.0, 240.0), "DistalUlna": (50.0, 190.0), "Metacarpal1st": (40.0, 120.0)}


def _build(bone: str, outline: Points, anatomy: Anatomy, style: Style, scale: float, rng: np.random.Generator) -> Build:
    is_long = bone.startswith(("Distal", "Metacarpal", "Phalanx"))
    depth = _DEPTHS.get(bone, 27.0 if is_long else 33.0)
    start, full = _SHAFTS.get(bone, (35.0, 120.0))
    upper, lower = outline[np.argmin(outline[:, 1])], outline[np.argmax(outline[:, 1])]
    density = _DENSITIES.get(bone, 0.77 if is_long else 1.14) * anatomy.density
    sclerosis = 1 + 0.35 * anatomy.joint_narrowing
    return Build(
        depth=depth * scale,
        cortex_end=1.5 * scale * (1.0 if is_long else sclerosis),
        cortex_shaft=anatomy.cortex * (0.55 if bone == "DistalRadius" else 0.75) * depth * scale,
        shaft=(start * scale, full * scale) if is_long else None,
        ends=np.array([upper, lower] if bone.startswith("Distal") else [lower, upper]),
        density=density * float(np.exp(rng.normal(0, 0.06))),
        rim=style.rim,
        trabeculae=style.trabeculae * anatomy.trabeculae,
        crease_width=rng.uniform(1.0, 3.0) * scale,
        fading=_radial_side(outline, rng) if bone == "DistalRadius" else None,
        fading_loss=anatomy.radial_fading,
    )


def _radial_side(radius: Points, rng: np.random.Generator) -> tuple[Points, Points]:
    """Where the radius begins to thin out, at most in the middle of its joint surface, and its radial border."""
    styloid, ulnar_corner, border = radius[np.argmin(radius[:, 1])], radius[_ULNAR_CORNER], radius[0]
    middle = (styloid + ulnar_corner) / 2
    return np.asarray(middle + rng.uniform(0, 0.75) * (border - middle)), border
