"""A cohort: radiographs, and what they are radiographs of."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ramw_fed.config import POOLED
from ramw_fed.data.joint_spaces import usual_joint_spaces
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.errors import CohortError, ConfigError


@dataclass(frozen=True, kw_only=True)
class Description:
    """What ``cohort.toml`` says of a cohort: bones, joints and grades come from here and never from code.

    Attributes:
        kind: ``"phantom"`` for synthetic images, ``"real"`` for patients'.
        bones: Names of the mask channels, in order.
        joints: Names of the scored joints, in order.
        max_grade: Largest erosion grade; grades run from 0.
        mirrored_sides: Sides that are mirrored on reading, so that all wrists look alike.
        overlap_pairs: Pairs of bones whose region of overlap is scored apart.
        joint_spaces: Pairs of bones between which the width of the joint is measured.
        center_names: Name in the files to name of the center (an override table); names not in it stay.
    """

    kind: Literal["phantom", "real"]
    bones: tuple[str, ...]
    joints: tuple[str, ...]
    max_grade: int = 5
    mirrored_sides: tuple[str, ...] = ("L",)
    overlap_pairs: tuple[tuple[str, str], ...] = ()
    joint_spaces: tuple[tuple[str, str], ...] = ()
    center_names: Mapping[str, str] = field(default_factory=dict)

    def overlap_indices(self) -> tuple[tuple[int, int], ...]:
        """Return the overlap pairs as indices into ``bones``."""
        return self._indices(self.overlap_pairs)

    def joint_space_indices(self) -> tuple[tuple[int, int], ...]:
        """Return the pairs of the joint spaces as indices into ``bones``."""
        return self._indices(self.joint_spaces)

    def _indices(self, pairs: Iterable[tuple[str, str]]) -> tuple[tuple[int, int], ...]:
        return tuple((self.bones.index(first), self.bones.index(second)) for first, second in pairs)

    def to_dict(self) -> dict[str, Any]:
        """Return it as TOML and JSON hold it, without the center names: it travels with weights to other centers.

        Joint spaces are left out where they are the usual ones of these bones.
        """
        joint_spaces = [list(pair) for pair in self.joint_spaces]
        is_usual = self.joint_spaces == usual_joint_spaces(self.bones)
        return {
            "kind": self.kind,
            "bones": list(self.bones),
            "joints": list(self.joints),
            "max_grade": self.max_grade,
            "mirrored_sides": list(self.mirrored_sides),
            "overlap_pairs": [list(pair) for pair in self.overlap_pairs],
            **({} if is_usual else {"joint_spaces": joint_spaces}),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Description":
        """Read back what ``to_dict`` wrote."""
        return cls(
            kind=raw["kind"],
            bones=tuple(raw["bones"]),
            joints=tuple(raw["joints"]),
            max_grade=int(raw["max_grade"]),
            mirrored_sides=tuple(raw["mirrored_sides"]),
            overlap_pairs=tuple((first, second) for first, second in raw["overlap_pairs"]),
            joint_spaces=tuple(
                (first, second) for first, second in raw.get("joint_spaces", usual_joint_spaces(raw["bones"]))
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Radiographs in the order of their names, with their description.

    Attributes:
        description: What the images show.
        radiographs: Sorted by name; names are unique.
        sha256: Hash of all that was read (hex); names the cohort in manifests and caches.
        left_out: Name of each radiograph that the reader left out, to the reason; all else was kept.
    """

    description: Description
    radiographs: tuple[Radiograph, ...]
    sha256: str
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that names are sorted and unique."""
        names = [radiograph.name for radiograph in self.radiographs]
        if names != sorted(set(names)):
            raise CohortError("a cohort's radiographs must be sorted by name and their names unique")

    @property
    def left_out_counts(self) -> dict[str, int]:
        """How many radiographs were left out, by reason."""
        return dict(sorted(Counter(self.left_out.values()).items()))

    @property
    def centers(self) -> tuple[str, ...]:
        """Names of the centers that own a radiograph, sorted."""
        return tuple(sorted({radiograph.center for radiograph in self.radiographs}))

    def chosen_centers(self, names: Collection[str]) -> tuple[str, ...]:
        """Return these centers' names, sorted; all of the cohort where none is named.

        Raises:
            ConfigError: The cohort has no such center.
        """
        unknown = sorted(set(names) - set(self.centers))
        if unknown:
            raise ConfigError(f"centers names {', '.join(unknown)}; the cohort has {', '.join(self.centers)}")
        return tuple(sorted(names)) or self.centers

    def at(self, center: str) -> "Cohort":
        """Return the part that belongs to ``center``."""
        return self.keep(radiograph for radiograph in self.radiographs if radiograph.center == center)

    def pooled(self, centers: Sequence[str] = ()) -> "Cohort":
        """Return the radiographs of these centers, or of all, as those of one center called ``pooled``.

        Patients of two centers may bear one name: here each bears the center's before its own.

        Raises:
            ConfigError: The cohort has no such center.
        """
        chosen = self.chosen_centers(centers)
        return self.keep(
            replace(one, center=POOLED, patient=f"{one.center}/{one.patient}")
            for one in self.radiographs
            if one.center in chosen
        )

    def keep(self, radiographs: Iterable[Radiograph]) -> "Cohort":
        """Return a cohort of these radiographs under the same description and hash."""
        return replace(self, radiographs=tuple(sorted(radiographs, key=lambda radiograph: radiograph.name)))
