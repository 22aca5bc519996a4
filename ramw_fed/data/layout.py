"""Names and places in the tree of RAM-W600 (Yang et al., NeurIPS 2025, https://arxiv.org/abs/2507.05193).

Inside the package bones and joints carry their anatomical names. The published spellings, which the files
carry, stand here beside every alias that a reader accepts; letter case, blanks and signs do not count.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from ramw_fed.data.cohort import Description
from ramw_fed.data.dicom import SUFFIXES
from ramw_fed.data.joint_spaces import usual_joint_spaces

METADATA = "Metadata.xlsx"
MANIFEST = "manifest.csv"
DESCRIPTION = "cohort.toml"
BONE_IMAGES = "BoneSegmentation/images"
BONE_MASKS = "BoneSegmentation/masks"
JOINT_IMAGES = "JointLocationDetection/images"
JOINT_BOXES = "JointLocationDetection/Joints.coco.json"
JOINT_CROPS = "SvdHBEScoreClassification"
JOINT_SCORES = "SvdHBEScoreClassification/JointBE_SvdH_GT.json"
# Privacy ledgers of a simulation, which are no data: they change neither the cohort's hash nor what is found in it.
LEDGERS = "privacy"
LEDGER_FILE = re.compile(r"lock|[0-9a-f]{16}\.(jsonl|head)(\.part)?")
JOINT_SCORES_ORIGINAL = "SvdHBEScoreClassification/JointBE_SvdH_GT_Ori.json"

IMAGE_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".bmp": "BMP",
        ".png": "PNG",
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".tif": "TIFF",
        ".tiff": "TIFF",
        **dict.fromkeys(SUFFIXES, "DICOM"),
    }
)

STEM = re.compile(r"(?P<patient>\d+)_(?P<exam>\d+)_(?P<side>[LR])")

BONES = (
    "Capitate",
    "DistalRadius",
    "DistalUlna",
    "Hamate",
    "Lunate",
    "Pisiform&Triquetrum",
    "Scaphoid",
    "Trapezium",
    "Trapezoid",
    "Metacarpal1st",
    "Metacarpal2nd",
    "Metacarpal3rd",
    "Metacarpal4th",
    "Metacarpal5th",
)
JOINTS = ("Metacarpal1st", "Trapezium", "Scaphoid", "Lunate", "DistalRadius", "DistalUlna")
CENTERS = ("HMCRD", "SCGH", "HU", "DHA", "BTXRD", "FA")

# Pairs of mask channels that the published benchmark scores.
_OVERLAPS = (
    (1, 6), (1, 4), (6, 7), (0, 6), (7, 9), (0, 11), (3, 12),
    (4, 6), (7, 8), (0, 8), (3, 13), (7, 10), (8, 10), (10, 11),
)  # fmt: skip

PUBLISHED_SPELLING: Mapping[str, str] = MappingProxyType(
    {"Trapezium": "Trapzium", "Trapezoid": "Trapzoid", "Pisiform&Triquetrum": "Pisifrom&Triquetrum"}
)

_JOINT_ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Metacarpal1st": ("Metacarpal1st", "1st MC", "1st Metacarpal", "Metacarpal1", "MC1"),
        "Trapezium": ("Trapezium", "Trapzium", "Trapz"),
        "Scaphoid": ("Scaphoid", "Sc"),
        "Lunate": ("Lunate", "Lu"),
        "DistalRadius": ("DistalRadius", "Radius", "DR"),
        "DistalUlna": ("DistalUlna", "Ulna", "DU"),
    }
)
_BONE_ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Trapezium": ("Trapezium", "Trapzium"),
        "Trapezoid": ("Trapezoid", "Trapzoid"),
        "Pisiform&Triquetrum": ("Pisiform&Triquetrum", "Pisifrom&Triquetrum", "Triquetrum&Pisiform"),
    }
)

RAMW600 = Description(
    kind="real",
    bones=BONES,
    joints=JOINTS,
    overlap_pairs=tuple((BONES[first], BONES[second]) for first, second in _OVERLAPS),
    joint_spaces=usual_joint_spaces(BONES),
)


def plain(name: str) -> str:
    """Reduce a name to its small letters and digits, which is how names are compared.

    >>> plain("1st MC_L"), plain("[Rows, Columns]")
    ('1stmcl', 'rowscolumns')
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def published(name: str) -> str:
    """Return a bone or joint as the published files spell it.

    >>> published("Trapezium"), published("Lunate")
    ('Trapzium', 'Lunate')
    """
    return PUBLISHED_SPELLING.get(name, name)


@lru_cache
def known_joint(name: str, joints: tuple[str, ...]) -> str | None:
    """Return which of ``joints`` is meant by ``name``, or None.

    >>> known_joint("Trapzium", JOINTS), known_joint("1st MC", JOINTS), known_joint("Hip", JOINTS)
    ('Trapezium', 'Metacarpal1st', None)
    """
    return _known(name, joints, _JOINT_ALIASES)


def known_bone(name: str, bones: tuple[str, ...]) -> str | None:
    """Return which of ``bones`` is meant by ``name``, or None."""
    return _known(name, bones, _BONE_ALIASES)


def _known(name: str, names: tuple[str, ...], aliases: Mapping[str, tuple[str, ...]]) -> str | None:
    for candidate in names:
        if plain(name) in {plain(alias) for alias in aliases.get(candidate, (candidate,))}:
            return candidate
    return None
