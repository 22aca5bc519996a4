"""Bones, joint crops and erosion scores of single radiographs."""

import csv
import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table as Shown
from torch import nn

from ramw_fed.config import ErosionConfig, SegmentationConfig
from ramw_fed.data.cohort import Description
from ramw_fed.data.dicom import SUFFIXES, read_header
from ramw_fed.data.radiograph import read_grey
from ramw_fed.data.resizing import stretch
from ramw_fed.errors import ConfigError, RunError
from ramw_fed.learning.weights_file import Card
from ramw_fed.metrics.joint_space import JointSpace, Spacing, joint_spaces
from ramw_fed.progress import Watch, nobody
from ramw_fed.report.overlays import draw_overlay, label, write_png
from ramw_fed.run_folder import make_folder, refuse_blocked
from ramw_fed.tasks.erosion import score_crop
from ramw_fed.tasks.segmentation import segment
from ramw_fed.trained import Source, Trained

Side = Literal["L", "R"]
Image = NDArray[np.uint8]
Masks = NDArray[np.bool_]
Box = tuple[int, int, int, int]

WATERMARK = "trained on synthetic images: not for any decision about a patient"

# Shares of the image's longer side: how far a joint reaches along a long bone, the margin around it, the least box.
_REACH, _MARGIN, _LEAST = 0.17, 0.023, 0.23


@dataclass(frozen=True)
class Prediction:
    """What was found in one radiograph.

    Attributes:
        image: File name.
        side: Side as which the wrist was read.
        is_side_guessed: The file's name does not tell it; the reading with the surer masks was kept.
        areas: Bone to its pixels; 0 where none were found.
        erosions: Joint to the probability of an erosion; empty where no score may be given.
        spaces: Names of two bones to the width of their joint; empty where the size of a pixel is not known.
    """

    image: str
    side: Side
    is_side_guessed: bool
    areas: Mapping[str, int]
    erosions: Mapping[str, float] = field(default_factory=dict)
    spaces: Mapping[str, JointSpace] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        spaces = {name: {"mean_mm": one.mean_mm, "minimum_mm": one.minimum_mm} for name, one in self.spaces.items()}
        known = {"image": self.image, "side": self.side, "areas": dict(self.areas), "erosions": dict(self.erosions)}
        return known | {"joint_spaces": spaces}


@dataclass(frozen=True)
class Predictions:
    """What was found, and what must be said of it; ``watermark`` stands over every erosion score."""

    items: Sequence[Prediction]
    remarks: Sequence[str]
    watermark: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        items = [one.as_dict() for one in self.items]
        return {"items": items, "remarks": list(self.remarks), "watermark": self.watermark}

    def tables(self) -> list[Shown]:
        """Return tables for a terminal: the bones, and the scores where there are any."""
        return [self._bones(), self._scores()] if any(one.erosions for one in self.items) else [self._bones()]

    def _bones(self) -> Shown:
        table = Shown(title="bones found", title_justify="left")
        for name in ("image", "side", "bones", "not found"):
            table.add_column(name)
        for one in self.items:
            missing = [bone for bone, area in one.areas.items() if not area]
            side = f"{one.side} (by fit)" if one.is_side_guessed else one.side
            table.add_row(one.image, side, str(len(one.areas) - len(missing)), ", ".join(missing) or "-")
        return table

    def _scores(self) -> Shown:
        joints = list(dict.fromkeys(joint for one in self.items for joint in one.erosions))
        table = Shown(
            title=f"probability of an erosion: {self.watermark}", title_justify="left", caption=self.watermark
        )
        table.add_column("image")
        for joint in joints:
            table.add_column(joint, justify="right")
        for one in self.items:
            values = [f"{one.erosions[joint]:.3f}" if joint in one.erosions else "-" for joint in joints]
            table.add_row(one.image, *values)
        return table


