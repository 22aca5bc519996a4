"""A cohort that is no wrist: knees of two bones and two scored joints, drawn here, in every form a file may have."""

import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from dicom_files import write as write_dicom

BONES, JOINTS = ("Femur", "Tibia"), ("MedialTibia", "LateralTibia")
HEADER = ("image", "patient", "exam", "side", "center", "split", "mask", "spacing",
          *JOINTS, *(f"{joint} box" for joint in JOINTS))  # fmt: skip
SUFFIXES = (".png", ".tif", ".dcm", ".bmp", ".jpg", ".tiff")

COHORT = """
kind = "phantom"
bones = ["Femur", "Tibia"]
joints = ["MedialTibia", "LateralTibia"]
max_grade = 4
mirrored_sides = ["R"]
overlap_pairs = [["Femur", "Tibia"]]
joint_spaces = [["Femur", "Tibia"]]

[centers]
"Clinic 3" = "Third"
"""


def write_knees(root: Path, num_centers: int) -> Path:
    """Write a manifest cohort: a patient a center and split, both knees, grades that run through 0 to 4."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    (root / "cohort.toml").write_text(COHORT)
    write_rows(root, [HEADER, *_rows(root, num_centers)])
    return root


def rows(root: Path) -> list[list[str]]:
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_rows(root: Path, table: object) -> None:
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)  # type: ignore[arg-type]


def _rows(root: Path, num_centers: int) -> Iterator[list[object]]:
    for center in range(1, num_centers + 1):
        for number, split in enumerate(("train", "val", "test")):
            for side in "LR":
                name = f"{center:02d}{number}_{side}"
                grades = [(center + number + joint) % 5 for joint in range(2)]
                image, masks, boxes = draw(center, grades, side)
                path = root / "images" / f"{name}{SUFFIXES[center % len(SUFFIXES)]}"
                save(path, image)
                np.save(root / "masks" / f"{name}.npy", masks)
                yield [
                    f"images/{path.name}", f"K{center:02d}{number}", f"E{center:02d}{number}", side,
                    f"Clinic {center}", split, f"masks/{name}.npy", "0.2 0.3" if path.suffix != ".dcm" else "",
                    *grades, *(" ".join(map(str, box)) for box in boxes),
                ]  # fmt: skip


def draw(center: int, grades: list[int], side: str) -> tuple[np.ndarray, np.ndarray, list[tuple[int, ...]]]:
    """Image, masks ``(2, 48, 40)`` and boxes; a grade is a dark notch in the tibia as deep as it is high."""
    masks = np.zeros((2, 48, 40), np.uint8)
    cv2.ellipse(masks[0], (20, 10 + center % 3), (13, 13), 0, 0, 360, 1, -1)
    cv2.rectangle(masks[1], (8, 22), (32, 44), 1, -1)
    image = 40 + 10 * (center % 5) + 70 * masks[0].astype(int) + 60 * masks[1]
    for x, grade in zip((12, 25), grades, strict=True):
        image[22 : 22 + 2 * grade, x : x + 4] -= 50
    image += np.random.default_rng([center, *grades, ord(side)]).integers(-5, 6, image.shape)
    boxes = [(8, 18, 20, 36), (20, 18, 33, 36)]
    if side == "R":
        image, masks = image[:, ::-1], masks[:, :, ::-1]
        boxes = [(40 - x1, y0, 40 - x0, y1) for x0, y0, x1, y1 in boxes]
    return np.ascontiguousarray(image.astype(np.uint8)), np.ascontiguousarray(masks), boxes


def save(path: Path, image: np.ndarray) -> None:
    """TIFF has 16 bits here, DICOM 12 in 16 and black bones on white."""
    if path.suffix == ".dcm":
        tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
        write_dicom(path, 4095 - image.astype(np.uint16) * 16, ImagerPixelSpacing=[0.2, 0.3], **tags)
    else:
        cv2.imwrite(str(path), image.astype(np.uint16) * 257 if path.suffix.startswith(".tif") else image)
