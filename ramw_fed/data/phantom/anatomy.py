"""One patient's wrist: the average outlines, varied."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ramw_fed.data.phantom.outlines import FRAME_SIDE, OUTLINES, PHALANGES, PISIFORM, Points, smooth_outline

BONES: tuple[str, ...] = tuple(OUTLINES)
JOINTS: tuple[str, ...] = ("Metacarpal1st", "Trapezium", "Scaphoid", "Lunate", "DistalRadius", "DistalUlna")
GRADES: tuple[int, ...] = (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What both hands and all exams of a patient share, drawn as a right hand.

    Lengths in pixels of a 600-pixel frame.

    Attributes:
        outlines: Per bone the closed outline ``(K, 2)``, erosions not yet taken off.
        pisiform: Its own outline ``(K, 2)``; part of the mask ``Pisiform&Triquetrum``.
        phalanges: Per metacarpal the outline of the phalanx beyond it.
        has_arthritis: Whether the patient has rheumatoid arthritis.
        density: Mineral of the bones, 1 on average; lower where porous.
        cortex: Thickness of the cortex at mid-shaft as a share of the half-width.
        trabeculae: Contrast of the spongy bone's texture, 1 on average.
        joint_narrowing: How much worn the joints are, 0 to 1: spaces shrink and edges turn white.
        hook: Place of the hamate's hook ``(x, y)`` and its half-axes.
        soft_tissue: Thickness of soft tissue around the bones, 1 on average.
        radial_fading: Share of attenuation lost towards the radial border of the radius, which is thin there.
        calcified_artery: Opacity of a calcified radial artery, 0 in most.
        sesamoid_radius: Radius of the thumb's sesamoid bones.
    """

    outlines: Mapping[str, Points]
    pisiform: Points
    phalanges: Mapping[str, Points]
    has_arthritis: bool
    density: float
    cortex: float
    trabeculae: float
    joint_narrowing: float
    hook: tuple[float, float, float, float]
    soft_tissue: float
    radial_fading: float
    calcified_artery: float
    sesamoid_radius: float


def draw_anatomy(rng: np.random.Generator, *, has_arthritis: bool) -> Anatomy:
    """Draw a patient's wrist; arthritis thins the bones' mineral and narrows the joints, with wide overlap."""
    narrowing = rng.beta(1.2, 3.0) if not has_arthritis else rng.beta(1.6, 2.4)
    bend = _Bend(rng)
    outlines = {bone: bend(_vary(bone, control, rng)) for bone, control in OUTLINES.items()}
    for bone in _SPURRED if rng.random() < 0.25 else ():
        outlines[bone] = _grow_spurs(outlines[bone], rng)
    ulnar_variance = np.array([rng.normal(0, 3), rng.normal(0, 9)])
    outlines["DistalUlna"] = outlines["DistalUlna"] + ulnar_variance
    return Anatomy(
        outlines=outlines,
        pisiform=bend(_vary("Pisiform", PISIFORM, rng)),
        phalanges={bone: bend(smooth_outline(control)) for bone, control in PHALANGES.items()},
        has_arthritis=has_arthritis,
        density=float(np.clip(rng.normal(0.97 if has_arthritis else 1.0, 0.12), 0.65, 1.3)),
        cortex=float(np.clip(rng.normal(0.44 if has_arthritis else 0.48, 0.10), 0.2, 0.72)),
        trabeculae=float(np.clip(rng.normal(1.0, 0.22), 0.4, 1.6)),
        joint_narrowing=float(narrowing),
        hook=(380 + rng.normal(0, 6), 264 + rng.normal(0, 5), rng.uniform(13, 21), rng.uniform(16, 25)),
        soft_tissue=float(np.clip(rng.normal(1.0, 0.08), 0.8, 1.25)),
        radial_fading=float(rng.uniform(0.0, 0.75)),
        calcified_artery=float(rng.uniform(0.03, 0.10)) if rng.random() < 0.05 else 0.0,
        sesamoid_radius=float(rng.uniform(8, 13)),
    )


def _vary(bone: str, control: Points, rng: np.random.Generator) -> Points:
    """Smooth outline of one bone, turned, stretched, bumped and moved a little."""
    is_carpal = not bone.startswith(("Distal", "Metacarpal"))
    near = control[np.abs(control[:, 1] - 300) < 320]
    center = near.mean(axis=0)
    angle = np.deg2rad(rng.normal(0, 2.0 if is_carpal else 1.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.exp(rng.normal(0, 0.025, 2)) if is_carpal else np.exp([rng.normal(0, 0.07), rng.normal(0, 0.03)])
    shift = rng.normal(0, 1.8, 2) if is_carpal else rng.normal(0, [2.0, 1.5])
    points = (smooth_outline(control) - center) * stretch
    return np.asarray(points * (1 + _bumps(points, is_carpal, rng)) @ turn.T + center + shift)


def _bumps(points: Points, is_carpal: bool, rng: np.random.Generator) -> Points:
    """Relative change of the radius, ``(K, 1)``, a few low harmonics of the polar angle."""
    if not is_carpal:
        rng.standard_normal(8)
        return np.zeros((len(points), 1))
    around = np.arctan2(points[:, 1], points[:, 0])
    orders = np.arange(2, 6)
    waves = rng.standard_normal((2, 4)) * 0.018 / np.sqrt(orders - 1)
    phase = around[:, None] * orders
    return np.asarray((np.cos(phase) @ waves[0] + np.sin(phase) @ waves[1])[:, None])


_SPURRED = ("Trapezium", "Scaphoid", "Lunate")


def _grow_spurs(points: Points, rng: np.random.Generator) -> Points:
    """Add two osteophytes, bony spurs of a few pixels, somewhere on an outline."""
    outward = points - points.mean(axis=0)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    index = np.arange(len(points))
    for place in rng.integers(0, len(points), 2):
        away = np.minimum(np.abs(index - place), len(points) - np.abs(index - place))
        points = points + rng.uniform(2, 8) * np.exp(-((away / 3.0) ** 2))[:, None] * outward
    return points


class _Bend:
    """A slow smooth deformation of the whole wrist, so that neighbours vary together."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._waves = rng.uniform(0.5, 2.0, (4, 2)) * rng.choice([-1, 1], (4, 2)) * np.pi / FRAME_SIDE
        self._phases = rng.uniform(0, 2 * np.pi, 4)
        self._heights = rng.normal(0, 5.5, (4, 2))
        self._size = np.exp(rng.normal(0, 0.04, 2))

    def __call__(self, points: Points) -> Points:
        near = np.clip(points, -150, 750)
        moved = np.sin(near @ self._waves.T + self._phases) @ self._heights
        return np.asarray((points - 300) * self._size + 300 + moved)