def predict(
    images: Sequence[Path],
    *,
    out: Path,
    run: Path | None = None,
    center: str | None = None,
    unseen_batch_norm: str | None = None,
    side: str | None = None,
    research: bool = False,
    spacing_mm: float | None = None,
    watch: Watch = nobody,
) -> Predictions:
    """Segment radiographs into the folder ``out``.

    For each image: ``<stem>.npy`` ``(bones, H, W)`` uint8 at the image's size and orientation, ``<stem>.png`` with the
    outlines, ``crops/<stem>_<joint>.png``; over all images ``bones.csv``, ``joint_spaces.csv`` where a pixel's size
    is known, and ``scores.csv`` where scores may be given.

    Args:
        images: 8-bit image files, grey or with equal channels, bone bright, as a wrist fills the frame in RAM-W600.
        out: Made where missing; files of the same name are replaced.
        run: Folder of a finished run; None for the weights that come with the package.
        center: Whose images these are, where the run's method left batch normalisation at its centers.
        unseen_batch_norm: What a center gets that took no part in such a run; only ``mean`` can be had for single
            images. None for what the run was configured with.
        side: ``"L"`` or ``"R"`` for all images; None reads ``_L`` or ``_R`` at the end of the name, else tries both.
        research: Give erosion scores also of weights that only saw phantoms.
        spacing_mm: Side of a pixel of all images; None takes it from the header of a DICOM file.
        watch: Told how many images are done.

    Raises:
        ConfigError: ``side`` is neither, the spacing is not above 0, an image is missing, two images have one stem,
            a result would replace an image that was given, or it is not said whose batch normalisation to take.
        RunError: There are no weights for segmentation, or the folder cannot be made.
        CohortError: An image cannot be read.
    """
    _check(images, side)
    if spacing_mm is not None and not 0 < spacing_mm < 10:
        raise ConfigError(f"the spacing is {spacing_mm} mm; the side of a pixel is wanted, above 0 and below 10")
    refuse_blocked(out)
    _refuse_to_replace(images, out)
    source = Source(run, center, unseen_batch_norm)
    bones = source.load("segmentation")
    joints, remarks = _erosion_model(source, research)
    is_marked = joints is not None and joints.card.description.kind != "real"
    predictions = []
    for done, path in enumerate(images, start=1):
        spacing = (spacing_mm, spacing_mm) if spacing_mm else _spacing_in_header(path)
        predictions.append(_predict(path, out, side, spacing, bones, joints, is_marked))
        watch("images", done, len(images))
    found = Predictions(predictions, remarks, WATERMARK if is_marked else "research only")
    threshold = ErosionConfig.read(joints.card.training).threshold if joints else 1.0
    _write_tables(out, found, bones.card.description, threshold)
    return found


def segment_any(
    network: nn.Module, card: Card, image: Image, side: Side | None, device: torch.device
) -> tuple[Masks, Side]:
    """Return masks ``(bones, H, W)`` and the side as which the wrist was read; both are tried where it is not known."""
    config = SegmentationConfig.read(card.training)
    sides: Sequence[Side] = (side,) if side else ("R", "L")
    tried = []
    for one in sides:
        is_mirrored = config.mirror and one in card.description.mirrored_sides
        masks, certainty = segment(network, image, config, device, mirror=is_mirrored)
        tried.append((certainty, masks, one))
    _, masks, read_as = max(tried, key=lambda each: each[0])
    return masks, read_as


def joint_boxes(masks: Masks, description: Description) -> dict[str, Box]:
    """Return ``(x0, y0, x1, y1)`` of each joint named as a bone is, around that bone where it meets the others.

    Args:
        masks: ``(bones, H, W)``; a joint whose bone is empty is left out.
        description: Names of bones and joints.
    """
    height, width = masks.shape[1:]
    frame = max(height, width)
    everything = np.argwhere(masks.any(axis=0))
    boxes: dict[str, Box] = {}
    for joint in description.joints:
        if joint not in description.bones or not masks[description.bones.index(joint)].any():
            continue
        points = np.argwhere(masks[description.bones.index(joint)]).astype(np.float64)
        points = points[_near_end(points, everything.mean(axis=0)) <= _REACH * frame]
        low, high = points.min(axis=0), points.max(axis=0)
        half = np.maximum(high - low + 2 * _MARGIN * frame, _LEAST * frame) / 2
        (y0, x0), (y1, x1) = (low + high) / 2 - half, (low + high) / 2 + half
        boxes[joint] = max(round(x0), 0), max(round(y0), 0), min(round(x1), width), min(round(y1), height)
    return boxes


