"""Time all measures of a wrist's 14 bones against MONAI's five classes for the same numbers.

Usage: ``python benchmarks/metrics_against_monai.py [--size 512] [--repeats 9] [--shapes wrist|ellipses]``.

Both sides get masks that are ready to use, one thread each, and take turns; what counts is the processor time of
this process, the smallest of all turns. MONAI computes DSC, NSD, MSD (symmetric), IoU and HD95; ours RAVD and the
counts of missing and false bones as well. The largest difference between the values is printed too.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy and torch read them

import cv2
import monai
import numpy as np
import torch
from monai.metrics import (
    DiceMetric,
    HausdorffDistanceMetric,
    MeanIoU,
    SurfaceDiceMetric,
    SurfaceDistanceMetric,
)
from numpy.typing import NDArray

from ramw_fed.data.phantom.anatomy import draw_anatomy
from ramw_fed.data.phantom.rendering import render
from ramw_fed.data.phantom.styles import draw_style
from ramw_fed.metrics.surface import segmentation_metrics

Masks = NDArray[np.bool_]
NUM_BONES, TOLERANCE_PX = 14, 2.0


def wrist(size: int, rng: np.random.Generator) -> Masks:
    anatomy = draw_anatomy(rng, has_arthritis=False)
    return render(anatomy, draw_style(rng, center=0, shift=0.0), scores={}, size=size, rng=rng).masks


def ellipses(size: int, rng: np.random.Generator) -> Masks:
    masks = np.zeros((NUM_BONES, size, size), np.uint8)
    for mask in masks:
        center, half_axes = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(0.05, 0.15, 2) * size
        cv2.ellipse(mask, center.round().astype(int), half_axes.round().astype(int), rng.uniform(0, 180), 0, 360, 1, -1)
    return masks.astype(bool)


def segment(truth: Masks, rng: np.random.Generator) -> Masks:
    """A plausible prediction: each bone moved and turned a little, its outline ragged by about two pixels."""
    predicted = np.empty_like(truth)
    size = truth.shape[-1]
    for index, mask in enumerate(truth):
        move = cv2.getRotationMatrix2D((size / 2, size / 2), rng.normal(0, 0.2), 1 + rng.normal(0, 0.003))
        move[:, 2] += rng.normal(0, 0.8, 2)
        moved = cv2.GaussianBlur(cv2.warpAffine(mask.astype(np.float32), move, (size, size)), (0, 0), 3)
        ragged = cv2.GaussianBlur(rng.normal(0, 1, mask.shape).astype(np.float32), (0, 0), 4)
        predicted[index] = moved + 0.12 * ragged / ragged.std() > 0.5
    return predicted


def monai_metrics() -> dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    return {
        "dsc": DiceMetric(reduction="none"),
        "nsd": SurfaceDiceMetric([TOLERANCE_PX] * NUM_BONES, include_background=True, reduction="none"),
        "msd": SurfaceDistanceMetric(include_background=True, symmetric=True, reduction="none"),
        "voe": MeanIoU(reduction="none"),
        "hd95": HausdorffDistanceMetric(include_background=True, percentile=95, reduction="none"),
    }


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--shapes", choices=("wrist", "ellipses"), default="wrist")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # MONAI warns of its own deprecated arguments in every call

    rng = np.random.default_rng(options.seed)
    truth = {"wrist": wrist, "ellipses": ellipses}[options.shapes](options.size, rng)
    predicted = segment(truth, rng)
    pair = [torch.from_numpy(masks[None]).float() for masks in (predicted, truth)]
    theirs = monai_metrics()

    values = segmentation_metrics(predicted, truth, tolerance_px=TOLERANCE_PX)
    print(f"{options.shapes}, {NUM_BONES} x {options.size} x {options.size}, mean DSC {values['dsc'].mean():.3f}")
    for name, metric in theirs.items():
        expected = metric(*pair).numpy().ravel().astype(float)
        expected = 1 - expected if name == "voe" else expected
        print(f"  largest difference of {name:5s} {np.nanmax(np.abs(values[name] - expected)):.1e}")

    ours_s, theirs_s = [], []
    for _ in range(options.repeats):
        theirs_s.append([seconds(lambda metric=metric: metric(*pair)) for metric in theirs.values()])
        ours_s.append(seconds(lambda: segmentation_metrics(predicted, truth, tolerance_px=TOLERANCE_PX)))
    together = [sum(turn) for turn in theirs_s]
    print(f"MONAI {monai.__version__}, CPU-s of {options.repeats} turns, one thread:")
    print("  " + ", ".join(f"{name} {min(t):.4f}" for name, t in zip(theirs, zip(*theirs_s, strict=True), strict=True)))
    print(f"  together {min(together):.4f} (to {max(together):.4f})")
    print(f"ramw-fed   {min(ours_s):.4f} (to {max(ours_s):.4f}): {min(together) / min(ours_s):.0f}x faster")


if __name__ == "__main__":
    main()
