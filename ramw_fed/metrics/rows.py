"""Scored joints as columns: what every measure of a classifier is computed from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ramw_fed.errors import RamwFedError

Values = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """N joints, each belonging to one of U patients.

    Attributes:
        probabilities: ``(N,)`` of an erosion, in [0, 1].
        labels: ``(N,)`` bool, eroded or not.
        units: ``(N,)`` the patient's number, 0 to U - 1.
        num_units: U.
        grades: ``(N,)`` true grades, or None.
        predicted_grades: ``(N,)`` predicted grades, or None.
    """

    probabilities: Values
    labels: NDArray[np.bool_]
    units: Whole
    num_units: int
    grades: Whole | None = None
    predicted_grades: Whole | None = None

    def __post_init__(self) -> None:
        """Refuse what is no probability, and columns of unequal length."""
        columns = (self.labels, self.units, self.grades, self.predicted_grades)
        lengths = {len(self.probabilities)} | {len(column) for column in columns if column is not None}
        if len(lengths) > 1:
            raise RamwFedError(
                f"columns of scored joints have {sorted(lengths)} rows: give each joint one value in every column"
            )
        wrong = int(np.count_nonzero(~((self.probabilities >= 0) & (self.probabilities <= 1))))
        if wrong:
            raise RamwFedError(
                f"{wrong} of {len(self.probabilities)} probabilities are not in [0, 1]: "
                "give probabilities (a sigmoid of the logits), without NaN"
            )

    def sums(self, *columns: NDArray[np.generic]) -> Values:
        """Sum columns of length N over each patient's joints: ``(U, len(columns))``."""
        totals = [np.bincount(self.units, weights=column, minlength=self.num_units) for column in columns]
        return np.stack(totals, axis=1).astype(np.float64)


def ratio(numerator: Values, denominator: Values) -> Values:
    """Divide, with NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=denominator != 0)
