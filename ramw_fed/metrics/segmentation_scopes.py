"""Segmentation: from values per radiograph and bone to scopes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.estimate import Entry, Estimate, NotEstimable
from ramw_fed.metrics.joint_space_scopes import JOINT_SPACE_KINDS, joint_space_scopes
from ramw_fed.metrics.ranges import bounded
from ramw_fed.metrics.rows import Values, Whole, ratio
from ramw_fed.metrics.scopes import Scope, Tree, group_by_patient, tree
from ramw_fed.metrics.surface import SEGMENTATION_COUNTS, SEGMENTATION_METRICS
from ramw_fed.statistics.intervals import RESAMPLES, bootstrap_intervals, weighted_sums

Path = tuple[str, ...]

_KEYS = (*SEGMENTATION_METRICS, *SEGMENTATION_COUNTS)


@dataclass(frozen=True, kw_only=True)
class SegmentationTable:
    """N radiographs with masks, in any order.

    Attributes:
        centers: ``(N,)`` names.
        patients: ``(N,)`` names; patients of two centers may bear one name.
        radiographs: ``(N,)`` names.
        bones: B names.
        overlaps: P names of pairs of bones.
        bone_values: As :func:`ramw_fed.metrics.surface.segmentation_metrics` gives them, each ``(N, B)``.
        overlap_values: Likewise for the overlap regions, each ``(N, P)``.
        spaces: J names of joint spaces.
        space_errors: Kind of :data:`JOINT_SPACE_KINDS` to predicted less true mm, each ``(N, J)``; NaN where not known.
    """

    centers: tuple[str, ...]
    patients: tuple[str, ...]
    radiographs: tuple[str, ...]
    bones: tuple[str, ...]
    overlaps: tuple[str, ...]
    bone_values: Mapping[str, Values]
    overlap_values: Mapping[str, Values]
    spaces: tuple[str, ...] = ()
    space_errors: Mapping[str, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse columns that do not fit together."""
        count = len(self.radiographs)
        for values, names in ((self.bone_values, self.bones), (self.overlap_values, self.overlaps)):
            wrong = [key for key in _KEYS if key not in values or values[key].shape != (count, len(names))]
            if wrong or len(self.centers) != count or len(self.patients) != count:
                raise RamwFedError(
                    f"a table of {count} radiographs needs {len(names)} values of each for {', '.join(_KEYS)}; "
                    f"wrong or missing: {', '.join(wrong) or 'centers or patients'}"
                )
        if self.spaces and {errors.shape for errors in self.space_errors.values()} != {(count, len(self.spaces))}:
            raise RamwFedError(f"a table of {count} radiographs needs {len(self.spaces)} joint spaces in every row")

    @classmethod
    def stack(
        cls,
        rows: Sequence[tuple[str, str, str]],
        *,
        bones: Sequence[str],
        overlaps: Sequence[str],
        bone_metrics: Sequence[Mapping[str, Values]],
        overlap_metrics: Sequence[Mapping[str, Values]],
    ) -> "SegmentationTable":
        """Build a table from what :func:`segmentation_metrics` gave for each radiograph.

        Args:
            rows: Center, patient and radiograph, by name.
            bones: Names of the bones.
            overlaps: Names of the pairs.
            bone_metrics: One a radiograph, values ``(B,)``.
            overlap_metrics: One a radiograph, values ``(P,)``.
        """
        centers, patients, radiographs = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(
            centers=centers,
            patients=patients,
            radiographs=radiographs,
            bones=tuple(bones),
            overlaps=tuple(overlaps),
            bone_values=_stack(bone_metrics, len(bones)),
            overlap_values=_stack(overlap_metrics, len(overlaps)),
        )

    def at(self, center: str) -> "SegmentationTable":
        """Return one center's rows."""
        return self.take(index for index, name in enumerate(self.centers) if name == center)

    def ordered(self) -> "SegmentationTable":
        """Return the rows sorted by center, patient and radiograph: sums depend on their order in the last bit."""
        keys = list(zip(self.centers, self.patients, self.radiographs, strict=True))
        return self.take(sorted(range(len(keys)), key=lambda index: keys[index]))

    def take(self, indices: Iterable[int]) -> "SegmentationTable":
        """Return these rows."""
        rows = list(indices)
        return SegmentationTable(
            centers=tuple(self.centers[row] for row in rows),
            patients=tuple(self.patients[row] for row in rows),
            radiographs=tuple(self.radiographs[row] for row in rows),
            bones=self.bones,
            overlaps=self.overlaps,
            bone_values={key: self.bone_values[key][rows] for key in _KEYS},
            overlap_values={key: self.overlap_values[key][rows] for key in _KEYS},
            spaces=self.spaces,
            space_errors={kind: errors[rows] for kind, errors in self.space_errors.items()},
        )


def segmentation_tree(
    table: SegmentationTable, *, centers: Sequence[str], seed: int, resamples: int = RESAMPLES
) -> Tree:
    """Pooled, macro and each of these centers, with or without rows."""
    parts = {name: segmentation_scope(table.at(name), seed=seed, resamples=resamples) for name in centers}
    return tree(segmentation_scope(table, seed=seed, resamples=resamples), parts)


