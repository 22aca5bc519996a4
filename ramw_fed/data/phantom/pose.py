"""How a hand lies on the detector in one exposure, and the way from the wrist's plane to output pixels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ramw_fed.data.phantom.anatomy import BONES, Anatomy
from ramw_fed.data.phantom.outlines import FRAME_SIDE, OUTLINES, SESAMOIDS, Points
from ramw_fed.data.phantom.styles import Style

PROXIMAL_ROW = ("Scaphoid", "Lunate", "Pisiform&Triquetrum")
FOREARM = ("DistalRadius", "DistalUlna")

_MIDDLE = np.array([300.0, 302.0])
_CAPITATE_HEAD = np.array([299.0, 330.0])
_PIVOTS = {bone: points[np.abs(points[:, 1] - 300) < 320].mean(axis=0) for bone, points in OUTLINES.items()}
# The view never cuts these off: the joints' ends of the bones on the wrist's four sides.
_LANDMARKS = np.array([[128.0, 262.0], [300.0, 225.0], [420.0, 245.0], [185.0, 400.0], [460.0, 425.0]])
_LEAST_SEEN = 40.0
_THUMB_BASE = np.array([118.0, 268.0])


@dataclass(frozen=True, kw_only=True)
class PosedWrist:
    """Outlines ``(K, 2)`` in output pixels; ``scale`` is output pixels per frame pixel of the unmoved hand."""

    bones: Mapping[str, Points]
    pisiform: Points
    phalanges: Mapping[str, Points]
    sesamoids: tuple[Points, ...]
    hook: Points
    forearm_skin: tuple[Points, Points]
    scale: float


def pose(anatomy: Anatomy, style: Style, *, side: int, frame: float, rng: np.random.Generator) -> PosedWrist:
    """Draw the pose of one exposure and project the wrist.

    Args:
        anatomy: The patient.
        style: Supplies zoom, shift and rotation of the view.
        side: Side of the output canvas in pixels.
        frame: Side of the 600-pixel frame in output pixels.
        rng: Source of the pose.
    """
    moves = _draw_moves(anatomy, rng)
    to_canvas = _view(style, side=side, frame=frame, deviation=moves.deviation)
    bones = {bone: to_canvas(moves.apply(bone, anatomy.outlines[bone])) for bone in BONES}
    sesamoids = [center + _ring(anatomy.sesamoid_radius, 0.85 * anatomy.sesamoid_radius) for center in SESAMOIDS]
    hook = np.array([anatomy.hook[:2]]) + _ring(*anatomy.hook[2:])
    return PosedWrist(
        bones=bones,
        pisiform=to_canvas(moves.apply("Pisiform&Triquetrum", anatomy.pisiform) + moves.pisiform),
        phalanges={
            b: to_canvas(moves.apply(b, points) + rng.normal(0, 6, 2)) for b, points in anatomy.phalanges.items()
        },
        sesamoids=tuple(to_canvas(moves.apply("Metacarpal1st", ring)) for ring in sesamoids),
        hook=to_canvas(moves.apply("Hamate", hook)),
        forearm_skin=(
            to_canvas(moves.apply("DistalRadius", _FOREARM_RADIAL_SKIN)),
            to_canvas(moves.apply("DistalRadius", _FOREARM_ULNAR_SKIN)),
        ),
        scale=frame / FRAME_SIDE * style.zoom,
    )


_FOREARM_RADIAL_SKIN = np.array([[152.0, 1300], [150, 800], [146, 620], [138, 520], [128, 440], [112, 370]])
_FOREARM_ULNAR_SKIN = np.array([[508.0, 435], [508, 520], [514, 620], [524, 800], [530, 1300]])


@dataclass(frozen=True)
class _Moves:
    deviation: float  # radians, hand to the ulnar side
    thumb: float
    foreshortening: float
    row: Points
    forearm: Points
    pisiform: Points
    jitter: Mapping[str, tuple[float, Points]]

    def apply(self, bone: str, points: Points) -> Points:
        angle, shift = self.jitter[bone]
        points = _turn(points, angle, _PIVOTS[bone]) + shift
        if bone == "Scaphoid":
            points = _foreshorten(points, self.foreshortening)
        if bone == "Metacarpal1st":
            points = _turn(points, self.thumb, _THUMB_BASE)
        if bone in PROXIMAL_ROW:
            return _turn(points, 0.55 * self.deviation, _CAPITATE_HEAD) + self.row
        if bone in FOREARM:
            return _turn(points, self.deviation, _CAPITATE_HEAD) + self.row + self.forearm
        return points


def _draw_moves(anatomy: Anatomy, rng: np.random.Generator) -> _Moves:
    wide = rng.random() < 0.12
    deviation = float(np.clip(rng.normal(0, 0.22 if wide else 0.11), -0.4, 0.4))
    collapse = max(0.0, 2 * anatomy.joint_narrowing - 1)  # of a badly worn carpus
    closer = 9.0 * anatomy.joint_narrowing + 28.0 * collapse
    return _Moves(
        deviation=deviation,
        thumb=float(np.clip(rng.normal(0, 0.17), -0.5, 0.4)),
        foreshortening=float(np.clip(rng.normal(0.02 - 0.4 * deviation + 0.2 * collapse, 0.07), -0.08, 0.3)),
        row=rng.normal((-12 * deviation - 4, -1 - closer * 0.5), (2.5, 2.0)),
        forearm=rng.normal((-6, -13 - closer * 0.4), (5.0, 4.0)),
        pisiform=rng.normal(0, [9.0, 10.0]),
        jitter={
            bone: (float(rng.normal(0, 0.012 + 0.1 * loose)), rng.normal(0, 1.0 + 7.0 * loose, 2))
            for bone in BONES
            for loose in [collapse * (bone not in FOREARM)]
        },
    )


def _view(style: Style, *, side: int, frame: float, deviation: float) -> Callable[[Points], Points]:
    scale = frame / FRAME_SIDE
    angle = np.deg2rad(style.rotation) - 0.5 * deviation
    size = scale * style.zoom
    turned = _turn(_LANDMARKS - _MIDDLE, angle, np.zeros(2)) * size
    keep = frame / 2 - _LEAST_SEEN * size  # farthest a landmark may lie from the middle of the frame
    shift = np.array([style.shift_x, style.shift_y]) * scale
    shift = np.clip(shift, -keep - turned.min(axis=0), keep - turned.max(axis=0))

    def to_canvas(points: Points) -> Points:
        return _turn(points - _MIDDLE, angle, np.zeros(2)) * size + shift + side / 2

    return to_canvas


def _turn(points: Points, angle: float, pivot: Points) -> Points:
    """Turn clockwise on the image (y down) by ``angle`` radians."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray((points - pivot) @ turn + pivot)


def _foreshorten(points: Points, share: float) -> Points:
    center = points.mean(axis=0)
    axis = np.array([np.cos(np.deg2rad(45)), np.sin(np.deg2rad(45))])
    along = (points - center) @ axis
    return np.asarray(points - share * along[:, None] * axis)


def _ring(half_x: float, half_y: float) -> Points:
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([half_x * np.cos(t), half_y * np.sin(t)], axis=1)
