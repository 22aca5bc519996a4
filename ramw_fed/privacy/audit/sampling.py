"""Are the patients of a step an independent sample? From what the training really asked for, step by step."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chi2, norm
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from ramw_fed.data.batches import Examples, Rows

ALARM = 1e-6
"""p-value below which a check fails: a right build is called broken about once in a hundred thousand audits."""

Drawn = NDArray[np.bool_]
"""``(steps, patients)``: who was in which step."""


class Watched:
    """Examples that remember which patients a step asked for, whatever chose them."""

    def __init__(self, examples: Examples) -> None:
        """Watch ``examples``; nothing was asked for yet."""
        self._examples = examples
        self.patients, self.names = examples.patients, examples.names
        self._known = np.unique(examples.patients)
        self._now = np.zeros(len(self._known), np.bool_)
        self._steps: list[NDArray[np.bool_]] = []

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._examples)

    def batch(self, rows: Rows, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Return the examples' batch."""
        self._now[np.searchsorted(self._known, self.patients[rows])] = True
        return self._examples.batch(rows, augment_key=augment_key)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within, every step that any torch optimizer takes ends a sample, also one without a patient."""
        handle = register_optimizer_step_post_hook(self._end_step)
        try:
            yield
        finally:
            handle.remove()

    @property
    def drawn(self) -> Drawn:
        """Who was in which step."""
        return np.array(self._steps, np.bool_).reshape(len(self._steps), len(self._known))

    def _end_step(self, *_: Any) -> None:
        self._steps.append(self._now.copy())
        self._now[:] = False


def sampling_p_values(drawn: Drawn, rate: float, *, steps_per_round: int) -> dict[str, float]:
    """Return how probable such samples are, were every patient in every step with probability ``rate`` by itself.

    Two-sided: samples that are too regular fail as those that are too wild do. ``rate``: as many patients in all;
    ``sizes``: of the samples; ``patients``: how often each one came; ``next step`` and ``next round``: how many
    patients two samples share, of neighbouring steps and of the same step in neighbouring rounds.

    Args:
        drawn: ``(steps, patients)``.
        rate: In (0, 1).
        steps_per_round: After how many steps a round ends.
    """
    steps, patients = drawn.shape
    spread = rate * (1 - rate)
    sizes, times = drawn.sum(axis=1), drawn.sum(axis=0)
    found = {
        "rate": _rate_p_value(int(drawn.sum()), drawn.size, rate),
        "sizes": chi2_p_value(((sizes - patients * rate) ** 2).sum() / (patients * spread), steps),
        "patients": chi2_p_value(((times - steps * rate) ** 2).sum() / (steps * spread), patients),
    }
    for name, lag in (("next step", 1), ("next round", steps_per_round)):
        if steps > lag:
            found[name] = _shared(drawn, rate, lag)
    return found


def _shared(drawn: Drawn, rate: float, lag: int) -> float:
    shared = int((drawn[lag:] & drawn[:-lag]).sum())
    pairs = (len(drawn) - lag) * drawn.shape[1]
    # A step in the middle is in two pairs, which then vary together.
    common = max(len(drawn) - 2 * lag, 0) * drawn.shape[1]
    variance = pairs * (rate**2 - rate**4) + 2 * common * (rate**3 - rate**4)
    return float(2 * norm.sf(abs(shared - pairs * rate**2) / math.sqrt(variance)))


def chi2_p_value(statistic: float, freedom: int) -> float:
    """Return how probable a chi-square so far to one side is; too small fails as too large does."""
    return float(min(1.0, 2 * min(chi2.cdf(statistic, freedom), chi2.sf(statistic, freedom))))


def _rate_p_value(count: int, tosses: int, rate: float) -> float:
    return float(min(1.0, 2 * min(binom.cdf(count, tosses, rate), binom.sf(count - 1, tosses, rate))))


def least(p_values: Mapping[str, float]) -> tuple[str, float]:
    """Return the least of the p-values with its name, multiplied by their number (Bonferroni)."""
    name = min(p_values, key=lambda one: p_values[one])
    return name, min(1.0, p_values[name] * len(p_values))
