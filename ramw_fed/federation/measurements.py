"""What the coordinator accepts of what a center validated or measured: names, kinds and ranges of every number.

A lie inside the ranges is not seen. What is seen costs the answer, by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramw_fed.config import TrainingConfig
from ramw_fed.data.cohort import Description
from ramw_fed.federation.packets import is_number
from ramw_fed.federation.records import MOST
from ramw_fed.federation.validation import (
    MEASURES,
    PRIVACY,
    Question,
    Rejection,
    Sifted,
    coded,
    refuse_other_charge,
    refuse_other_name,
)
from ramw_fed.metrics.ranges import range_of
from ramw_fed.privacy.account import Charge
from ramw_fed.privacy.workload import Workload
from ramw_fed.statistics.intervals import FEWEST_PATIENTS
from ramw_fed.tasks.task import Column, Sums, Table, Task

Summary = Mapping[str, Any]
_OPTIONAL = {"redrawn", "left_out"}
_LONGEST_REASON = 300


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the centers measured of one task: a table where rows may leave the center, else its own summary."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    summaries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: Sequence[str] = ()
    rejections: Sequence[Rejection] = ()


def check_sums(answer: tuple[str, Sums], question: Question, task: Task, examples: int) -> Sums:
    """Return a center's sums over its validation split of ``examples`` enrolled examples.

    Raises:
        UpdateError: They come in another name, or cannot be true.
    """
    name, sums = answer
    refuse_other_name(name, question)
    if (sums or examples) and not task.is_plausible(sums, examples):
        raise coded(MEASURES, f"the sums cannot be those of {examples} validation examples")
    return sums


def check_noisy_sums(
    answer: tuple[str, Sums, Charge | None], question: Question, task: Task, planned: Workload, noise: float
) -> Sums:
    """Return a center's sums with noise in the form that the task's quality takes: any finite ones can be true.

    Args:
        answer: Name, sums of the task's contributions, and what they cost; of no patients both are empty.
        question: What it answers.
        task: What was validated.
        planned: How a validation draws on the center's enrolled patients.
        noise: The run's noise multiplier.

    Raises:
        UpdateError: They come in another name, have other names, or were not paid for as the run says.
    """
    name, sums, charge = answer
    refuse_other_name(name, question)
    own = task.validation()
    if set(sums) != set(own.names if planned.patients else ()):
        raise coded(MEASURES, f"the sums are not {', '.join(own.names)} of {planned.patients} patients")
    refuse_other_charge(charge, planned if planned.patients else None)
    if charge is None:
        return {}
    if charge.noise_multiplier != noise:
        raise coded(PRIVACY, f"the noise multiplier is {charge.noise_multiplier:g}; evaluation-noise is {noise:g}")
    return own.sums(sums, planned.patients, noise)


def check_measurement(
    answer: tuple[str, Table | None, Summary | None],
    question: Question,
    task: Task,
    description: Description,
    training: TrainingConfig,
) -> tuple[Table | None, Summary | None]:
    """Return a center's table or its summary.

    Raises:
        UpdateError: It comes in another name, or holds what the task cannot have measured.
    """
    name, table, summary = answer
    refuse_other_name(name, question)
    columns = task.columns(description, training)
    if table is not None:
        _check_table(table, question.center, columns)
    else:
        scopes: Any = {question.center: None}
        if columns:
            nothing = {column: rule.empty() for column, rule in columns.items()}
            scopes = task.summarize(nothing, description, training, 100, 0, centers=[question.center])["centers"]
        if not isinstance(summary, Mapping):
            raise coded(MEASURES, "the summary is no mapping")
        _check_scope(summary.get("centers"), scopes, "summary's centers")
    return table, summary


def _check_table(table: Table, center: str, columns: Mapping[str, Column]) -> None:
    if columns and set(table) != set(columns):
        raise coded(MEASURES, f"the table's columns are not {', '.join(columns)}")
    wrong = [name for name, rule in columns.items() if not _fits(table[name], rule)]
    if wrong:
        raise coded(MEASURES, f"columns hold what cannot have been measured: {', '.join(wrong)}")
    if not (np.asarray(table.get("center", [])) == center).all():
        raise coded(MEASURES, "rows of the table stand in another center's name")


def _fits(values: NDArray[Any], rule: Column) -> bool:
    if values.dtype.kind != rule.empty().dtype.kind or values.shape[1:] != rule.empty().shape[1:]:
        return False
    if rule.is_text:
        return not rule.choices or set(values.tolist()) <= set(rule.choices)
    is_inside = (values >= rule.least) & (values <= rule.most) & np.isfinite(values)
    return bool((is_inside | np.isnan(values) if rule.is_optional else is_inside).all())


def _check_scope(scope: Any, wanted: Mapping[str, Any], place: str) -> None:
    """Hold a scope against that of a center without a radiograph, which lists all that there can be."""
    if not isinstance(scope, Mapping) or set(scope) != set(wanted):
        raise coded(MEASURES, f"the {place} must list {', '.join(wanted)}, and nothing else")
    for name, below in wanted.items():
        if below is None and not isinstance(scope[name], Mapping):
            raise coded(MEASURES, f"the scope of {name} is no mapping")
        if below is not None and "value" not in below:
            _check_scope(scope[name], below, name)
        elif below is not None and not is_entry(scope[name], name):
            raise coded(MEASURES, f"{place} holds no {name} that can have been measured")


def is_entry(entry: Any, metric: str) -> bool:
    """Whether ``entry`` is one of ``metrics.json``: a value in the metric's range, or why there is none."""
    if not isinstance(entry, Mapping) or type(entry.get("n")) is not int or not 0 <= entry["n"] <= MOST:
        return False
    keys = set(entry) - _OPTIONAL
    if any(type(entry[key]) is not int or not 0 <= entry[key] <= MOST for key in _OPTIONAL & set(entry)):
        return False
    if entry.get("value") is None:
        has_reason = isinstance(entry.get("reason"), str) and len(entry["reason"]) <= _LONGEST_REASON
        return has_reason and keys == {"value", "ci", "n", "reason"} and entry["ci"] is None
    numbers = [entry["value"], *(entry["ci"] if isinstance(entry.get("ci"), list) else [])]
    least, most = range_of(metric)
    if keys != {"value", "ci", "n"} or not all(is_number(one) and least <= one <= most for one in numbers):
        return False
    if entry["ci"] is None:
        return True
    return len(numbers) == 3 and numbers[1] <= numbers[2] and bool(entry["n"] >= FEWEST_PATIENTS)


def of_task(sifted: Sifted[tuple[Table | None, Summary | None]], task: str, asked: Sequence[str]) -> Measured:
    """Return what was measured of one task, who of those asked did not, and what was refused."""
    own = {center: answer for (name, center), answer in sorted(sifted.answers.items()) if name == task}
    return Measured(
        tables={center: table for center, (table, _) in own.items() if table is not None},
        summaries={center: summary for center, (_, summary) in own.items() if summary is not None},
        missing=[center for center in asked if center not in own],
        rejections=[rejection for rejection in sifted.rejections if rejection.task in (task, "")],
    )
