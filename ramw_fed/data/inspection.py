"""What one file is: its hash, its shape, and what is wrong with it. Read once, remembered until it changes."""

import hashlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ramw_fed.data.cache import cache_folder
from ramw_fed.data.dicom import is_dicom, read_dicom, read_header
from ramw_fed.data.layout import IMAGE_FORMATS
from ramw_fed.data.levels import MAX_PIXELS, stretch
from ramw_fed.data.radiograph import is_binary
from ramw_fed.errors import CohortError

_VERSION = 2  # of the remembered facts; raise it when what is looked for changes
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Facts:
    """About one file.

    Attributes:
        sha256: Of its bytes.
        fault: Code of what is wrong with it (``findings.SAYINGS``), or empty.
        shape: ``(H, W)`` of an image, the array's of masks, else empty.
        pixels: Hash of an image's pixels, equal for an image and its mirror image.
        is_blank: Whether all pixels of an image are equal.
        absent: Channels of masks without a pixel.
        spacing_mm: Height and width of a pixel, where an image's own header tells.
        also: What else there is to say of it, as codes with their details; errors among it leave the rest known.
    """

    sha256: str
    fault: str = ""
    shape: tuple[int, ...] = ()
    pixels: str = ""
    is_blank: bool = False
    absent: tuple[int, ...] = ()
    spacing_mm: tuple[float, float] | None = None
    also: tuple[tuple[str, str], ...] = ()


def inspect_all(root: Path, files: Mapping[str, os.stat_result], wanted: Iterable[str]) -> dict[str, Facts]:
    """Inspect files below ``root``; those unchanged since the last time are not opened again.

    Args:
        root: Folder of the cohort.
        files: Path relative to ``root`` to the file's status.
        wanted: Which of them.

    Returns:
        Path to facts. A file that cannot be opened has the fault ``folder-unreadable``.
    """
    memory = cache_folder() / "files" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:32]}.json"
    known = _remembered(memory)
    facts, stamps = {}, {}
    for path in wanted:
        status = files[path]
        # The change time too: a file put back with its old modification time and size is still noticed.
        stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        old = known.get(path)
        facts[path] = old[1] if old and old[0] == stamp else inspect(root / path)
        stamps[path] = stamp
    if any(known.get(path, ("",))[0] != stamp for path, stamp in stamps.items()):
        _remember(memory, {path: (stamps[path], facts[path]) for path in facts})
    return facts


def inspect(path: Path) -> Facts:
    """Read one file and say what it is; never raises for what a file holds."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return Facts("", "file-too-large")
        content = path.read_bytes()
    except OSError:
        return Facts("", "folder-unreadable")
    sha256 = hashlib.sha256(content).hexdigest()
    if not content:
        return Facts(sha256, "file-empty")
    suffix = PurePosixPath(path.name.lower()).suffix
    # A PACS names its files as it likes; where a name promises something else, that is held against it.
    if IMAGE_FORMATS.get(suffix) == "DICOM" or (suffix not in IMAGE_FORMATS and is_dicom(path)):
        return _inspect_dicom(path, sha256)
    if suffix in IMAGE_FORMATS:
        return _inspect_image(content, IMAGE_FORMATS[suffix], sha256)
    if suffix == ".npy":
        return _inspect_masks(content, sha256)
    return Facts(sha256)


def _inspect_image(content: bytes, expected: str, sha256: str) -> Facts:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images; the limit below is stricter
        try:
            image = Image.open(io.BytesIO(content))
        except Image.DecompressionBombError:
            return Facts(sha256, "image-too-large")
        except Exception:  # a broken header can raise almost anything in a decoder
            return Facts(sha256, "image-not-an-image")
        shape = (image.height, image.width)
        if image.width * image.height > MAX_PIXELS:
            return Facts(sha256, "image-too-large", shape)
        if image.format != expected:
            return Facts(sha256, "image-wrong-extension", shape)
        try:
            image.load()
        except Exception:  # as above
            return Facts(sha256, "image-truncated", shape)
    if getattr(image, "n_frames", 1) > 1:
        return Facts(sha256, "image-multi-frame", shape)
    if image.mode.startswith("I;16"):
        return _of_pixels(sha256, stretch(np.asarray(image)), also=(("image-converted", "16 bits, percentiles"),))
    if image.mode not in ("L", "P", "RGB", "RGBA"):
        return Facts(sha256, "image-depth", shape)
    pixels = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    if pixels.ndim == 3:
        if not (pixels[..., 1:3] == pixels[..., :1]).all():
            return Facts(sha256, "image-coloured", shape)
        pixels = pixels[..., 0]
    return _of_pixels(sha256, pixels)


def _inspect_dicom(path: Path, sha256: str) -> Facts:
    header = read_header(path)
    if header.fault:
        return Facts(sha256, header.fault, header.shape)
    try:
        pixels = read_dicom(path)
    except CohortError:
        return Facts(sha256, "dicom-undecodable", header.shape)
    also = [("image-converted", f"DICOM, {header.rule}")] if header.rule != "as they are" else []
    if header.identity:
        also.append(("dicom-identity", ", ".join(header.identity)))
    if header.is_annotated is not False:
        also.append(("dicom-annotation", "YES" if header.is_annotated else "no such tag"))
    if header.is_spacing_malformed:
        also.append(("spacing-malformed", ""))
    return _of_pixels(sha256, pixels, spacing_mm=header.spacing_mm, also=tuple(also))


def _of_pixels(
    sha256: str,
    pixels: NDArray[np.uint8],
    spacing_mm: tuple[float, float] | None = None,
    also: tuple[tuple[str, str], ...] = (),
) -> Facts:
    return Facts(
        sha256,
        shape=pixels.shape,
        pixels=_pixel_hash(pixels),
        is_blank=bool(pixels.min() == pixels.max()),
        spacing_mm=spacing_mm,
        also=also,
    )


def _pixel_hash(pixels: NDArray[np.uint8]) -> str:
    both = (pixels, pixels[:, ::-1])
    return min(hashlib.sha256(view.tobytes()).hexdigest() for view in both)


def _inspect_masks(content: bytes, sha256: str) -> Facts:
    try:
        # Not np.load: it would open an archive, which a small file can blow up, and tries pickle first.
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception:  # a header is evaluated as Python's literals: many ways to be wrong
        return Facts(sha256, "mask-unreadable")
    if array.dtype.kind not in "uib" or array.dtype.itemsize != 1:
        return Facts(sha256, "mask-unreadable")
    if array.ndim != 3 or not array.size:
        return Facts(sha256, "mask-shape", array.shape)
    if not is_binary(array):
        return Facts(sha256, "mask-values", array.shape)
    absent = tuple(int(channel) for channel in np.flatnonzero(~array.any(axis=(1, 2))))
    return Facts(sha256, "mask-empty" if len(absent) == len(array) else "", array.shape, absent=absent)


def _remembered(memory: Path) -> dict[str, tuple[str, Facts]]:
    try:
        table = json.loads(memory.read_text())
        if table["version"] != _VERSION:
            return {}
        return {path: (stamp, _facts(values)) for path, (stamp, values) in table["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _facts(values: Mapping[str, object]) -> Facts:
    return Facts(**{key: _frozen(value) for key, value in values.items()})  # type: ignore[arg-type]


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _remember(memory: Path, table: Mapping[str, tuple[str, Facts]]) -> None:
    files = {path: [stamp, asdict(facts)] for path, (stamp, facts) in table.items()}
    memory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as file:
        file.write(json.dumps({"version": _VERSION, "files": files}))
    os.replace(file.name, memory)
