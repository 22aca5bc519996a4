"""Trained here, tested there: how far a center's model carries, beside those that all centers made together."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ramw_fed.studies.results import Entry, Model, Results
from ramw_fed.studies.scores import less, mean_of, within
from ramw_fed.studies.training import CENTRAL, LOCAL, Cell, Ground, alone, federated, pooled

DESIGN = "cross-site-matrix"


def cells(ground: Ground) -> Iterator[Cell]:
    """Test every model at every center."""
    for blank, sites in ground.settings():
        rows = [*alone(blank, sites), *pooled(blank, sites)]
        rows += federated(blank, sites.trainers[blank.task], ground.study.config.methods)
        for training in rows:
            yield Cell(design=DESIGN, training=training, test_centers=sites.testers[blank.task])


def analyse(results: Results, task: str, metric: str, study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the matrix, and the gap: the mean over centers of home less the mean of all strangers."""
    models = results.models(design=DESIGN, task=task)
    rows: dict[str, list[Model]] = {}
    for model in models:
        rows.setdefault(model.train_centers if model.arm == LOCAL else model.arm, []).append(model)
    locals_ = sorted({model.train_centers for model in models if model.arm == LOCAL})
    order = [*locals_, *(arm for arm in (CENTRAL, *study["methods"]) if arm in rows)]
    columns = sorted({model.test_center for model in models})
    cells = {row: {column: results.entry(results.at(metric, rows[row], column)) for column in columns} for row in order}
    return {"rows": order, "columns": columns, "cells": cells, "gap": _gap(results, metric, rows, locals_, columns)}


def _gap(
    results: Results, metric: str, rows: Mapping[str, list[Model]], trained: list[str], columns: list[str]
) -> Entry:
    gaps = {}
    for home in sorted(set(trained) & set(columns)):
        strangers = [results.at(metric, rows[row], home) for row in trained if row != home]
        if strangers:
            gaps[home] = less(results.at(metric, rows[home], home), mean_of(strangers))
    known = {home: scores for home, scores in gaps.items() if not np.isnan(scores.value())}
    if not known:
        return {"value": None, "ci": None, "n": 0, "reason": "no center has a model and test patients for it"}
    return {"centers": sorted(known), **results.entry_of_difference(within(known))}
