"""Mixed models of patients' values: two arms, with centers, patients and seeds as what else makes values differ.

A patient's value under an arm is the mean over the arm's seeds, so that seeds are never patients; the model is

    value = arm + center + patient within center + rest

with center and patient drawn at random (Laird and Ware 1982, doi:10.2307/2529876), fitted by restricted maximum
likelihood. Six centers say little of the variance between centers, so :func:`mixed_contrasts` gives the model with
fixed centers beside it: arms of the same patients differ by the same in both. Where an arm was trained from several
seeds, differences of arms d of patient p and seed s follow

    d(p, s) = difference + patient p + seed s + rest,

patients crossed with seeds; center and patient themselves cancel. Its interval also covers what other seeds would
have given, on the degrees of freedom that patients and seeds have (Satterthwaite 1946, doi:10.2307/3002019).
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

from ramw_fed.errors import RamwFedError
from ramw_fed.statistics.intervals import FEWEST_PATIENTS, LEVEL, Interval, Patient, degrees_of_freedom

Values = NDArray[np.float64]
Names = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """A difference of two arms by one model.

    Attributes:
        estimate: Arm less reference, in the values' unit; None where there is none.
        interval: 95 %.
        p_value: Two-sided.
        components: Name of what varies to its variance, in the values' unit squared.
        reason: Why there is no estimate, or what was left out of the model; empty where nothing was.
    """

    estimate: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    components: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return ``value``, ``ci``, ``p`` and ``components`` if there is a value, and ``reason`` if there is one."""
        entry: dict[str, Any] = {"reason": self.reason} if self.reason else {}
        if self.interval is not None:
            ci = [self.interval.low, self.interval.high]
            entry |= {"value": self.estimate, "ci": ci, "p": self.p_value, "components": dict(self.components)}
        return entry


@dataclass(frozen=True, kw_only=True)
class MixedContrast:
    """An arm against the reference, centers drawn at random and centers fixed."""

    arm: str
    reference: str
    patients: int
    seeds: int
    mixed: MixedFit
    fixed: MixedFit


@dataclass(frozen=True, kw_only=True)
class RandomIntercepts:
    """What :func:`random_intercepts` finds: coefficients, their standard errors, and variances with the ``rest``."""

    coefficients: Values
    errors: Values
    components: Mapping[str, float]


def mixed_contrasts(
    centers: Sequence[str],
    patients: Sequence[str],
    seeds: Sequence[int],
    arms: Sequence[str],
    values: Sequence[float] | Values,
    *,
    reference: str,
) -> list[MixedContrast]:
    """Compare every other arm with the reference, each pair by its own models; arms in alphabetical order.

    Args:
        centers: Of each row.
        patients: Of each row; patients of two centers may bear one name.
        seeds: Of each row.
        arms: Of each row.
        values: Of each row, NaN where not defined; patient, seed and arm have one row at most.
        reference: The arm to compare with.
    """
    names = list(zip(centers, patients, strict=True))
    tables = _tables(names, seeds, arms, np.asarray(values, np.float64))
    known = sorted(set(names))
    if reference not in tables:
        raise RamwFedError(f"no rows of {reference!r} to compare with; there are {', '.join(sorted(tables)) or 'none'}")
    return [
        _contrast((arm, reference), (tables[arm], tables[reference]), known)
        for arm in sorted(tables)
        if arm != reference
    ]


def random_intercepts(
    values: Values, fixed: Values, factors: Mapping[str, Names], groups: Names | None = None
) -> RandomIntercepts | None:
    """Fit a linear model with a random intercept for each level of each factor, by REML; None: not converged.

    Args:
        values: ``(n,)``.
        fixed: ``(n, K)`` columns of the fixed effects.
        factors: Name to ``(n,)`` levels; nested or crossed.
        groups: ``(n,)``, rows of different groups share no level of any factor; None: all rows are one group. Groups
            make the fit faster and change nothing.
    """
    scale = float(values.std()) or 1.0
    groups = np.zeros(len(values), np.str_) if groups is None else groups
    model = MixedLM(values / scale, fixed, groups, exog_vc=_variances(factors, groups))
    with warnings.catch_warnings():
        # A variance at 0, the edge of what it can be, is an answer here and a warning there.
        warnings.simplefilter("ignore")
        try:
            # Two or three variances: the simplex finds the top. Gradients vanish at a variance of 0, and lbfgs then
            # calls itself converged far from it (seen with seeds that hardly differ).
            fit = model.fit(reml=True, method=["nm", "powell"])
        except np.linalg.LinAlgError:
            return None
    errors = np.asarray(fit.bse_fe)
    if not fit.converged or not np.isfinite(errors).all():
        return None
    variances = dict(zip(model.exog_vc.names, fit.vcomp, strict=True)) | {"rest": fit.scale}
    return RandomIntercepts(
        coefficients=np.asarray(fit.fe_params) * scale,
        errors=errors * scale,
        components={name: float(variance) * scale**2 for name, variance in variances.items()},
    )


