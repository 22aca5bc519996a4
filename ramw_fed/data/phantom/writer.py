"""The phantom cohort as files: the tree of RAM-W600, with ``cohort.toml`` beside it."""

import glob
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray

from ramw_fed.config import PhantomConfig
from ramw_fed.data import layout
from ramw_fed.data.description import write_description
from ramw_fed.data.phantom.anatomy import BONES, JOINTS, draw_anatomy
from ramw_fed.data.phantom.plan import Exposure, plan
from ramw_fed.data.phantom.rendering import Wrist, render
from ramw_fed.data.phantom.styles import draw_style
from ramw_fed.data.phantom.workbook import write_metadata
from ramw_fed.errors import CohortError

Progress = Callable[[int, int], None]
Box = tuple[int, int, int, int]

PHANTOM = replace(layout.RAMW600, kind="phantom", bones=BONES, joints=JOINTS)

# First number after the seed in every key: which stream of random numbers it is. 1 plans, 4 fills the table.
_ANATOMY, _STYLE, _IMAGE = 2, 3, 5
_SIDES = {"L": 0, "R": 1}


def write_phantom(config: PhantomConfig, root: Path, *, workers: int = 1, progress: Progress | None = None) -> None:
    """Write the phantom cohort of ``config`` into the new folder ``root``.

    Same configuration, same bytes, for any number of workers. The tree is made beside ``root`` and moved
    there when it is whole: a run that is killed leaves nothing that could be taken for a cohort.

    Args:
        config: Which cohort.
        root: A folder that does not exist or is empty.
        workers: Processes that render.
        progress: Called with the number of images done and of all.

    Raises:
        CohortError: ``root`` holds something already.
    """
    root = Path(os.path.abspath(root))
    if root.is_symlink() or (root.exists() and (not root.is_dir() or any(root.iterdir()))):
        raise CohortError(f"{root} exists and is not an empty folder; name a new one, or remove it first")
    root.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(root)
    partial_root = root.parent / f".{root.name}.partial-{os.getpid()}"
    try:
        _write_tree(config, partial_root, workers, progress)
        if root.exists():
            root.rmdir()
        partial_root.rename(root)
    finally:
        shutil.rmtree(partial_root, ignore_errors=True)


def draw_wrist(config: PhantomConfig, exposure: Exposure) -> Wrist:
    """Render one image of the cohort as it lies in the file: left hands are left hands.

    A function of the seed and of the exposure's patient, exam and side: order and company do not matter.
    """
    patient, exam, side = exposure.patient, exposure.exam, _SIDES[exposure.side]
    anatomy = draw_anatomy(
        np.random.default_rng([config.seed, _ANATOMY, patient]), has_arthritis=exposure.has_arthritis
    )
    style = draw_style(
        np.random.default_rng([config.seed, _STYLE, patient, exam]),
        center=exposure.center,
        shift=config.shift,
    )
    if config.contrast is not None:
        style = replace(style, bone=style.bone * config.contrast)
    wrist = render(
        anatomy,
        style,
        scores=exposure.scores,
        size=exposure.size,
        rng=np.random.default_rng([config.seed, _IMAGE, patient, exam, side]),
        field_of_view=config.field_of_view,
    )
    return _mirrored(wrist) if exposure.side == "L" else wrist


def _mirrored(wrist: Wrist) -> Wrist:
    width = wrist.image.shape[1]
    return replace(
        wrist,
        image=np.ascontiguousarray(wrist.image[:, ::-1]),
        masks=np.ascontiguousarray(wrist.masks[:, :, ::-1]),
        boxes={joint: (width - x1, y0, width - x0, y1) for joint, (x0, y0, x1, y1) in wrist.boxes.items()},
    )


def _write_tree(config: PhantomConfig, root: Path, workers: int, progress: Progress | None) -> None:
    exposures = plan(config)
    _make_folders(exposures, root)
    located: dict[str, _Located] = {}
    for done, (name, boxes) in enumerate(_render_all(config, exposures, root, workers), start=1):
        located[name] = boxes
        if progress is not None:
            progress(done, len(exposures))
    _write_json(root / layout.JOINT_BOXES, _coco(exposures, located))
    scores = [
        {
            "identifier": e.name,
            "joints": {layout.published(joint): score for joint, score in e.scores.items()},
        }
        for e in exposures
        if e.is_scored
    ]
    _write_json(root / layout.JOINT_SCORES, scores)
    _write_json(root / layout.JOINT_SCORES_ORIGINAL, scores)
    write_metadata(exposures, config.seed, root / layout.METADATA)
    write_description(PHANTOM, root / layout.DESCRIPTION, phantom=config.write())


