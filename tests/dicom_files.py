"""DICOM files as a PACS might export them, drawn here."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid


def dataset(pixels: np.ndarray, **tags: Any) -> FileDataset:
    """A clean grey image; ``tags`` by keyword replace or add what it says, None takes a tag away."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["instance"])
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    bits = 8 * pixels.dtype.itemsize
    made.Rows, made.Columns = pixels.shape[:2]
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation, made.SamplesPerPixel = int(pixels.dtype.kind == "i"), 1
    made.PhotometricInterpretation, made.BurnedInAnnotation = "MONOCHROME2", "NO"
    made.PixelData = pixels.tobytes()
    for keyword, value in tags.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def write(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """Write what ``dataset`` returns."""
    dataset(pixels, **tags).save_as(path, enforce_file_format=True)
    return path
