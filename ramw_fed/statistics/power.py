"""How large a difference a study of this size finds, before it is run.

Every contrast is tested at alpha / contrasts, which is what Holm's first step asks; the later steps ask less, so a
contrast's power is at least what is said here.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2, nct, norm, t

from ramw_fed.errors import RamwFedError

Values = NDArray[np.float64]

EFFICIENCY = 3 / math.pi
"""Of signed ranks to Student's t for normal differences (Pitman). Never below .864 for symmetric ones (Hodges and
Lehmann 1956, doi:10.1214/aoms/1177728261), and above 1 where tails are heavy."""


@dataclass(frozen=True, kw_only=True)
class StudySize:
    """A study as planned.

    Attributes:
        patients_per_center: Of the test split, at least 2; the mean where centers differ.
        centers: At least 1.
        contrasts: That Holm's correction is for, at least 1.
        alpha: Two-sided, for all contrasts together, in (0, 1).
        target: Power wished for, in (alpha, 1).
    """

    patients_per_center: float
    centers: int
    contrasts: int = 1
    alpha: float = 0.05
    target: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what is no study."""
        enough = self.patients_per_center >= 2 and self.centers >= 1 and self.contrasts >= 1
        if not (enough and 0 < self.alpha < self.target < 1):
            raise RamwFedError(
                f"{self}: give at least 2 patients a center, 1 center, 1 contrast, and 0 < alpha < target < 1"
            )

    @property
    def patients(self) -> float:
        """All patients."""
        return self.patients_per_center * self.centers

    @property
    def alpha_each(self) -> float:
        """Level of one contrast."""
        return self.alpha / self.contrasts


