"""How far bones learned from phantoms carry over to real wrists.

Usage: ``python benchmarks/transfer_to_real.py [RUN] [--real FOLDER] [--out runs/transfer-overlays]``; without RUN the
weights that come with the package. The 25 real radiographs of RAM-W600, with outlines and boxes drawn by eye (no
ground truth, by no radiologist), are not part of this repository: they are looked for in ``../shared/data/ramw600``.

A hit: the centroid of the predicted mask lies in the bone's box. DSC: of the predicted mask and the outline's polygon.
Prints, for each of ten bones, both over all radiographs where the bone was outlined, and writes an overlay of each.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.layout import BONES
from ramw_fed.prediction import predict
from ramw_fed.report.overlays import contact_sheet, draw_overlay, label, write_png

Masks = NDArray[np.bool_]


def polygon_mask(points: list[list[float]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(np.array(points)).astype(np.int32)], 1)
    return mask > 0


def is_hit(mask: NDArray[np.bool_], box: list[float]) -> bool:
    if not mask.any():
        return False
    y, x = np.argwhere(mask).mean(axis=0)
    x0, y0, x1, y1 = box
    return bool(x0 <= x <= x1 and y0 <= y <= y1)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float(2 * (first & second).sum() / max(1, first.sum() + second.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--real", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "ramw600")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer-overlays"))
    arguments = parser.parse_args()
    images = sorted((arguments.real / "JointLocationDetection" / "images").glob("*.bmp"))
    if not images:
        raise SystemExit(f"no radiographs in {arguments.real}: nothing to measure")
    names = {bone.lower(): bone for bone in BONES}
    outlines, boxes = (
        {
            stem: {names[bone.lower()]: drawn for bone, drawn in bones.items()}
            for stem, bones in json.loads((arguments.real / name).read_text()).items()
        }
        for name in ("outlines.json", "boxes.json")
    )
    predict(images, out=arguments.out, run=arguments.run)
    hits: dict[str, list[bool]] = {}
    scores: dict[str, list[float]] = {}
    pictures = []
    for path in images:
        masks = np.load(arguments.out / f"{path.stem}.npy") > 0
        for bone, box in boxes.get(path.stem, {}).items():
            hits.setdefault(bone, []).append(is_hit(masks[BONES.index(bone)], box))
        for bone, points in outlines.get(path.stem, {}).items():
            mask = masks[BONES.index(bone)]
            scores.setdefault(bone, []).append(dice(mask, polygon_mask(points, mask.shape)))
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        pictures.append(label(draw_overlay(np.asarray(image, np.uint8), masks, side=400), path.stem))
    print("| bone | radiographs | hit | DSC |\n|---|---|---|---|")
    for bone in sorted(hits, key=BONES.index):
        print(f"| {bone} | {len(hits[bone])} | {np.mean(hits[bone]):.2f} | {np.mean(scores[bone]):.3f} |")
    every_hit, every_score = (np.concatenate(list(values.values())) for values in (hits, scores))
    print(f"| **all** | {len(images)} | **{np.mean(every_hit):.3f}** | **{np.mean(every_score):.3f}** |")
    for number in range(0, len(pictures), 9):
        write_png(arguments.out / f"sheet_{number // 9}.png", contact_sheet(pictures[number : number + 9], 3))


if __name__ == "__main__":
    main()
