import csv
import re
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest
from dicom_files import write

from ramw_fed.data.checks import check_cohort
from ramw_fed.data.conversion import import_folder
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import CohortError

SECRETS = ("SMITH", "4711", "0815", "19480312", "Jones")


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, (32, 24)).astype(np.uint16)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Two patients as a PACS has them: one with two exams, the first of both hands."""
    folder = tmp_path / "export"
    (folder / "SMITH_JOHN" / "S1").mkdir(parents=True)
    smith = {"PatientName": "SMITH^JOHN", "PatientID": "4711", "PatientBirthDate": "19480312", "BitsStored": 12,
             "ImagerPixelSpacing": [0.15, 0.16]}  # fmt: skip
    for name, seed, side, exam in (("IM1", 1, "L", "1.2.1"), ("IM2", 2, "R", "1.2.1"), ("IM3", 3, "R", "1.2.2")):
        path = folder / "SMITH_JOHN" / "S1" / name
        write(path, pixels(seed), **smith, ImageLaterality=side, StudyInstanceUID=exam)
    write(folder / "x.dcm", pixels(4), PatientID="0815", PatientName="Jones", Laterality="L", StudyInstanceUID="1.2.3")
    write(folder / "DICOMDIR", pixels(5), PixelData=None)
    (folder / "readme.txt").write_text("SMITH")
    (folder / ".hidden").write_text("SMITH")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_an_export_becomes_a_cohort_that_the_reader_takes(export: Path, tmp_path: Path) -> None:
    done = import_folder(export, tmp_path / "out", center="Clinic 1")
    assert (done.num_patients, done.num_images, done.num_unsided, done.num_unspaced) == (2, 4, 0, 1)
    assert done.not_images == (".hidden", "DICOMDIR", "readme.txt")
    cohort = read_cohort(tmp_path / "out")
    assert cohort.centers == ("Clinic 1",)
    assert all(re.fullmatch(r"images/clinic1-000[12]_0[12]_0[123]", one.name) for one in cohort.radiographs)
    by_patient: dict[str, list[tuple[str, str, object]]] = {}
    for one in cohort.radiographs:
        by_patient.setdefault(one.patient, []).append((one.exam, one.side, one.spacing_mm))
    jones, smith = sorted(by_patient.values(), key=len)
    assert [(side, spacing) for _, side, spacing in jones] == [("L", None)]
    assert sorted(side for _, side, _ in smith) == ["L", "R", "R"]
    exams = [exam for exam, _, _ in smith]
    assert sorted(exams.count(exam) for exam in set(exams)) == [1, 2]
    assert {spacing for _, _, spacing in smith} == {(0.15, 0.16)}
    codes = {finding.code for finding in check_cohort(tmp_path / "out")}
    assert codes == {"image-without-label", "label-missing-at-center"}  # and no total of RAM-W600 is held against it


def test_no_identity_comes_along(export: Path, tmp_path: Path) -> None:
    import_folder(export, tmp_path / "out", center="Clinic 1")
    for path in sorted((tmp_path / "out").rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        for secret in (*SECRETS, "1.2.1", "IM1"):
            assert secret not in str(path.relative_to(tmp_path))
            assert secret.encode() not in content


def test_the_same_export_gives_the_same_bytes(export: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        import_folder(export, tmp_path / name, center="Clinic 1")
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append([(path.relative_to(tmp_path / name), path.read_bytes()) for path in files])
    assert contents[0] == contents[1]


def test_the_mapping_leads_back_and_is_its_owners_alone(export: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.csv"
    import_folder(export, tmp_path / "out", center="Clinic 1", mapping=mapping)
    assert stat.S_IMODE(mapping.stat().st_mode) == 0o600
    rows = {row["file"]: row for row in table(mapping)}
    assert rows["x.dcm"]["patient"] == "0815"
    named = {row["image"] for row in rows.values()}
    assert named == {Path(row["image"]).stem for row in table(tmp_path / "out" / "manifest.csv")}
    for place in (mapping, tmp_path / "gone" / "m.csv", tmp_path / "other" / "m.csv"):
        with pytest.raises(CohortError, match="mapping"):
            import_folder(export, tmp_path / "other", center="Clinic 1", mapping=place)
    assert not (tmp_path / "other").exists()
    (tmp_path / "other").mkdir()
    with pytest.raises(CohortError, match="mapping"):
        import_folder(export, tmp_path / "other", center="Clinic 1", mapping=tmp_path / "other" / "m.csv")


def test_other_images_belong_to_the_patient_of_their_first_folder(tmp_path: Path) -> None:
    for name, seed in (("a/1_L.png", 1), ("a/late/2_R.tif", 2), ("b/3.bmp", 3)):
        path = tmp_path / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), (pixels(seed) // 16).astype(np.uint8))
    done = import_folder(tmp_path / "export", tmp_path / "out", center="C")
    assert (done.num_patients, done.num_images, done.num_unsided, done.num_unspaced) == (2, 3, 1, 3)
    assert sorted(row["side"] for row in table(tmp_path / "out" / "manifest.csv")) == ["", "L", "R"]
    with pytest.raises(CohortError, match="side-malformed"):
        read_cohort(tmp_path / "out")


def test_all_faults_are_told_at_once_and_nothing_is_written(export: Path, tmp_path: Path) -> None:
    write(export / "a.dcm", pixels(6), PatientID="0815", BurnedInAnnotation="YES")
    write(export / "b.dcm", pixels(7), PatientID="0815", BurnedInAnnotation=None)
    write(export / "c.dcm", pixels(8), PatientID="0815", NumberOfFrames=2)
    write(export / "d.dcm", pixels(9))
    (export / "e.png").write_bytes(b"no image")
    (export / "link").symlink_to(tmp_path)
    with pytest.raises(CohortError) as refusal:
        import_folder(export, tmp_path / "out", center="Clinic 1")
    text = str(refusal.value)
    for code in ("link-leaves-folder", "image-multi-frame", "image-not-an-image", "patient-unknown"):
        assert code in text
    assert "(YES): a.dcm" in text
    assert "(no such tag): b.dcm" in text
    assert not any(secret in text for secret in SECRETS)
    assert not (tmp_path / "out").exists()


def test_who_has_looked_may_say_so_but_not_against_the_file(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    write(tmp_path / "export" / "a.dcm", pixels(1), PatientID="1", BurnedInAnnotation=None)
    with pytest.raises(CohortError, match="dicom-annotation"):
        import_folder(tmp_path / "export", tmp_path / "out", center="C")
    assert import_folder(tmp_path / "export", tmp_path / "out", center="C", is_inspected=True).num_images == 1
    write(tmp_path / "export" / "a.dcm", pixels(1), PatientID="1", BurnedInAnnotation="YES")
    with pytest.raises(CohortError, match="dicom-annotation"):
        import_folder(tmp_path / "export", tmp_path / "other", center="C", is_inspected=True)


@pytest.mark.parametrize(
    ("center", "match"), [("", "center's name"), ("??", "center's name"), ("C", "not an empty folder")]
)
def test_a_name_or_a_folder_that_will_not_do_is_refused(export: Path, center: str, match: str) -> None:
    with pytest.raises(CohortError, match=match):
        import_folder(export, export if center == "C" else export.parent / "out", center=center)


def test_a_folder_without_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "readme.txt").write_text("nothing here")
    for folder, code in ((tmp_path / "export", "radiograph-missing"), (tmp_path / "gone", "folder-missing")):
        with pytest.raises(CohortError, match=code):
            import_folder(folder, tmp_path / "out", center="C")
