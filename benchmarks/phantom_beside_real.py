"""Draw real wrists beside synthetic ones and print how their grey values compare.

Usage: ``python benchmarks/phantom_beside_real.py [--real FOLDER] [--num 25] [--out runs/phantom]``. The real
radiographs (25 wrists of RAM-W600 with outlines drawn by eye) are not part of this repository; the script looks for
them in ``../shared/data/ramw600`` and prints the phantom's column alone where they are absent.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.data.phantom.anatomy import BONES, JOINTS, draw_anatomy
from ramw_fed.data.phantom.rendering import render
from ramw_fed.data.phantom.styles import draw_style

OUTLINED = [bone for bone in BONES if bone.startswith(("Distal", "Meta"))] + ["Capitate", "Lunate", "Scaphoid"]
OVERLAPS = [
    ("Capitate", "Scaphoid"),
    ("Capitate", "Lunate"),
    ("Lunate", "Scaphoid"),
    ("DistalRadius", "Lunate"),
    ("DistalRadius", "Scaphoid"),
    ("Metacarpal2nd", "Metacarpal3rd"),
    ("Metacarpal4th", "Metacarpal5th"),
]
Masks = Mapping[str, NDArray[np.bool_]]


def measure(image: NDArray[np.uint8], masks: Masks) -> dict[str, float]:
    """Grey-value figures of one wrist; ``image`` (600, 600), ``masks`` of the outlined bones."""
    rows = image.mean(axis=1)
    band = int(np.argmax(rows > 3))
    seen = image[band + 2 :].astype(np.float32)
    figures = {"mean": float(image.mean()), "sd": float(image.std())}
    figures |= {f"p{q:02d}": float(np.percentile(image, q)) for q in (5, 25, 50, 75, 95, 99)}
    residual = seen - cv2.GaussianBlur(seen, (0, 0), 1.0)
    figures["noise (high frequency, all)"] = 1.4826 * float(np.median(np.abs(residual)))
    dark = cv2.GaussianBlur(seen, (0, 0), 3) < 60
    figures["noise (air)"] = 1.4826 * float(np.median(np.abs(residual[dark]))) if dark.sum() > 500 else np.nan
    figures["air"] = float(np.percentile(seen, 2))
    figures["has band"] = float(band >= 4)
    return figures | _contrasts(image.astype(np.float32), masks, band)


def _contrasts(image: NDArray[np.float32], masks: Masks, band: int) -> dict[str, float]:
    anywhere = np.any(list(masks.values()), axis=0)
    figures = {}
    inner = {bone: cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0 for bone, mask in masks.items()}
    ratios, textures = [], []
    for bone in [bone for bone in masks if bone.startswith("Meta")]:
        wide = cv2.dilate(masks[bone].astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
        ring = wide & ~(cv2.dilate(anywhere.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0)
        ring[: max(band + 2, 0)] = False
        ring &= image > 50
        if ring.sum() > 200 and inner[bone].sum() > 200:
            ratios.append(float(image[inner[bone]].mean() / image[ring].mean()))
    figures["metacarpal / soft tissue beside it"] = float(np.mean(ratios)) if ratios else np.nan
    for bone in ("Capitate", "Lunate", "Scaphoid", "DistalRadius"):
        if bone in inner and inner[bone].sum() > 200:
            values = image - cv2.GaussianBlur(image, (0, 0), 5)
            textures.append(float(values[inner[bone]].std() / image[inner[bone]].mean()))
    figures["texture in bone (sd under 5 px / mean)"] = float(np.mean(textures)) if textures else np.nan
    if {"Capitate", "DistalRadius", "Metacarpal3rd"} <= set(masks):
        figures["capitate"] = float(image[masks["Capitate"]].mean())
        figures["radius / capitate"] = float(image[masks["DistalRadius"]].mean() / figures["capitate"])
        figures["metacarpal 3 / capitate"] = float(image[masks["Metacarpal3rd"]].mean() / figures["capitate"])
    steps = []
    for one, other in OVERLAPS:
        if one not in masks or other not in masks:
            continue
        both = masks[one] & masks[other]
        if both.sum() > 60:
            near = cv2.dilate(both.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
            single = near & (masks[one] ^ masks[other])
            steps.append(float(image[both].mean() / image[single].mean()))
    figures["overlap / single bone beside it"] = float(np.mean(steps)) if steps else np.nan
    return figures


def real_wrists(folder: Path) -> list[tuple[NDArray[np.uint8], Masks]]:
    """The real wrists as right hands, with masks of the ten outlined bones."""
    outlines = json.loads((folder / "outlines.json").read_text())
    wrists = []
    for path in sorted((folder / "JointLocationDetection" / "images").glob("*.bmp")):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        masks = {}
        for bone, points in outlines[path.stem].items():
            canvas = np.zeros(image.shape, np.uint8)
            cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], 1)
            masks[bone.replace("metacarpal", "Metacarpal")] = canvas > 0
        if path.stem.endswith("L"):
            image = image[:, ::-1]
            masks = {bone: mask[:, ::-1] for bone, mask in masks.items()}
        wrists.append((np.ascontiguousarray(image), masks))
    return wrists


def phantom_wrists(num: int, seed: int) -> list[tuple[NDArray[np.uint8], Masks]]:
    """Synthetic wrists of the widest style, half of the patients with arthritis."""
    wrists = []
    for index in range(num):
        rng = np.random.default_rng([seed, index])
        anatomy = draw_anatomy(rng, has_arthritis=bool(index % 2))
        style = draw_style(rng, center=0, shift=0.0)
        scores = {joint: int(rng.integers(0, 5)) if index % 2 and rng.random() < 0.25 else 0 for joint in JOINTS}
        wrist = render(anatomy, style, scores=scores, size=600, rng=rng)
        wrists.append((wrist.image, {bone: wrist.masks[BONES.index(bone)] for bone in OUTLINED}))
    return wrists


def print_table(real: list[dict[str, float]], phantom: list[dict[str, float]]) -> None:
    """Mean and standard deviation over wrists, one line a figure."""
    print("| figure | real, mean (sd) | phantom, mean (sd) |\n|---|---|---|")
    for name in phantom[0]:
        cells = []
        for rows in (real, phantom):
            values = np.array([row.get(name, np.nan) for row in rows]) if rows else np.array([np.nan])
            values = values[np.isfinite(values)]
            cells.append(f"{values.mean():.3g} ({values.std():.2g})" if len(values) else "-")
        print(f"| {name} | {cells[0]} | {cells[1]} |")


def draw_sheet(rows: list[list[NDArray[np.uint8]]], path: Path, side: int) -> None:
    """Write a contact sheet, one row a list."""
    tiles = [[cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in row] for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack([np.hstack(row) for row in tiles]))
    print(f"wrote {path}")


def main() -> None:
    """Measure, print, draw."""
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, default=root.parent / "shared" / "data" / "ramw600")
    parser.add_argument("--num", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=root / "runs" / "phantom")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    phantom = phantom_wrists(arguments.num, arguments.seed)
    real = real_wrists(arguments.real) if arguments.real.is_dir() else []
    print_table([measure(*wrist) for wrist in real], [measure(*wrist) for wrist in phantom])
    images, reals = [image for image, _ in phantom], [image for image, _ in real]
    if real:
        order = np.random.default_rng(arguments.seed).permutation(len(real))
        for page, start in enumerate(range(0, min(len(real), len(images)) - 4, 5)):
            mixed = [[reals[i] for i in order[start : start + 5]], images[start : start + 5]]
            draw_sheet(mixed, arguments.out / f"beside_{page}.png", 400)
            crops = [[image[130:530, 100:500] for image in row[:4]] for row in mixed]
            draw_sheet(crops, arguments.out / f"beside_{page}_crops.png", 400)
    draw_sheet([images[start : start + 4] for start in (0, 4, 8)], arguments.out / "phantom.png", 225)


if __name__ == "__main__":
    main()
