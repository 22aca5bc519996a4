"""From a study's table to everything that it says.

Nothing else is read, so that it can be computed again and held against what a report shows.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ramw_fed.comparison import METRICS
from ramw_fed.studies import cross_site_matrix, dose_response, leave_one_center_out, matched_arms, scale_up
from ramw_fed.studies.results import Results
from ramw_fed.studies.table import Columns

_ANALYSES = MappingProxyType(
    {
        module.DESIGN: module.analyse
        for module in (matched_arms, cross_site_matrix, leave_one_center_out, scale_up, dose_response)
    }
)


def analyse(table: Columns, study: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``analysis.json``: ``{"designs": {design: {task: {metric: ..}}}}``.

    Args:
        table: As :func:`ramw_fed.studies.table.read_table` gives it.
        study: ``study.json``; of it tasks, designs, metrics, contrasts, margins, seed and resamples are read.
    """
    results = Results(table, seed=study["seed"], resamples=study["resamples"])
    designs: dict[str, Any] = {}
    for design in study["designs"]:
        for task in study["tasks"]:
            for metric in [name for name in study["metrics"] if name in METRICS[task]]:
                if results.models(design=design, task=task):
                    found = _ANALYSES[design](results, task, metric, study)
                    designs.setdefault(design, {}).setdefault(task, {})[metric] = found
    matched_arms.adjust(designs.get(matched_arms.DESIGN, {}))
    return {"designs": designs}