def _near_end(points: NDArray[np.float64], center: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far along the bone each point lies from the end that faces the wrist's middle."""
    middle = points.mean(axis=0)
    _, _, axes = np.linalg.svd(points[:: max(1, len(points) // 500)] - middle, full_matrices=False)
    along = (points - middle) @ axes[0] if len(axes) else np.zeros(len(points))
    if (center - middle) @ axes[0] < 0:
        along = -along
    return np.asarray(along.max() - along)


def _predict(
    path: Path,
    out: Path,
    side: str | None,
    spacing_mm: Spacing | None,
    bones: Trained,
    joints: Trained | None,
    is_marked: bool,
) -> Prediction:
    image = read_grey(path)
    known = cast(Side | None, side or _side_in_name(path))
    masks, read_as = segment_any(bones.network, bones.card, image, known, bones.device)
    make_folder(out)
    np.save(out / f"{path.stem}.npy", masks.astype(np.uint8))
    erosions: dict[str, float] = {}
    for joint, (x0, y0, x1, y1) in joint_boxes(masks, bones.card.description).items():
        crop = image[y0:y1, x0:x1]
        write_png(out / "crops" / f"{path.stem}_{joint}.png", crop)
        if joints is not None and joint in joints.card.description.joints:
            erosions[joint] = _score(crop, joint, read_as, joints)
    picture = draw_overlay(image, masks)
    write_png(out / f"{path.stem}.png", label(picture, WATERMARK) if is_marked else picture)
    names = bones.card.description.bones
    areas = {name: int(mask.sum()) for name, mask in zip(names, masks, strict=True)}
    spaces = _spaces(masks, bones.card.description, spacing_mm)
    return Prediction(path.name, read_as, known is None, areas, erosions, spaces)


def _spaces(masks: Masks, description: Description, spacing_mm: Spacing | None) -> dict[str, JointSpace]:
    found = joint_spaces(masks, description.joint_space_indices(), spacing_mm)
    names = ["+".join(pair) for pair in description.joint_spaces]
    return {name: one for name, one in zip(names, found, strict=True) if isinstance(one, JointSpace)}


def _spacing_in_header(path: Path) -> Spacing | None:
    return read_header(path).spacing_mm if path.suffix.lower() in SUFFIXES else None


def _score(crop: Image, joint: str, side: Side, model: Trained) -> float:
    config = ErosionConfig.read(model.card.training)
    description = model.card.description
    seen = stretch(crop, config.crop_size)
    if config.mirror and side in description.mirrored_sides:
        seen = np.ascontiguousarray(seen[:, ::-1])
    return score_crop(model.network, seen, description.joints.index(joint), description, config, model.device)


def _erosion_model(source: Source, research: bool) -> tuple[Trained | None, list[str]]:
    """Return the model that may score erosions, or None and why there is none."""
    if source.run is None:
        return None, ["the shipped weights find bones only: they learned from synthetic images and score no erosion"]
    try:
        model = source.load("erosion")
    except RunError:
        return None, ["the run has no erosion model: no scores"]
    if model.card.description.kind == "real":
        return model, []
    if research:
        return model, [WATERMARK]
    return None, [
        "the run learned from synthetic images only, so it gives no erosion scores; "
        "--research gives them under a watermark"
    ]


def _write_tables(out: Path, found: Predictions, description: Description, threshold: float) -> None:
    with (out / "bones.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "side", *description.bones])
        writer.writerows([one.image, one.side, *one.areas.values()] for one in found.items)
    for name in ("joint_spaces.csv", "scores.csv"):
        (out / name).unlink(missing_ok=True)  # one of an earlier call must not stand beside these masks
    measured = [one for one in found.items if one.spaces]
    if measured:
        with (out / "joint_spaces.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "side", "joint_space", "mean_mm", "minimum_mm"])
            for one in measured:
                for name, space in one.spaces.items():
                    writer.writerow([one.image, one.side, name, f"{space.mean_mm:.3f}", f"{space.minimum_mm:.3f}"])
    scored = [one for one in found.items if one.erosions]
    if scored:
        with (out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "side", "joint", "probability", "eroded", "remark"])
            for one in scored:
                for joint, probability in one.erosions.items():
                    said = int(probability >= threshold)
                    writer.writerow([one.image, one.side, joint, f"{probability:.4f}", said, found.watermark])


def _check(images: Sequence[Path], side: str | None) -> None:
    if side not in (None, "L", "R"):
        raise ConfigError(f"side is {side!r}; L or R is wanted, or nothing to read it from the file's name")
    folders = [str(path) for path in images if path.is_dir()]
    if folders:
        raise ConfigError(
            f"{', '.join(folders)} is a folder; image files are wanted, and before them at most the folder of one run "
            "(with its config.toml)"
        )
    if not images:
        raise ConfigError("no image was named; give the run's folder, if any, and then image files")
    missing = [str(path) for path in images if not path.is_file()]
    if missing:
        raise ConfigError(f"image files are wanted; {', '.join(missing)} cannot be found")
    stems = [path.stem for path in images]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ConfigError(f"several images are called {', '.join(twice)}: their results would replace each other")


def _refuse_to_replace(images: Sequence[Path], out: Path) -> None:
    """A radiograph must not be lost to the picture drawn of it, whatever links or detours lead to it."""
    given = {_identity(path) for path in images}
    results = [out / "bones.csv", out / "joint_spaces.csv", out / "scores.csv"]
    for path in images:
        results += [out / f"{path.stem}.npy", out / f"{path.stem}.png"]
        results += (out / "crops").glob(f"{glob.escape(path.stem)}_*.png")
    lost = [str(path) for path in results if path.exists() and _identity(path) in given]
    if lost:
        raise ConfigError(f"{', '.join(lost)} would replace an image that is to be read; choose another --out")


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _side_in_name(path: Path) -> str | None:
    found = re.search(r"_([LR])$", path.stem)
    return found.group(1) if found else None