@dataclass(frozen=True, kw_only=True)
class Power:
    """What a study can find.

    Attributes:
        metric: What differs.
        test: By which test, and which power function stands for it.
        patients: All.
        contrasts: Tested together.
        alpha: Level of one contrast.
        error: Standard error of the difference, in the metric's unit.
        target: Power wished for.
        smallest: Smallest difference found with that power; None where no difference that the metric allows is.
        difference: Difference asked about, or None.
        power: With which it is found, or None.
    """

    metric: str
    test: str
    patients: int
    contrasts: int
    alpha: float
    error: float
    target: float
    smallest: float | None
    difference: float | None
    power: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name."""
        return asdict(self)


def paired_power(
    size: StudySize, *, deviation: float, difference: float | None = None, metric: str = "patients' mean"
) -> Power:
    """Power of Wilcoxon's signed ranks on one difference a patient.

    The noncentral t of a t-test on 3 / pi of the patients stands for the signed ranks (Lehmann 2006, Nonparametrics,
    2.4: relative efficiency).

    Args:
        size: Of the study.
        deviation: Standard deviation of patients' differences, above 0: see :func:`pilot_deviation`.
        difference: To give the power for.
        metric: Name, for the reader.
    """
    if not deviation > 0:
        raise RamwFedError(f"a standard deviation of {deviation!r}: give that of patients' differences, above 0")
    count = size.patients * EFFICIENCY
    error = deviation / math.sqrt(count)
    reach = float(t.isf(size.alpha_each / 2, count - 1))

    def power(effect: float) -> float:
        # scipy has NaN for some probabilities below 1e-15; statsmodels' TTestPower hands them on.
        wrong_side = np.nan_to_num(nct.cdf(-reach, count - 1, effect / error))
        return float(nct.sf(reach, count - 1, effect / error) + wrong_side)

    return _power(
        size,
        metric=metric,
        test="signed ranks over patients; noncentral t on 3 / pi of them",
        error=error,
        power=power,
        largest=math.inf,
        difference=difference,
    )


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What is assumed of a classifier of joints.

    Attributes:
        auroc: Of either arm, in (0.5, 1).
        joints: Scored, a patient, above 0.
        prevalence: Share of eroded joints, in (0, 1).
        correlation: Between both arms' AUROC over samples of patients, in [0, 1): two models of one cohort, about .5.
        clustering: Correlation within a patient's joints of what a joint adds to the AUROC, in [0, 1].
    """

    auroc: float
    joints: float
    prevalence: float
    correlation: float = 0.5
    clustering: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what is no classifier."""
        good = 0.5 < self.auroc < 1 and self.joints > 0 and 0 < self.prevalence < 1
        if not (good and 0 <= self.correlation < 1 and 0 <= self.clustering <= 1):
            raise RamwFedError(
                f"{self}: give an AUROC in (0.5, 1), joints above 0, a prevalence in (0, 1), "
                "a correlation in [0, 1) and clustering in [0, 1]"
            )


def auroc_power(size: StudySize, ranking: Ranking, *, difference: float | None = None) -> Power:
    """Power to tell two AUROC of the same joints apart, joints clustered in patients.

    Variance of each by :func:`auroc_variance` (about a fifth above that of normal scores where one joint in three is
    eroded: the plan errs on the safe side), of the difference 2 V (1 - r) (Hanley and McNeil 1983,
    doi:10.1148/radiology.148.3.6878708), times the design effect 1 + (m - 1) rho of m joints a patient (Kish 1965).

    Args:
        size: Of the study.
        ranking: What is assumed.
        difference: To give the power for.
    """
    joints = size.patients * ranking.joints
    variance = auroc_variance(ranking.auroc, joints * ranking.prevalence, joints * (1 - ranking.prevalence))
    effect = 1 + max(0.0, ranking.joints - 1) * ranking.clustering
    return estimate_power(
        size,
        error=math.sqrt(2 * variance * (1 - ranking.correlation) * effect),
        difference=difference,
        metric="auroc",
        largest=1 - ranking.auroc,
    )


def estimate_power(
    size: StudySize, *, error: float, difference: float | None = None, metric: str, largest: float = math.inf
) -> Power:
    """Power for any difference with a normal estimate.

    A pilot of n patients gives ``error`` without assumptions: the standard deviation of the bootstrap's replicates
    times sqrt(n / patients of the study).

    Args:
        size: Of the study.
        error: Standard error of the difference, above 0.
        difference: To give the power for.
        metric: Name, for the reader.
        largest: Difference that the metric allows.
    """
    reach = float(norm.isf(size.alpha_each / 2))

    def power(effect: float) -> float:
        return float(norm.sf(reach - effect / error) + norm.cdf(-reach - effect / error))

    return _power(
        size,
        metric=metric,
        test="bootstrap by patient; normal",
        error=error,
        power=power,
        largest=largest,
        difference=difference,
    )


def auroc_variance(auroc: float, positives: float, negatives: float) -> float:
    """Variance of an AUROC of independent joints (Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747, eq. 2).

    Args:
        auroc: In (0, 1).
        positives: Eroded joints, at least 1.
        negatives: Others, at least 1.
    """
    if positives < 1 or negatives < 1:
        raise RamwFedError(f"{positives:g} eroded and {negatives:g} other joints: an AUROC needs one of each at least")
    two_positives, two_negatives = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = (positives - 1) * (two_positives - auroc**2) + (negatives - 1) * (two_negatives - auroc**2)
    return (auroc * (1 - auroc) + spread) / (positives * negatives)


def pilot_deviation(differences: Values, *, confidence: float = 0.8) -> float:
    """Standard deviation to plan with, given the differences of a pilot's patients.

    The upper limit and not the estimate, which is too small as often as not (Browne 1995, doi:10.1002/sim.4780141709).

    Args:
        differences: ``(n,)``, one a patient, at least 2, without NaN.
        confidence: That the true one is not larger, in (0, 1).
    """
    if len(differences) < 2:
        raise RamwFedError(f"{len(differences)} patients in the pilot: give the differences of two at least")
    freedom = len(differences) - 1
    return float(differences.std(ddof=1) * math.sqrt(freedom / chi2.isf(confidence, freedom)))


def _power(
    size: StudySize,
    *,
    metric: str,
    test: str,
    error: float,
    power: Callable[[float], float],
    largest: float,
    difference: float | None,
) -> Power:
    far = error
    while power(far) < size.target and far < largest:
        far *= 2
    far = min(far, largest)
    found = power(far) >= size.target
    smallest = float(brentq(lambda effect: power(effect) - size.target, 0, far)) if found else None
    return Power(
        metric=metric,
        test=test,
        patients=round(size.patients),
        contrasts=size.contrasts,
        alpha=size.alpha_each,
        error=error,
        target=size.target,
        smallest=smallest,
        difference=difference,
        power=None if difference is None else power(abs(difference)),
    )
