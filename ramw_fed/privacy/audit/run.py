"""The whole audit of the installed product, check by check."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.table import Table

from ramw_fed.config import TASK_CONFIGS, RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.errors import PrivacyError
from ramw_fed.knobs import required
from ramw_fed.privacy.audit.attacks import Plan, Victims, check_control, check_membership
from ramw_fed.privacy.audit.charges import check_charges
from ramw_fed.privacy.audit.checks import Check
from ramw_fed.privacy.audit.one_training import check_one_run
from ramw_fed.privacy.audit.structure import (
    check_contribution,
    check_correction,
    check_noise,
    check_refusals,
    check_samples,
)
from ramw_fed.progress import Watch, nobody
from ramw_fed.tasks import get_task

EPSILON = 3.0
"""What is audited where neither the command nor a configuration names an epsilon."""
_NOISE_MULTIPLIER = 1.3


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was checked, in order.

    Attributes:
        epsilon: That was claimed.
        checks: One line each.
    """

    epsilon: float
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether every check does."""
        return all(check.holds for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return the audit as ``audit.json`` holds it."""
        return {"epsilon": self.epsilon, "holds": self.holds, "checks": [check.as_dict() for check in self.checks]}

    def table(self) -> Table:
        """Return the audit as a person reads it."""
        table = Table(title="Privacy audit of the installed training")
        for column in ("check", "claimed", "audited", "verdict"):
            table.add_column(column, no_wrap=column == "verdict")
        for check in self.checks:
            style = None if check.holds else "bold red"
            table.add_row(check.name, check.claimed, check.audited, check.verdict, style=style)
        return table


def audited_config(config: RunConfig | None, epsilon: float | None) -> RunConfig:
    """Return the private run whose knobs are audited: ``config``, or the defaults under privacy.

    Raises:
        PrivacyError: ``config`` protects nobody, or has no task that ramw-fed brings along.
    """
    if config is None:
        config = resolve(
            {"privacy": "patient", "norm": "group", "target-epsilon": EPSILON if epsilon is None else epsilon}
        )
    if not config.is_private:
        raise PrivacyError("the configuration has privacy = 'none', so that nothing is claimed; audit a private one")
    if not any(name in TASK_CONFIGS for name in config.tasks):
        raise PrivacyError(
            f"tasks is {', '.join(config.tasks)}: the audit's phantoms have labels for {', '.join(TASK_CONFIGS)} only"
        )
    return config


def run_audit(
    config: RunConfig | None = None,
    *,
    epsilon: float | None = None,
    plan: Plan | None = None,
    more: Sequence[Callable[[], Sequence[Check]]] = (),
    watch: Watch = nobody,
) -> Audit:
    """Audit the installed product.

    Args:
        config: Whose task, network, clip norm and target are audited; by default the product's own.
        epsilon: In place of the configuration's target.
        plan: Of the membership attack.
        more: Further checks, after these.
        watch: Told how many checks are done.
    """
    config = audited_config(config, epsilon)
    if epsilon is None:
        epsilon = config.target_epsilon or EPSILON
    plan = plan or Plan()
    task = get_task(next(name for name in config.tasks if name in TASK_CONFIGS))
    training = config.training(task.name)
    clip_norm = required(training.clip_norm, "clip-norm")
    victims = cache(lambda: Victims(plan, watch=watch))  # two checks share them
    steps: list[Callable[[], Sequence[Check]]] = [
        lambda: [check_noise(config.noise_multiplier or _NOISE_MULTIPLIER, clip_norm)],
        lambda: [check_contribution(clip_norm)],
        lambda: [check_samples()],
        lambda: [check_correction()],
        lambda: [check_refusals()],
        _charges,
        lambda: [check_one_run(task, training, epsilon)],
        lambda: [check_control(victims())],
        lambda: [check_membership(victims(), epsilon, 1 / (10 * plan.members))],
        *more,
    ]
    checks: list[Check] = []
    for done, step in enumerate(steps):
        watch("checks", done, len(steps))
        checks += step()
    watch("checks", len(steps), len(steps))
    return Audit(epsilon=epsilon, checks=tuple(checks))


def _charges() -> list[Check]:
    with tempfile.TemporaryDirectory(prefix="ramw-fed-audit-") as folder:
        return [check_charges(Path(folder) / "ledger")]