def _make_folders(exposures: Sequence[Exposure], root: Path) -> None:
    for folder in (layout.BONE_IMAGES, layout.JOINT_IMAGES):
        (root / folder).mkdir(parents=True)
    for split in ("train", "val", "test"):
        (root / layout.BONE_MASKS / split).mkdir(parents=True)
        (root / layout.JOINT_CROPS / split).mkdir(parents=True)
    for exposure in exposures:
        if exposure.is_scored:
            (root / layout.JOINT_CROPS / exposure.split / exposure.name).mkdir()


@dataclass(frozen=True)
class _Located:
    side: int
    boxes: Mapping[str, Box]


def _render_all(
    config: PhantomConfig, exposures: Sequence[Exposure], root: Path, workers: int
) -> Iterator[tuple[str, _Located]]:
    write = partial(_write_image, config, root)
    if workers <= 1:
        yield from map(write, exposures)
        return
    # Not fork: the caller may hold threads. Four exposures a task: fewer messages.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        tasks = [
            pool.submit(_write_images, write, exposures[start : start + 4]) for start in range(0, len(exposures), 4)
        ]
        try:
            for task in as_completed(tasks):
                yield from task.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_images(
    write: Callable[[Exposure], tuple[str, _Located]], exposures: Sequence[Exposure]
) -> list[tuple[str, _Located]]:
    return [write(exposure) for exposure in exposures]


def _write_image(config: PhantomConfig, root: Path, exposure: Exposure) -> tuple[str, _Located]:
    wrist = draw_wrist(config, exposure)
    # Grey and colour images lie side by side in RAM-W600, also within a study.
    is_colour = (
        np.random.default_rng([config.seed, _IMAGE, exposure.patient, exposure.exam, _SIDES[exposure.side], 1]).random()
        < 0.5
    )
    bitmap = _bitmap(wrist.image, is_colour)
    (root / layout.BONE_IMAGES / f"{exposure.name}.bmp").write_bytes(bitmap)
    (root / layout.JOINT_IMAGES / f"{exposure.name}.bmp").write_bytes(bitmap)
    masks = wrist.masks.astype(np.uint8)
    np.save(root / layout.BONE_MASKS / exposure.split / f"{exposure.name}.npy", masks, allow_pickle=False)
    if exposure.is_scored:
        folder = root / layout.JOINT_CROPS / exposure.split / exposure.name
        for joint, (x0, y0, x1, y1) in wrist.boxes.items():
            crop = _bitmap(wrist.image[y0:y1, x0:x1], is_colour)
            (folder / f"{layout.published(joint)}.bmp").write_bytes(crop)
    return exposure.name, _Located(len(wrist.image), dict(wrist.boxes))


def _bitmap(image: NDArray[np.uint8], is_colour: bool) -> bytes:
    pixels = np.repeat(image[:, :, None], 3, axis=2) if is_colour else image
    encoded, buffer = cv2.imencode(".bmp", np.ascontiguousarray(pixels))
    if not encoded:
        raise CohortError("an image cannot be encoded as BMP; is this build of OpenCV complete?")
    return bytes(buffer.tobytes())


def _coco(exposures: Sequence[Exposure], located: Mapping[str, _Located]) -> Mapping[str, object]:
    images: list[Mapping[str, object]] = []
    annotations: list[Mapping[str, object]] = []
    for image_id, exposure in enumerate(exposures, start=1):
        found = located[exposure.name]
        images.append({"id": image_id, "file_name": f"{exposure.name}.bmp", "width": found.side, "height": found.side})
        for category, joint in enumerate(JOINTS, start=1):
            x0, y0, x1, y1 = found.boxes[joint]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": layout.published(joint)} for number, joint in enumerate(JOINTS, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _remove_abandoned(root: Path) -> None:
    """Remove what killed processes left beside ``root``."""
    for folder in root.parent.glob(f".{glob.escape(root.name)}.partial-*"):
        owner = folder.name.rpartition("-")[2]
        if not (owner.isdigit() and psutil.pid_exists(int(owner))):
            shutil.rmtree(folder, ignore_errors=True)