def segmentation_scope(table: SegmentationTable, *, seed: int, resamples: int = RESAMPLES) -> Scope:
    """Every measure over these radiographs, by bone, by overlap and by joint space.

    Args:
        table: Radiographs of one center, or of all.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    table = table.ordered()
    patients, units = group_by_patient(table.centers, table.patients)
    columns = _columns(table)
    keys = [path[-1] for path in columns]
    values = _patient_values(np.column_stack(list(columns.values())), units, len(patients), keys)
    scope: Scope = {"by": {"bone": {}, "overlap": {}}}
    for path, entry in zip(columns, _entries(values, keys, patients, seed, resamples), strict=True):
        _put(scope, path, entry)
    for kind in JOINT_SPACE_KINDS:
        errors = table.space_errors.get(kind, np.empty((len(units), 0)))
        scope["by"][kind] = joint_space_scopes(
            kind, table.spaces, errors, units, patients, seed=seed, resamples=resamples
        )
    return scope


def patient_values(centers: Sequence[str], patients: Sequence[str], values: Values, metric: str) -> Values:
    """Mean over each patient's radiographs of the mean over bones; of counts, the sum of all.

    Args:
        centers: ``(N,)`` names.
        patients: ``(N,)`` names.
        values: ``(N, B)``, NaN where not defined.
        metric: What the values are.

    Returns:
        ``(patients,)`` in the order of :func:`group_by_patient`; NaN where no bone has a value.
    """
    names, units = group_by_patient(centers, patients)
    of_radiographs = values.sum(axis=1) if metric in SEGMENTATION_COUNTS else _mean_of_defined(values)
    return _patient_values(of_radiographs[:, None], units, len(names), [metric])[:, 0]


def _columns(table: SegmentationTable) -> dict[Path, Values]:
    """Values per radiograph, ``(N,)``, under the place of their entry in the scope."""
    columns: dict[Path, Values] = {}
    for key in SEGMENTATION_METRICS:
        columns[(key,)] = _mean_of_defined(table.bone_values[key])
    for key in SEGMENTATION_COUNTS:
        columns[(key,)] = table.bone_values[key].sum(axis=1)
    kinds = (("bone", table.bones, table.bone_values), ("overlap", table.overlaps, table.overlap_values))
    for kind, names, values in kinds:
        for index, name in enumerate(names):
            columns |= {("by", kind, name, key): values[key][:, index] for key in _KEYS}
    return columns


def _put(scope: Scope, path: Path, entry: Entry) -> None:
    *folders, key = path
    for folder in folders:
        scope = scope.setdefault(folder, {})
    scope[key] = entry


def _entries(
    values: Values, keys: Sequence[str], patients: Sequence[tuple[str, str]], seed: int, resamples: int
) -> list[Entry]:
    """Estimate the mean (of counts, the sum) over patients of each column of ``values``, ``(patients, K)``."""
    is_count = np.isin(keys, SEGMENTATION_COUNTS)
    defined = ~np.isnan(values)
    filled, partly = np.where(defined, values, 0.0), ~defined.all(axis=0)

    def statistic(weights: Values) -> Values:
        sums = weighted_sums(weights, filled)
        shares = np.repeat(weights.sum(axis=1, keepdims=True), len(keys), axis=1)
        shares[:, partly] = weighted_sums(weights, defined[:, partly].astype(np.float64))
        return np.where(is_count, sums, ratio(sums, shares))

    point = statistic(np.ones((1, len(patients))))[0]
    intervals = bootstrap_intervals(statistic, patients, defined, seed=seed, resamples=resamples)
    return [
        Estimate(
            value=_value(key, float(value), len(patients)),
            interval=bounded(interval, key),
            n=int(count) or len(patients),
        ).as_dict()
        for key, value, interval, count in zip(keys, point, intervals, defined.sum(axis=0), strict=True)
    ]


def _value(key: str, value: float, num_patients: int) -> float | NotEstimable:
    if not num_patients:
        return NotEstimable("no radiographs with masks")
    if key in SEGMENTATION_COUNTS:
        return int(value)
    if not np.isnan(value):
        return value
    return NotEstimable(
        {
            "msd": "no radiograph has it in both truth and prediction",
            "hd95": "no radiograph has it in both truth and prediction",
            "ravd": "no radiograph has it in the truth",
        }.get(key, "no radiograph has it in truth or prediction")
    )


def _patient_values(columns: Values, units: Whole, num_units: int, keys: Sequence[str]) -> Values:
    """Mean over each patient's radiographs that have a value; of counts, the sum."""
    defined = ~np.isnan(columns)
    sums, counts = np.zeros((2, num_units, columns.shape[1]))
    np.add.at(sums, units, np.where(defined, columns, 0.0))
    np.add.at(counts, units, defined)
    return np.where(np.isin(keys, SEGMENTATION_COUNTS), sums, ratio(sums, counts))


def _mean_of_defined(values: Values) -> Values:
    """Mean over the bones that have a value, ``(N,)``."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def _stack(metrics: Sequence[Mapping[str, Values]], count: int) -> dict[str, Values]:
    return {key: np.array([each[key] for each in metrics], dtype=np.float64).reshape(-1, count) for key in _KEYS}
