"""What is wrong, odd or worth knowing about a cohort's files: one table of all that can be said."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from rich.console import RenderableType

from ramw_fed.wording import counted

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")

# Code to level and sentence. An error stops the reader; a warning changes nothing but deserves a look.
SAYINGS: Mapping[str, tuple[Level, str]] = MappingProxyType(
    {
        # the folder
        "folder-missing": ("error", "no such folder; name the one that holds manifest.csv or Metadata.xlsx"),
        "folder-unreadable": ("error", "the folder or a file in it may not be read; change its permissions"),
        "link-leaves-folder": ("error", "a link leads out of the cohort's folder and is not followed; copy the file"),
        "radiograph-missing": ("error", "no radiograph was found; the tree that is expected is in docs/data.md"),
        "description-unreadable": ("error", "cohort.toml cannot be used"),
        "description-missing": ("error", "beside manifest.csv there is no cohort.toml to say what the images show"),
        "manifest-unreadable": (
            "error",
            "manifest.csv is no table: UTF-8, commas, a header of different titles, rows as long as the header",
        ),
        "manifest-column-missing": ("error", "manifest.csv lacks a column; those wanted are in docs/data.md"),
        "column-unknown": ("warning", "a column of manifest.csv is neither known nor named like a joint; left out"),
        "row-twice": ("error", "two rows of manifest.csv name the same image; the extension does not count"),
        "cell-missing": ("error", "a row of manifest.csv lacks what every image must have"),
        "side-malformed": ("error", "side is neither L nor R"),
        "split-malformed": ("error", "split is none of train, val and test, and not empty"),
        "path-leaves-folder": ("error", "a path is absolute or leads out of the folder; name files inside it"),
        "file-missing": ("error", "manifest.csv names a file that does not lie in the folder"),
        "metadata-missing": ("error", "there is neither manifest.csv nor Metadata.xlsx, so that no image has a center"),
        "metadata-unreadable": ("error", "Metadata.xlsx cannot be read as a workbook"),
        "metadata-column-missing": ("error", "Metadata.xlsx lacks a column; aliases are in docs/data.md"),
        "study-contradicted": ("error", "rows of Metadata.xlsx contradict each other about one study"),
        "center-missing": ("error", "no row of Metadata.xlsx names a center for the image"),
        # single files
        "name-malformed": ("error", "the name is not PPPP_SSSS_L or PPPP_SSSS_R (patient, study, side)"),
        "file-empty": ("error", "the file has no bytes; copy it again"),
        "file-too-large": ("error", "the file is larger than any radiograph or mask of this cohort can be"),
        "image-truncated": ("error", "the image breaks off before its end; copy it again"),
        "image-not-an-image": ("error", "the file is no image; copy it again or remove it"),
        "image-wrong-extension": ("error", "the file's content is another format than its name says; rename it"),
        "image-too-large": ("error", "the header promises more pixels than the limit; it is not decoded"),
        "image-coloured": ("error", "the image has colours; grey, or three equal channels, is wanted"),
        "image-depth": ("error", "the image's pixels are no whole numbers of 8 or 16 bits"),
        "image-multi-frame": ("error", "the file holds several images; one a file is wanted"),
        "image-twice": ("error", "one name has two image files of different formats; remove one"),
        "dicom-unreadable": ("error", "the file is no DICOM, or does not say how large its image is"),
        "dicom-without-image": ("error", "the DICOM file holds no image: a report, a folder's index, or other"),
        "dicom-undecodable": (
            "error",
            "the pixels of the DICOM file cannot be decoded here: another compression, or broken off; export it again,"
            " uncompressed or as JPEG 2000",
        ),
        "dicom-identity": (
            "error",
            "DICOM tags that may tell who the patient is have content: clear them, or use `ramw-fed cohort import`",
        ),
        "dicom-annotation": (
            "error",
            "BurnedInAnnotation is not NO: look whether the pixels show text; if none does, set it to NO,"
            " or where it is missing use `ramw-fed cohort import --inspected`",
        ),
        "patient-unknown": (
            "error",
            "nothing tells whose image it is: put the images of each patient into a folder of their own",
        ),
        "mask-unreadable": ("error", "the masks cannot be read as one array of bytes; copy the file again"),
        "mask-values": ("error", "the masks hold other values than 0 and 1, or 0 and 255"),
        "mask-shape": ("error", "the masks' shape is not (bones, height, width) of the image"),
        "mask-empty": ("error", "all masks of the image are empty"),
        "mask-without-image": ("error", "there are masks, but no image in BoneSegmentation/images"),
        "mask-in-two-splits": ("error", "the masks lie in more than one split"),
        "crop-in-two-splits": ("error", "the joint crops lie in more than one split"),
        "scores-unreadable": ("error", "JointBE_SvdH_GT.json is not the expected list of identifiers with joints"),
        "score-malformed": ("error", "a score is no whole number from 0 to the largest grade, or has no joint"),
        "score-twice": ("error", "one identifier has two entries of scores"),
        "boxes-unreadable": ("error", "Joints.coco.json is not in COCO's form"),
        # the cohort
        "patient-in-two-splits": (
            "error",
            'images of one patient lie in different splits of one task: use split = "grouped"',
        ),
        "patient-at-two-centers": ("warning", "images of one patient belong to different centers"),
        "patient-number-differs": ("warning", "NormalizedPatientID is not the patient in the name; the name counts"),
        "patient-splits-differ": (
            "note",
            "a patient is in train for one task and in val or test for the other: no model may serve both",
        ),
        "center-of-one-patient": ("warning", "a center has one patient only and cannot join a federation"),
        "center-name-unused": ("warning", "cohort.toml renames a center that no table names"),
        "center-names-alike": ("warning", "centers' names differ only in case, blanks or signs: one center or two?"),
        "image-duplicated": (
            "warning",
            "one image under several names (mirrored counts); grouped splits hold it together",
        ),
        "image-copies-differ": ("warning", "the two copies of an image, for bones and for joints, are not alike"),
        "image-blank": ("warning", "all pixels of the image are equal"),
        "score-without-image": ("warning", "there are scores, but neither image nor crops; left out"),
        "score-without-crop": ("warning", "a scored joint has no crop, and no box to cut it out by"),
        "crop-without-score": ("warning", "there are joint crops, but no scores"),
        "joint-unknown": ("warning", "a joint's name is in no alias table; left out"),
        "box-malformed": ("warning", "a joint's box is malformed, outside the image, or belongs to no image"),
        "score-differs": ("warning", "Metadata.xlsx and JointBE_SvdH_GT.json disagree about a score"),
        "spacing-malformed": ("warning", "a pixel spacing cannot be read and counts as unknown"),
        "total-differs": ("warning", "a total is not the published one: part of the data, or another version?"),
        "image-converted": ("note", "the image's levels were brought to 8 bits, by the rule in docs/data.md"),
        "label-without-split": ("note", "there are labels, but no official split for them"),
        "image-without-label": ("note", "the image has neither masks nor scores"),
        "study-without-image": ("note", "a row of Metadata.xlsx has no image"),
        "bone-absent": ("note", "at least one bone is absent from the masks, as where it lies outside the image"),
        "score-partial": ("note", "not all joints of the wrist are scored"),
        "score-without-arthritis": ("note", "a patient without rheumatoid arthritis has an erosion"),
        "score-original-differs": ("note", "JointBE_SvdH_GT_Ori.json holds other scores; they are not used"),
        "one-class-only": ("note", "only one class in this split: AUROC cannot be estimated there"),
        "label-missing-at-center": ("note", "a center has no labels for a task and takes no part in it"),
        "file-unknown": ("note", "a file that the reader has no use for"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to say, with all places where it holds.

    Attributes:
        code: Key of ``SAYINGS``.
        detail: What was found, where the sentence alone does not say it.
        places: Files relative to the cohort's folder, or centers.
        radiographs: Names of the radiographs that would have to be left out to heal it; empty if that would not.
    """

    code: str
    detail: str = ""
    places: tuple[str, ...] = ()
    radiographs: frozenset[str] = frozenset()

    @property
    def level(self) -> Level:
        """Return how serious it is."""
        return SAYINGS[self.code][0]

    @property
    def text(self) -> str:
        """Return one sentence for a person."""
        sentence = SAYINGS[self.code][1]
        return f"{sentence} ({self.detail})" if self.detail else sentence

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "level": self.level,
            "code": self.code,
            "text": self.text,
            "count": max(len(self.places), 1),
            "places": list(self.places),
        }


