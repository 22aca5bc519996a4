"""Print how many synthetic wrists one thread renders in a second of processor time.

Usage: ``python benchmarks/phantom_speed.py [--num 12]``.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np

from ramw_fed.data.phantom.anatomy import JOINTS, draw_anatomy
from ramw_fed.data.phantom.rendering import render
from ramw_fed.data.phantom.styles import draw_style

SIZES = ((96, 1.0), (128, 1.0), (128, 1.5), (256, 1.0), (600, 1.0), (720, 1.0))


def seconds_per_image(size: int, field_of_view: float, num: int) -> tuple[float, float]:
    """Median and least processor seconds of ``num`` images with two eroded joints each."""
    taken = []
    for index in range(num + 1):
        rng = np.random.default_rng([0, index])
        anatomy = draw_anatomy(rng, has_arthritis=True)
        style = draw_style(rng, center=0, shift=0.0)
        start = time.process_time()
        render(anatomy, style, scores={JOINTS[2]: 2, JOINTS[5]: 4}, size=size, rng=rng, field_of_view=field_of_view)
        taken.append(time.process_time() - start)
    return float(np.median(taken[1:])), min(taken[1:])  # the first pays for imports and caches


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=12)
    num = parser.parse_args().num
    cv2.setNumThreads(1)
    print("| frame, px | field of view | CPU-s an image, median (least) | images a CPU-second |\n|---|---|---|---|")
    for size, field_of_view in SIZES:
        median, least = seconds_per_image(size, field_of_view, num)
        print(f"| {size} | {field_of_view} | {median:.3f} ({least:.3f}) | {1 / median:.0f} |")


if __name__ == "__main__":
    main()
