"""Edges of a bone that are seen through it: far rims of joint surfaces and borders."""

import numpy as np

from ramw_fed.data.phantom.outlines import Points
from ramw_fed.data.phantom.pose import PosedWrist


def creases_of(bone: str, wrist: PosedWrist, rng: np.random.Generator) -> list[Points]:
    """Open lines ``(M, 2)`` in output pixels along which inner edges of ``bone`` show."""
    outline, scale = wrist.bones[bone], wrist.scale
    if bone == "DistalRadius":
        rims = [_joint_line(outline, wrist, rng, depth) for depth in (rng.uniform(6, 11), rng.uniform(13, 30))]
        border = outline[-int(rng.uniform(24, 36)) : -4]  # the radial one, from the shaft to the styloid
        return [*rims, np.add(border, (rng.uniform(6, 26) * scale, 0.0))]
    if bone == "DistalUlna":
        return [_foot_of_styloid(outline)]
    if bone.startswith("Metacarpal"):
        return [_base_arc(outline, rng.uniform(8, 26) * scale, rng)]
    arcs = [_arc(outline, rng.uniform(0.72, 0.96), rng.uniform(0.15, 0.5), scale, rng) for _ in range(3)]
    return [*arcs, wrist.hook[: rng.integers(16, 24)]] if bone == "Hamate" else arcs


def _arc(outline: Points, shrink: float, share: float, scale: float, rng: np.random.Generator) -> Points:
    """A stretch of the outline, shrunk and shifted: the rim of the bone's other face."""
    center = outline.mean(axis=0)
    start, length = rng.integers(len(outline)), int(share * len(outline))
    stretch = np.roll(outline, -start, axis=0)[:length]
    return np.asarray(center + (stretch - center) * shrink + rng.normal(0, 3 * scale, 2))


def _foot_of_styloid(outline: Points) -> Points:
    """The ulnar head's own margin, seen through its styloid: from the fovea to the ulnar border."""
    start, end = outline[24], outline[66]
    t = np.linspace(0, 1, 12)[:, None]
    bend = np.array([end[0], start[1]]) * 0.8 + 0.1 * (start + end)
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end)


def _base_arc(outline: Points, depth: float, rng: np.random.Generator) -> Points:
    """The far margin of a metacarpal's base."""
    center = outline.mean(axis=0)
    base = outline[np.argmax(outline[:, 1])]
    outline = np.roll(outline, -int(np.argmax(np.linalg.norm(outline - base, axis=1))), axis=0)  # start at the head
    near = outline[np.linalg.norm(outline - base, axis=1) < 3.2 * depth + 0.25 * np.ptp(outline[:, 0])]
    away = (center - base) / np.linalg.norm(center - base)
    middle = near.mean(axis=0)
    return np.asarray(middle + (near - middle) * rng.uniform(0.7, 0.95) + away * depth)


def _joint_line(outline: Points, wrist: PosedWrist, rng: np.random.Generator, depth: float) -> Points:
    """A line under the radius' joint surface, between its styloid and its ulnar corner."""
    # The joint surface is the stretch of the outline from the styloid, its topmost point, clockwise.
    start = int(np.argmin(outline[:, 1]))
    span = slice(5, int(rng.uniform(34, 44)))
    surface = np.roll(outline, -start, axis=0)[span]
    along = surface[-1] - surface[0]
    proximal = np.array([-along[1], along[0]]) / (np.linalg.norm(along) + 1e-6)
    return np.asarray(surface + proximal * depth * wrist.scale)
