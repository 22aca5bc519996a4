"""A DICOM file as an 8-bit grey image, and what forbids its use. The only importer of pydicom."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from ramw_fed.data.levels import MAX_PIXELS, stretch, to_eight_bits
from ramw_fed.data.spacing import read_spacing
from ramw_fed.errors import CohortError

SUFFIXES = (".dcm", ".dicom")

# Beside these: every name of a person, every date, every private tag (PS3.15, basic profile).
_IDENTITY = frozenset(
    {
        "AccessionNumber",
        "AdditionalPatientHistory",
        "DeviceSerialNumber",
        "ImageComments",
        "InsurancePlanIdentification",
        "IssuerOfPatientID",
        "MedicalRecordLocator",
        "MilitaryRank",
        "OtherPatientIDs",
        "PatientAddress",
        "PatientBirthTime",
        "PatientComments",
        "PatientReligiousPreference",
        "PatientTelephoneNumbers",
        "RegionOfResidence",
        "StationName",
    }
)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a DICOM file says beside its pixels.

    Attributes:
        fault: Code of why its pixels cannot be taken (``findings.SAYINGS``), or empty.
        shape: Rows and columns; empty where unknown.
        identity: Names of tags that may tell who the patient is; never what stands in them.
        is_annotated: Whether text is burned into the pixels; None where the file does not say.
        rule: How its levels become 8 bits: ``"window"``, ``"percentiles"`` or ``"as they are"``.
        spacing_mm: Height and width of a pixel, at the detector where the file tells.
        is_spacing_malformed: Whether it has a spacing that cannot be read.
        patient: PatientID; identity, to group images by and not to be shown.
        exam: StudyInstanceUID; the same holds.
        side: Of the body; empty where the file does not say.
    """

    fault: str = ""
    shape: tuple[int, ...] = ()
    identity: tuple[str, ...] = ()
    is_annotated: bool | None = None
    rule: str = ""
    spacing_mm: tuple[float, float] | None = None
    is_spacing_malformed: bool = False
    patient: str = ""
    exam: str = ""
    side: Literal["L", "R", ""] = ""


def is_dicom(path: Path) -> bool:
    """Tell by the four letters at byte 128, as exports of a PACS often have no extension."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> Header:
    """Read everything but the pixels; never raises for what the file holds."""
    try:
        with _quietly():
            # A deflated file is inflated before anything can be asked of it: a small one can fill the memory.
            if not _has_codec(read_file_meta_info(path).get("TransferSyntaxUID")):
                return Header(fault="dicom-undecodable")
            return _header(dcmread(path))
    except Exception:  # a broken file can raise almost anything in a parser
        return Header(fault="dicom-unreadable")


def read_dicom(path: Path) -> NDArray[np.uint8]:
    """Read a file as ``(H, W)`` uint8, bone bright: rescaled, windowed, and MONOCHROME1 inverted.

    The first window counts where it is linear; else levels of more than 8 bits run from their own 0.1st percentile
    to their 99.9th, and those of 8 bits stay as they are.

    Raises:
        CohortError: It holds no single grey image that can be decoded.
    """
    header = read_header(path)
    if header.fault:
        raise CohortError(f"{path.name} cannot be taken as a radiograph: {header.fault} (docs/data.md)")
    try:
        with _quietly():
            dataset = dcmread(path)
            pixels = _eight_bits(dataset)
    except Exception as error:  # as above
        raise CohortError(f"the pixels of {path.name} cannot be decoded ({type(error).__name__})") from error
    return 255 - pixels if dataset.PhotometricInterpretation == "MONOCHROME1" else pixels


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every oddity, values included
        yield


def _has_codec(syntax: object) -> bool:
    if not isinstance(syntax, UID) or syntax == DeflatedExplicitVRLittleEndian:
        return False
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _header(dataset: Dataset) -> Header:
    spacing = next((dataset[tag].value for tag in _SPACINGS if dataset.get(tag)), None)
    spacing_mm = read_spacing(spacing)
    annotated = str(dataset.get("BurnedInAnnotation", "")).upper()
    side = str(dataset.get("ImageLaterality") or dataset.get("Laterality") or "").upper()
    return Header(
        fault=_fault(dataset),
        shape=(int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0))),
        identity=tuple(sorted(_identity(dataset))),
        is_annotated={"YES": True, "NO": False}.get(annotated),
        rule="window" if _window(dataset) else "percentiles" if _is_deep(dataset) else "as they are",
        spacing_mm=spacing_mm,
        is_spacing_malformed=spacing is not None and spacing_mm is None,
        patient=str(dataset.get("PatientID", "")).strip(),
        exam=str(dataset.get("StudyInstanceUID", "")).strip(),
        side="L" if side == "L" else "R" if side == "R" else "",
    )


_SPACINGS = ("ImagerPixelSpacing", "PixelSpacing")


def _fault(dataset: Dataset) -> str:
    if "PixelData" not in dataset:
        return "dicom-without-image"
    if not all(dataset.get(tag) for tag in ("Rows", "Columns", "BitsAllocated")):
        return "dicom-unreadable"
    is_grey = dataset.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    if not is_grey or dataset.get("SamplesPerPixel") != 1:
        return "image-coloured"
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        return "image-multi-frame"
    if dataset.BitsAllocated not in (8, 16):
        return "image-depth"
    return "image-too-large" if dataset.Rows * dataset.Columns > MAX_PIXELS else ""


def _identity(dataset: Dataset) -> set[str]:
    return {
        "private tags" if element.tag.is_private else element.keyword
        for element in dataset.iterall()
        if (element.tag.is_private or element.VR in ("PN", "DA", "DT") or element.keyword in _IDENTITY)
        and str(element.value or "").strip()
    }


def _is_deep(dataset: Dataset) -> bool:
    return int(dataset.get("BitsStored") or dataset.get("BitsAllocated") or 0) > 8


def _window(dataset: Dataset) -> tuple[float, float] | None:
    """First linear window as (black, white); PS3.3 C.11.2.1.2 and C.11.2.1.3.2."""
    center, width = (_first(dataset.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if center is None or width is None or not np.isfinite([center, width]).all():
        return None
    if function == "LINEAR" and width >= 1:
        return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    return (center - width / 2, center + width / 2) if function == "LINEAR_EXACT" and width > 0 else None


def _first(value: object) -> float | None:
    if value is None or isinstance(value, str):
        return None
    return float(value[0]) if hasattr(value, "__getitem__") else float(value)  # type: ignore[arg-type]


def _eight_bits(dataset: Dataset) -> NDArray[np.uint8]:
    stored = dataset.pixel_array
    levels, window = apply_modality_lut(stored, dataset), _window(dataset)
    if not np.isfinite(levels).all():
        raise ValueError("the rescaling gives levels that are no numbers")
    if window is not None:
        return to_eight_bits(levels, *window)
    return stretch(levels) if _is_deep(dataset) else np.asarray(stored, np.uint8)
