"""The rules of docs/data.md, one by one; all numbers by hand."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import dataset, write
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless

from ramw_fed.data.dicom import is_dicom, read_dicom, read_header
from ramw_fed.data.inspection import inspect
from ramw_fed.data.radiograph import read_grey
from ramw_fed.errors import CohortError

GRADIENT = (np.arange(64 * 48).reshape(64, 48) // 16).astype(np.uint8)
LEVELS = np.array([[0, 100, 200], [300, 400, 500]], np.uint16)


def test_eight_bits_without_a_window_stay_as_they_are(tmp_path: Path) -> None:
    levels = np.array([[3, 7], [9, 200]], np.uint8)
    assert read_grey(write(tmp_path / "a.dcm", levels)).tolist() == levels.tolist()


def test_a_linear_window_runs_from_half_a_level_below_its_left_end(tmp_path: Path) -> None:
    # PS3.3 C.11.2.1.2.1: black 200.5 - 0.5 - 200/2 = 100, white 300
    path = write(tmp_path / "a.dcm", LEVELS, WindowCenter="200.5", WindowWidth="201")
    assert read_dicom(path).tolist() == [[0, 0, 128], [255, 255, 255]]


def test_an_exact_window_runs_over_its_width_and_the_first_of_several_counts(tmp_path: Path) -> None:
    tags = {"WindowCenter": [200, 9], "WindowWidth": [200, 9], "VOILUTFunction": "LINEAR_EXACT"}
    assert read_dicom(write(tmp_path / "a.dcm", LEVELS, **tags)).tolist() == [[0, 0, 128], [255, 255, 255]]


def test_a_window_is_meant_after_the_rescaling(tmp_path: Path) -> None:
    # 2 x - 200: -200, 0, 200, 400, 600, 800 in a window from 0 to 800: 200 is 63.75, 400 is 127.5, 600 is 191.25
    tags = {"RescaleSlope": 2, "RescaleIntercept": -200, "WindowCenter": 400, "WindowWidth": 800}
    path = write(tmp_path / "a.dcm", LEVELS, VOILUTFunction="LINEAR_EXACT", **tags)
    assert read_dicom(path).tolist() == [[0, 0, 64], [128, 191, 255]]


@pytest.mark.parametrize(
    "tags",
    [{}, {"WindowCenter": 200, "WindowWidth": 0}, {"WindowCenter": 200, "WindowWidth": 9, "VOILUTFunction": "SIGMOID"}],
)
def test_without_a_linear_window_the_percentiles_count(tmp_path: Path, tags: dict[str, Any]) -> None:
    # of 6 levels the 0.1st percentile is 0.5, the 99.9th 499.5: 100 is 50.85, 200 is 101.95
    path = write(tmp_path / "a.dcm", LEVELS, **tags)
    assert read_dicom(path).tolist() == [[0, 51, 102], [153, 204, 255]]
    assert ("image-converted", "DICOM, percentiles") in inspect(path).also


def test_monochrome1_is_inverted_so_that_bone_is_bright(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", LEVELS, PhotometricInterpretation="MONOCHROME1")
    assert read_dicom(path).tolist() == [[255, 204, 153], [102, 51, 0]]


def test_signed_levels_are_read_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", np.array([[-100, 0, 100]], np.int16), WindowCenter=0, WindowWidth=201)
    assert read_dicom(path).tolist() == [[1, 128, 255]]  # black -100.5, white 99.5: 0.6, 128.1, 255


def test_a_compressed_file_with_a_codec_is_read(tmp_path: Path) -> None:
    made = dataset(LEVELS.repeat(16, 0).repeat(16, 1), WindowCenter="200.5", WindowWidth="201")
    made.compress(RLELossless)
    made.save_as(tmp_path / "a.dcm")
    assert read_dicom(tmp_path / "a.dcm")[::16, ::16].tolist() == [[0, 0, 128], [255, 255, 255]]


def encapsulated(path: Path, syntax: str, frame: bytes) -> Path:
    made = dataset(GRADIENT)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([frame])
    made["PixelData"].is_undefined_length = True
    made.save_as(path)
    return path


def encoded(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def test_jpeg_and_jpeg_2000_have_a_codec(tmp_path: Path) -> None:
    baseline = encoded(GRADIENT, "JPEG", quality=98)
    assert (
        abs(read_dicom(encapsulated(tmp_path / "a.dcm", JPEGBaseline8Bit, baseline)) - GRADIENT.astype(int)).max() < 3
    )
    lossless = encoded(GRADIENT, "JPEG2000", no_jp2=True)
    assert (read_dicom(encapsulated(tmp_path / "b.dcm", JPEG2000Lossless, lossless)) == GRADIENT).all()


def test_an_image_of_another_size_than_the_file_says_is_refused(tmp_path: Path) -> None:
    larger = encoded(np.zeros((640, 480), np.uint8), "JPEG")
    assert inspect(encapsulated(tmp_path / "a.dcm", JPEGBaseline8Bit, larger)).fault == "dicom-undecodable"


def test_the_spacing_at_the_detector_goes_before_the_other(tmp_path: Path) -> None:
    both = write(tmp_path / "a.dcm", LEVELS, ImagerPixelSpacing=[0.15, 0.16], PixelSpacing=[0.1, 0.1])
    one = write(tmp_path / "b.dcm", LEVELS, PixelSpacing=[0.1, 0.2])
    none, bad = write(tmp_path / "c.dcm", LEVELS), write(tmp_path / "d.dcm", LEVELS, PixelSpacing=[0, 0])
    found = [inspect(path).spacing_mm for path in (both, one, none, bad)]
    assert found == [(0.15, 0.16), (0.1, 0.2), None, None]
    assert ("spacing-malformed", "") in inspect(bad).also
    assert ("spacing-malformed", "") not in inspect(none).also


def deflated(path: Path) -> None:
    made = dataset(LEVELS)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(path)


@pytest.mark.parametrize(
    ("code", "plant"),
    [
        ("dicom-unreadable", lambda p: p.write_bytes(b"this is no DICOM")),
        ("dicom-without-image", lambda p: write(p, LEVELS, PixelData=None)),
        ("dicom-unreadable", lambda p: write(p, LEVELS, Rows=None)),
        ("dicom-undecodable", lambda p: encapsulated(p, JPEGLosslessSV1, b"\xff\xd8 no codec \xff\xd9")),
        ("dicom-undecodable", deflated),
        ("image-coloured", lambda p: write(p, LEVELS, PhotometricInterpretation="RGB")),
        ("image-coloured", lambda p: write(p, LEVELS, SamplesPerPixel=3)),
        ("image-coloured", lambda p: write(p, LEVELS, PhotometricInterpretation="PALETTE COLOR")),
        ("image-multi-frame", lambda p: write(p, LEVELS, NumberOfFrames=2)),
        ("image-depth", lambda p: write(p, LEVELS.astype(np.uint32))),
        ("image-too-large", lambda p: write(p, LEVELS, Rows=60_000, Columns=60_000)),
        ("dicom-undecodable", lambda p: write(p, LEVELS, PixelData=LEVELS.tobytes()[:-4])),
        ("dicom-undecodable", lambda p: write(p, LEVELS, RescaleSlope="1e308", RescaleIntercept="0")),
        ("file-empty", lambda p: p.write_bytes(b"")),
    ],
)
def test_what_is_no_single_grey_image_is_refused_with_its_code(tmp_path: Path, code: str, plant: Any) -> None:
    plant(tmp_path / "a.dcm")
    assert inspect(tmp_path / "a.dcm").fault == code
    with pytest.raises(CohortError, match=r"a\.dcm"):
        read_grey(tmp_path / "a.dcm")


def nested_name() -> Any:
    item = Dataset()
    item.RequestingPhysician = "Doe^Jane"
    return [item]


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("PatientName", "Doe^John"),
        ("PatientBirthDate", "19480312"),
        ("StudyDate", "20200101"),
        ("AcquisitionDateTime", "20200101120000"),
        ("DeviceSerialNumber", "4711"),
        ("OtherPatientIDs", "4711"),
        ("AccessionNumber", "4711"),
    ],
)
def test_tags_that_tell_who_it_is_are_named_and_their_values_are_not(tmp_path: Path, tag: str, value: str) -> None:
    facts = inspect(write(tmp_path / "a.dcm", LEVELS, **{tag: value}))
    assert ("dicom-identity", tag) in facts.also
    assert value not in repr(facts)


def test_names_in_sequences_and_private_tags_are_found_and_empty_tags_are_allowed(tmp_path: Path) -> None:
    made = dataset(LEVELS, PatientName="", StudyDate="", RequestAttributesSequence=nested_name())
    made.private_block(0x0009, "ACME", create=True).add_new(0x01, "LO", "Doe")
    made.save_as(tmp_path / "a.dcm")
    assert read_header(tmp_path / "a.dcm").identity == ("RequestingPhysician", "private tags")
    assert read_header(write(tmp_path / "b.dcm", LEVELS, PatientName="")).identity == ()


@pytest.mark.parametrize(("value", "detail"), [("YES", "YES"), (None, "no such tag"), ("", "no such tag")])
def test_text_in_the_pixels_is_refused_unless_the_file_denies_it(
    tmp_path: Path, value: str | None, detail: str
) -> None:
    also = inspect(write(tmp_path / "a.dcm", LEVELS, BurnedInAnnotation=value)).also
    assert ("dicom-annotation", detail) in also
    assert "dicom-annotation" not in dict(inspect(write(tmp_path / "b.dcm", LEVELS)).also)


def test_an_exported_file_without_an_extension_is_known_by_its_content(tmp_path: Path) -> None:
    assert is_dicom(write(tmp_path / "IM0001", LEVELS))
    (tmp_path / "notes").write_text("x" * 200)
    assert not is_dicom(tmp_path / "notes")
    assert not is_dicom(tmp_path / "nothing")


def test_files_with_any_bytes_changed_are_told_about_and_never_raise(tmp_path: Path) -> None:
    tags = {"WindowCenter": 200, "WindowWidth": 300, "RescaleSlope": 2, "RescaleIntercept": -3, "PatientName": "Doe"}
    whole = write(tmp_path / "a.dcm", LEVELS, RequestAttributesSequence=nested_name(), **tags).read_bytes()
    rng = np.random.default_rng(0)
    faults = set()
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(100, len(content), 3):
            content[place] = rng.integers(0, 256)
        (tmp_path / "a.dcm").write_bytes(content[: rng.integers(1, 2 * len(content))])
        faults.add(inspect(tmp_path / "a.dcm").fault)
    assert {"", "dicom-unreadable", "dicom-without-image"} <= faults