@dataclass
class Collector:
    """Gathers findings; those with equal code and detail become one."""

    _places: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _radiographs: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def add(self, code: str, place: str = "", *, detail: str = "", radiograph: str = "") -> None:
        """Note that ``code`` holds at ``place``."""
        assert code in SAYINGS, code
        key = (code, detail)
        self._places.setdefault(key, set()).update({place} - {""})
        self._radiographs.setdefault(key, set()).update({radiograph} - {""})

    def findings(self) -> tuple[Finding, ...]:
        """Return all findings, the serious ones first."""
        order = {code: number for number, code in enumerate(SAYINGS)}
        keys = sorted(self._places, key=lambda key: (LEVELS.index(SAYINGS[key[0]][0]), order[key[0]], key[1]))
        return tuple(
            Finding(
                code=code,
                detail=detail,
                places=tuple(sorted(self._places[code, detail])),
                radiographs=frozenset(self._radiographs[code, detail]),
            )
            for code, detail in keys
        )


def summary(findings: Iterable[Finding], num_places: int = 3, num_findings: int = 12) -> str:
    """Return findings as lines for an error's text: the first places of each, and how many more there are."""
    findings = tuple(findings)
    lines = [f"{f.code}: {f.text}{_few(f.places, num_places)}" for f in findings[:num_findings]]
    if len(findings) > num_findings:
        lines.append(f"and {counted(len(findings) - num_findings, 'more kind')} of fault")
    return "\n".join(f"  {line}" for line in lines)


def _few(places: tuple[str, ...], number: int) -> str:
    if not places:
        return ""
    more = f" and {len(places) - number} more" if len(places) > number else ""
    return f": {', '.join(places[:number])}{more}"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that a check has to say; a center's own reading matter, not meant to leave it.

    Attributes:
        items: Serious ones first.
        counts: Nested tables of numbers, by center; see ``checks.py``.
        sha256: Hash of the files' contents; empty where nothing could be read.
    """

    items: tuple[Finding, ...]
    counts: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def at(self, level: Level) -> tuple[Finding, ...]:
        """Return the findings of one level."""
        return tuple(finding for finding in self.items if finding.level == level)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.items)

    @property
    def is_usable(self) -> bool:
        """Whether the reader would take the folder: no error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Return what stops the reader."""
        return self.at("error")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        findings = [finding.to_dict() for finding in self.items]
        return {"sha256": self.sha256, "counts": dict(self.counts), "findings": findings}

    def to_json(self) -> str:
        """Return everything as JSON, the same bytes for the same folder."""
        return json.dumps(self.to_dict(), indent=1) + "\n"

    def text(self) -> list[RenderableType]:
        """Return tables and lines for a person, to be printed one after the other."""
        from ramw_fed.data.findings_table import renderables

        return renderables(self)
