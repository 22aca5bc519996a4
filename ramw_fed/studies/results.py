"""A study's table by model, and what arms of it reach, with intervals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramw_fed.errors import StudyError
from ramw_fed.metrics.classification import CLASSIFICATION_METRICS
from ramw_fed.metrics.erosion_pairs import BOOTSTRAP
from ramw_fed.metrics.ranges import bounded, range_of
from ramw_fed.metrics.scopes import macro_entry
from ramw_fed.statistics.intervals import Replicates, bootstrap, bootstrap_intervals
from ramw_fed.studies.scores import Scores, empty, less, of_joints, of_patients, within
from ramw_fed.studies.table import MODEL, Columns
from ramw_fed.studies.training import LOCAL

Entry = dict[str, Any]
RANKING = ("auroc", "auprc")
"""Measures that compare scores with each other: those of two models do not rank together."""


@dataclass(frozen=True, kw_only=True, order=True)
class Model:
    """One trained network at one test center: a group of rows of the table."""

    design: str
    arm: str
    seed: int
    fold: str
    dose: str
    label: str
    train_centers: str
    test_center: str
    task: str


def is_apart(arm: str, metric: str, study: Mapping[str, Any]) -> bool:
    """Whether an arm's centers have models of their own, so that this measure cannot be pooled over centers.

    Args:
        arm: Its name.
        metric: The measure.
        study: ``study.json``; ``own_models`` names the methods that leave tensors at the centers.
    """
    return metric in RANKING and (arm == LOCAL or arm in study["own_models"])


class Results:
    """A study's table by model."""

    def __init__(self, table: Columns, *, seed: int, resamples: int) -> None:
        """Take a table whose rows are sorted, as it is written; ``seed`` and ``resamples`` are of the bootstrap."""
        self.table = table
        self.seed = seed
        self.resamples = resamples
        self._places: dict[Model, NDArray[np.int64]] = _places(table)

    def models(self, **wanted: Any) -> list[Model]:
        """Return the models whose fields have these values, sorted."""
        return [
            model
            for model in sorted(self._places)
            if all(getattr(model, field) == value for field, value in wanted.items())
        ]

    def scores(self, metric: str, models: Iterable[Model]) -> Scores:
        """Return a measure over the test patients of some models of one arm.

        Args:
            metric: Of the models' task.
            models: Of any seeds, folds, orders of entry and test centers.

        Raises:
            StudyError: The replicates do not cover the same patients.
        """
        models = list(models)
        folds = sorted({model.fold for model in models})
        if metric in RANKING and len(folds) > 1:  # each fold has a model of its own
            return within({fold: self.scores(metric, [m for m in models if m.fold == fold]) for fold in folds})
        replicates: dict[tuple[int, str], list[Model]] = {}
        for model in models:
            replicates.setdefault((model.seed, model.label), []).append(model)
        parts = [self._rows(group, metric) for _, group in sorted(replicates.items())]
        if not parts:
            return empty(metric)
        keys = [part[0] for part in parts]
        if any(key != keys[0] for key in keys):
            raise StudyError("the seeds of an arm do not cover the same test patients; run the study again")
        return (of_patients if metric not in CLASSIFICATION_METRICS else of_joints)(metric, [p[1] for p in parts])

    def at(self, metric: str, models: Sequence[Model], center: str) -> Scores:
        """Return the measure at one test center."""
        return self.scores(metric, [model for model in models if model.test_center == center])

    def entry(self, scores: Scores) -> Entry:
        """Return the measure with its interval, in the form of ``metrics.json``."""
        value, count = scores.value(), int(scores.contributes.sum()) or len(scores.patients)
        if np.isnan(value):
            return {"value": None, "ci": None, "n": count, "reason": scores.why_undefined()}
        (interval,) = bootstrap_intervals(
            scores.statistic, scores.patients, scores.contributes[:, None], seed=self.seed, resamples=self.resamples
        )
        limits = bounded(interval, scores.metric)
        return {"value": value, "ci": None if limits is None else [limits.low, limits.high], "n": count}

    def difference(self, first: Scores, second: Scores) -> Entry:
        """Return ``first`` less ``second``; both arms' own values stand beside it."""
        entry = self.entry_of_difference(less(first, second))
        return entry if entry["value"] is None else entry | {"first": first.value(), "second": second.value()}

    def entry_of_difference(self, scores: Scores) -> Entry:
        """Return a difference with its interval and two-sided p, of one bootstrap for both sides."""
        value, count = scores.value(), int(scores.contributes.sum()) or len(scores.patients)
        if np.isnan(value):
            return {"value": None, "ci": None, "n": count, "reason": scores.why_undefined()}
        entry: Entry = {"value": value, "ci": None, "n": count}
        drawn = self.replicates(scores)
        if drawn is not None:
            least, most = range_of(scores.metric)
            interval = drawn.interval().within(least - most, most - least)
            entry |= {"ci": [interval.low, interval.high], "p": drawn.p_value(), "test": BOOTSTRAP}
        return entry

    def replicates(self, scores: Scores) -> Replicates | None:
        """Return the measure in each resample of patients; None where too few contribute."""
        contributes = scores.contributes[:, None]
        (drawn,) = bootstrap(scores.statistic, scores.patients, contributes, seed=self.seed, resamples=self.resamples)
        return drawn

    def by_center(self, metric: str, models: Sequence[Model]) -> dict[str, Scores]:
        """Return the measure at each test center."""
        return {center: self.at(metric, models, center) for center in sorted({model.test_center for model in models})}

    def scopes(self, metric: str, models: Sequence[Model]) -> dict[str, Any]:
        """Return a measure pooled, within centers, macro over them, at each of them, and of each seed."""
        centers = sorted({model.test_center for model in models})
        by_center = {center: self.entry(self.at(metric, models, center)) for center in centers}
        seeds = {seed: self.scores(metric, [m for m in models if m.seed == seed]).value() for seed in _seeds(models)}
        known = [value for value in seeds.values() if not np.isnan(value)]
        own = within(self.by_center(metric, models)) if models else empty(metric)
        return {
            "pooled": self.entry(self.scores(metric, models)),
            "within": self.entry(own),
            "macro": macro_entry(list(by_center.values()), *range_of(metric)) if by_center else {},
            "centers": by_center,
            "seeds": {str(seed): None if np.isnan(value) else value for seed, value in seeds.items()},
            "seed_sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        }

    def _rows(self, models: Sequence[Model], metric: str) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Return what tells the rows apart, and the rows, of one replicate; sorted by patient, radiograph and joint."""
        places = np.concatenate([self._places[model] for model in models])
        measure = self.table["measure"][places]
        if metric not in CLASSIFICATION_METRICS:
            places = places[measure == metric]
            columns = {name: self.table[name][places] for name in ("test_center", "patient", "value")}
        else:
            probable, graded = places[measure == "probability"], places[measure == "grade"]
            columns = {name: self.table[name][probable] for name in ("test_center", "patient", "radiograph", "item")}
            columns |= {"probability": self.table["value"][probable], "grade": self.table["value"][graded]}
        names = [name for name in ("test_center", "patient", "radiograph", "item") if name in columns]
        keys = list(zip(*(columns[name].tolist() for name in names), strict=True))
        order = sorted(range(len(keys)), key=lambda row: keys[row])
        return [keys[row] for row in order], {name: column[order] for name, column in columns.items()}


def _places(table: Columns) -> dict[Model, NDArray[np.int64]]:
    fields = [name for name in MODEL if name not in ("study", "method")]
    rows: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(zip(*(table[name].tolist() for name in fields), strict=True)):
        rows.setdefault(key, []).append(row)
    return {Model(**dict(zip(fields, key, strict=True))): np.array(found, np.int64) for key, found in rows.items()}


def _seeds(models: Sequence[Model]) -> list[int]:
    return sorted({model.seed for model in models})