def _tables(
    patients: Sequence[Patient], seeds: Sequence[int], arms: Sequence[str], values: Values
) -> dict[str, Values]:
    """Values of each arm as ``(patients, seeds)``, both in order, NaN where there is none."""
    row = {patient: index for index, patient in enumerate(sorted(set(patients)))}
    column = {seed: index for index, seed in enumerate(sorted(set(seeds)))}
    tables = {arm: np.full((len(row), len(column)), np.nan) for arm in arms}
    for patient, seed, arm, value in zip(patients, seeds, arms, values, strict=True):
        tables[arm][row[patient], column[seed]] = value
    return tables


def _contrast(arms: tuple[str, str], tables: tuple[Values, Values], patients: Sequence[Patient]) -> MixedContrast:
    """Compare an arm with the reference by the rows (patients) and columns (seeds) in which both have a value."""
    paired = ~np.isnan(tables[0] - tables[1])
    rows, columns = paired.any(axis=1), paired.any(axis=0)
    names = [patients[row] for row in np.flatnonzero(rows).tolist()]
    first, second = (np.where(paired, table, np.nan)[rows][:, columns] for table in tables)
    reason = _why_not(first, second, names)
    mixed = fixed = MixedFit(reason=reason)
    if not reason:
        pair = np.stack([np.nanmean(second, axis=1), np.nanmean(first, axis=1)], axis=1)
        mixed = _over_seeds(first - second, names, _patients(pair, names, fixed_centers=False))
        fixed = _patients(pair, names, fixed_centers=True)
    return MixedContrast(
        arm=arms[0], reference=arms[1], patients=len(names), seeds=int(columns.sum()), mixed=mixed, fixed=fixed
    )


def _why_not(first: Values, second: Values, patients: Sequence[Patient]) -> str:
    if len(patients) < FEWEST_PATIENTS:
        return f"{len(patients)} patients have a value in both arms; {FEWEST_PATIENTS} are needed"
    differences = np.nanmean(first - second, axis=1)
    if np.ptp(differences) <= 1e-12 * (1 + np.abs(differences).max()):
        return f"every patient differs by the same {differences[0]:g}: there is nothing to estimate from"
    return ""


def _patients(pair: Values, patients: Sequence[Patient], *, fixed_centers: bool) -> MixedFit:
    """Fit one value a patient and arm; ``pair`` is ``(patients, 2)``, the reference first."""
    center = np.repeat([center for center, _ in patients], 2)
    levels = np.unique(center)
    fixed = [np.ones(pair.size), np.tile([0.0, 1.0], len(pair))]
    factors: dict[str, Names] = {"patient": np.repeat(np.arange(len(pair)), 2)}
    if len(levels) > 1 and fixed_centers:
        fixed += [(center == level).astype(np.float64) for level in levels[1:]]
    elif len(levels) > 1:
        factors["center"] = center
    found = random_intercepts(pair.ravel(), np.stack(fixed, axis=1), factors, center)
    if found is None:
        return MixedFit(reason="the model does not converge")
    return _fit(found, 1, degrees_of_freedom([center for center, _ in patients]))


def _over_seeds(differences: Values, patients: Sequence[Patient], at_hand: MixedFit) -> MixedFit:
    """Add what seeds vary by to the fit of the seeds at hand; ``differences`` is ``(patients, seeds)``."""
    count = differences.shape[1]
    if count < 2 or at_hand.estimate is None:
        return replace(at_hand, reason=at_hand.reason or "one seed: says nothing of other seeds")
    if np.nanmax(np.nanstd(differences, axis=1)) <= 1e-12:
        return replace(at_hand, reason="every seed gives the same values: says nothing of other seeds")
    row, column = np.nonzero(~np.isnan(differences))
    values = differences[row, column]
    factors: dict[str, Names] = {"patient": row, "seed": column}
    found = random_intercepts(values, np.ones((len(values), 1)), factors)
    if found is None:
        return replace(at_hand, reason="crossed with seeds the model does not converge: seeds taken as they are")
    seeds = found.components["seed"] / count
    others = max(found.errors[0] ** 2 - seeds, 0.0)
    freedom = (seeds + others) ** 2 / (
        seeds**2 / (count - 1) + others**2 / degrees_of_freedom([center for center, _ in patients])
    )
    together = _fit(found, 0, freedom)
    return replace(together, components={**at_hand.components, "seed": found.components["seed"]})


def _fit(found: RandomIntercepts, index: int, freedom: float) -> MixedFit:
    estimate, error = float(found.coefficients[index]), float(found.errors[index])
    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    return MixedFit(
        estimate=estimate,
        interval=Interval(low=estimate - reach, high=estimate + reach),
        p_value=float(2 * t.sf(abs(estimate) / error, freedom)),
        components=found.components,
    )


def _variances(factors: Mapping[str, Names], groups: Names) -> VCSpec:
    """Indicator columns of every factor in every group, as statsmodels wants them."""
    matrices, columns = [], []
    for levels in factors.values():
        own = [levels[groups == group] for group in np.unique(groups)]
        matrices.append([(part[:, None] == np.unique(part)).astype(np.float64) for part in own])
        columns.append([[str(level) for level in np.unique(part)] for part in own])
    return VCSpec(list(factors), columns, matrices)
