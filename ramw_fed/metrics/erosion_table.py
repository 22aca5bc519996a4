"""Scored joints of any centers as columns of names and numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.rows import Values, Whole


@dataclass(frozen=True, kw_only=True)
class ErosionTable:
    """N scored joints, in any order; patients of two centers may bear one name.

    Attributes:
        centers: ``(N,)`` names.
        patients: ``(N,)`` names.
        radiographs: ``(N,)`` names.
        joints: ``(N,)`` names.
        joint_names: Every joint to be listed, scored or not.
        probabilities: ``(N,)`` of a grade above 0, in [0, 1].
        grades: ``(N,)`` true erosion grades, whole numbers from 0.
        predicted_grades: ``(N,)`` likewise, or None where the model gives none.
    """

    centers: tuple[str, ...]
    patients: tuple[str, ...]
    radiographs: tuple[str, ...]
    joints: tuple[str, ...]
    joint_names: tuple[str, ...]
    probabilities: Values
    grades: Whole
    predicted_grades: Whole | None = None

    def __post_init__(self) -> None:
        """Refuse columns that do not fit together."""
        names = (self.centers, self.patients, self.radiographs, self.joints, self.probabilities, self.grades)
        if len({len(column) for column in names}) > 1 or not set(self.joints) <= set(self.joint_names):
            raise RamwFedError(
                f"a table of scored joints has columns of {[len(column) for column in names]} rows and joints "
                f"{sorted(set(self.joints))}: give one value a joint, of {', '.join(self.joint_names)}"
            )

    def at(self, center: str) -> "ErosionTable":
        """Return one center's rows."""
        return self.take(index for index, name in enumerate(self.centers) if name == center)

    def of(self, joint: str) -> "ErosionTable":
        """Return one joint's rows."""
        return self.take(index for index, name in enumerate(self.joints) if name == joint)

    def ordered(self) -> "ErosionTable":
        """Return the rows sorted by center, patient, radiograph and joint."""
        keys = list(zip(self.centers, self.patients, self.radiographs, self.joints, strict=True))
        return self.take(sorted(range(len(keys)), key=lambda index: keys[index]))

    def take(self, indices: Iterable[int]) -> "ErosionTable":
        """Return these rows."""
        rows = list(indices)
        return ErosionTable(
            centers=tuple(self.centers[row] for row in rows),
            patients=tuple(self.patients[row] for row in rows),
            radiographs=tuple(self.radiographs[row] for row in rows),
            joints=tuple(self.joints[row] for row in rows),
            joint_names=self.joint_names,
            probabilities=self.probabilities[rows],
            grades=self.grades[rows],
            predicted_grades=None if self.predicted_grades is None else self.predicted_grades[rows],
        )
