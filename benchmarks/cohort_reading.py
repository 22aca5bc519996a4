"""Time an epoch of packed radiographs against decoding image and mask files, and measure the memory of packing.

Usage: ``python benchmarks/cohort_reading.py [--patients 12] [--repeats 7]``.

A phantom of 600-pixel images is written to a temporary folder. Both sides read every image and all masks once, take
turns, and are timed in processor time of this process; the smallest of all turns counts, the spread is printed. The
files are warm in the page cache. The last line gives the largest resident memory of a fresh process that packs the
cohort and reads one epoch (mapped pages of the cache included), beyond what it holds after importing.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy reads it

import multiprocessing

import cv2
import numpy as np

from ramw_fed.config import PhantomConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.packed import Packed, pack
from ramw_fed.data.phantom.writer import write_phantom
from ramw_fed.data.reading import read_cohort
from ramw_fed.data.resizing import fit_image, fit_masks

cv2.setNumThreads(1)


def decode(cohort: Cohort, size: int | None) -> int:
    total = 0
    for radiograph in cohort.radiographs:
        image = cv2.imread(str(radiograph.image), cv2.IMREAD_UNCHANGED)
        image = image if image.ndim == 2 else image[..., 0]
        masks = np.load(str(radiograph.masks)) > 0
        if radiograph.side == "L":
            image, masks = image[:, ::-1], masks[..., ::-1]
        if size is not None:
            image, masks = fit_image(np.ascontiguousarray(image), size), fit_masks(masks, size)
        image, masks = np.ascontiguousarray(image), np.ascontiguousarray(masks)
        total += image.shape[0] + len(masks)
    return total


def unpack(packed: Packed) -> int:
    return sum(packed.image(row).shape[0] + len(packed.masks(row)) for row in range(len(packed)))


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(cohort: Cohort, size: int | None, repeats: int) -> None:
    first = seconds(lambda: pack(cohort, size))
    packed = pack(cohort, size)
    sides = {"files": lambda: decode(cohort, size), "packed": lambda: unpack(packed)}
    turns: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            turns[name].append(seconds(work))
    number, best = len(cohort.radiographs), {name: min(values) for name, values in turns.items()}
    for name, values in turns.items():
        spread = f"{min(values) / number * 1e3:.2f} to {max(values) / number * 1e3:.2f}"
        print(f"  {name:7} {best[name] / number * 1e3:7.2f} ms an image ({spread})")
    disk = sum(path.stat().st_size for path in packed.folder.iterdir()) / number
    print(f"  packed is {best['files'] / best['packed']:.1f}x faster; {disk / 1e6:.2f} MB an image on disk")
    print(f"  packing once: {first / number * 1e3:.1f} ms an image")


def peak_of_packing(root: Path, cache: Path, queue: "multiprocessing.Queue[float]") -> None:
    os.environ["RAMW_FED_CACHE"] = str(cache)
    before = peak_mib()
    unpack(pack(read_cohort(root), None))
    queue.put(peak_mib() - before)


def peak_mib() -> float:
    """Largest resident memory so far. Not getrusage: its value survives exec, so a child begins with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        os.environ["RAMW_FED_CACHE"] = str(Path(folder) / "cache")
        root = Path(folder) / "cohort"
        config = PhantomConfig(patients=arguments.patients, size=600)
        written = seconds(lambda: write_phantom(config, root))
        first = seconds(lambda: read_cohort(root))
        cohort = read_cohort(root)
        again = seconds(lambda: read_cohort(root))
        number = len(cohort.radiographs)
        print(f"{number} radiographs of 600 px: written in {written / number:.3f} s an image")
        print(f"read_cohort: {first:.2f} s the first time (every file inspected and hashed), {again:.3f} s after that")
        for size in (None, 96):
            print("native size" if size is None else f"at {size} px")
            compare(cohort, size, arguments.repeats)
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        child = context.Process(target=peak_of_packing, args=(root, Path(folder) / "other", queue))
        child.start()
        decoded = number * 15 * 600 * 600 / 2**20
        peak = queue.get()
        print(
            f"reading, packing and one epoch: at most {peak:.0f} MiB beyond the start; all decoded: {decoded:.0f} MiB"
        )
        child.join()


if __name__ == "__main__":
    main()
