"""Bones drawn over the radiograph they were found in."""

import errno
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ramw_fed.errors import RunError

Image = NDArray[np.uint8]
Masks = NDArray[np.bool_]

# Colours that red-green blind readers tell apart (Okabe and Ito), in OpenCV's order blue, green, red.
_COLOURS = ((0, 159, 230), (233, 180, 86), (115, 158, 0), (66, 228, 240), (178, 114, 0), (0, 94, 213), (167, 121, 204))
_TRUTH = (255, 255, 255)


def draw_overlay(image: Image, masks: Masks, truth: Masks | None = None, *, side: int | None = None) -> Image:
    """Return the image in colour with each bone's outline.

    Args:
        image: ``(H, W)``.
        masks: ``(bones, H, W)``, drawn in colours.
        truth: Same shape, drawn as thin white lines; None where not known.
        side: Longer side of the picture in pixels; None for the image's, or 480 where that is smaller.
    """
    factor = (side or max(480, *image.shape)) / max(image.shape)
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    grey = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    canvas = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for masks_of, colours, width in ((masks, _COLOURS, 2), (truth, (_TRUTH,), 1)):
        for bone, mask in enumerate(masks_of if masks_of is not None else ()):
            large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
            outlines, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(canvas, outlines, -1, colours[bone % len(colours)], width, cv2.LINE_AA)
    return np.asarray(canvas, dtype=np.uint8)


def label(picture: Image, text: str) -> Image:
    """Return the picture with a line of text in its upper left corner."""
    labelled = picture.copy()
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    cv2.rectangle(labelled, (0, 0), (width + 12, height + below + 10), (0, 0, 0), cv2.FILLED)
    cv2.putText(labelled, text, (6, height + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return labelled


def contact_sheet(pictures: Sequence[Image], columns: int) -> Image:
    """Return pictures of one size in rows of ``columns``; the last row is filled with black."""
    blank = np.zeros_like(pictures[0])
    missing = -len(pictures) % columns
    filled = [*pictures, *([blank] * missing)]
    rows = [np.hstack(filled[start : start + columns]) for start in range(0, len(filled), columns)]
    return np.asarray(np.vstack(rows), dtype=np.uint8)


def read_pictures(folder: Path, quality: int = 85) -> dict[str, bytes]:
    """Return the pictures of a folder by stem as JPEG: a tenth of their bytes, for a page that holds many.

    Raises:
        RunError: One of them cannot be read.
    """
    pictures = {}
    for file in sorted(folder.glob("*.png")):
        content = np.frombuffer(file.read_bytes(), np.uint8)
        picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
        if picture is None:
            raise RunError(f"{file} is no picture; put it back from a copy")
        _, buffer = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        pictures[file.stem] = buffer.tobytes()
    return pictures


def write_png(path: Path, picture: Image) -> None:
    """Write a picture; the folder is made.

    Raises:
        OSError: It cannot be written; OpenCV alone would say nothing of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, buffer = cv2.imencode(".png", picture)
    if not encoded:
        raise OSError(errno.EINVAL, "the picture cannot be encoded as PNG", str(path))
    path.write_bytes(buffer.tobytes())
