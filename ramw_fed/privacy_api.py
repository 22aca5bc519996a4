"""The verbs of privacy as functions: what ``ramw-fed privacy`` calls, and a notebook may."""

import json
from pathlib import Path

from ramw_fed.api import placed
from ramw_fed.config import RunConfig
from ramw_fed.errors import CohortError, ConfigError
from ramw_fed.federation.opening import PARTITION, Opened, open_account, open_center, run_tasks, simulated_centers
from ramw_fed.privacy.audit.run import Audit, run_audit
from ramw_fed.privacy.ledger_folder import Shelf
from ramw_fed.privacy.planning import CenterPlan, plan_center, plan_steps, with_ledger
from ramw_fed.privacy.workload import run_workloads, validations
from ramw_fed.privacy_reconstruction import reconstruct
from ramw_fed.progress import Watch, nobody


def plan_run(config: RunConfig, *, watch: Watch = nobody) -> list[CenterPlan]:
    """Return what a run would draw from each of its centers, before it starts; nothing is spent by asking.

    Args:
        config: Without ``cohort`` the phantom of its table is used, and made where the cache has none.
        watch: Told how far each phase is.

    Raises:
        ConfigError: The run protects nobody.
        CohortError: No center has a patient to train on.
        PrivacyError: No noise reaches the target at a center.
        LedgerError: A center has a ledger that cannot be trusted.
    """
    if not config.is_private:
        raise ConfigError("the run protects no patient, so there is no noise to plan; set privacy = 'patient'")
    config = placed(config, watch)
    plans = []
    names = simulated_centers(config)
    for number, name in enumerate(names):
        watch("centers planned", number, len(names))
        plan = _plan_center(name, open_center({PARTITION: number}, config), config)
        plans += [plan] if plan else []
    watch("centers planned", len(names), len(names))
    if not plans:
        raise CohortError(f"no center of {config.cohort} has a patient to train on; check its labels and splits")
    return plans


def _plan_center(name: str, opened: Opened, config: RunConfig) -> CenterPlan | None:
    """Return None for a center without training patients: the run draws nothing from it."""
    if opened.center is None:
        raise CohortError(f"no radiographs of {name!r} were found; check the cohort")
    counts = {task.name: opened.center.num_training_patients(task) for task in run_tasks(config).values()}
    workloads = run_workloads(config, counts)
    if not workloads:
        return None
    account = None if Shelf(opened.ledgers, name).is_empty else open_account(opened, config)
    plan = plan_center(
        workloads,
        center=name,
        patients=len({radiograph.patient for radiograph in opened.center.cohort.radiographs}),
        target=config.target_epsilon or None,
        noise_multiplier=config.noise_multiplier or None,
        delta=account.delta if account else config.delta or None,
        validations=validations(config, workloads),
    )
    if account is None:
        return plan
    ledger = account.ledger
    return with_ledger(plan, cap=ledger.cap, delta=ledger.delta, before=ledger.events())


def audit(
    config: RunConfig | None = None, *, epsilon: float | None = None, out: Path | None = None, watch: Watch = nobody
) -> Audit:
    """Attack the installed training, and measure what its guarantee rests on.

    Args:
        config: A private run, whose first task is audited with its network and clip norm; by default the defaults.
        epsilon: In place of the run's target.
        out: Folder for ``audit.json`` and what :func:`ramw_fed.privacy_reconstruction.reconstruct` shows.
        watch: Told how many checks are done.

    Raises:
        PrivacyError: The run is not private, or no audit could refuse so large an epsilon.
    """
    found = run_audit(config, epsilon=epsilon, more=[lambda: reconstruct(out, watch=watch).checks], watch=watch)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "audit.json").write_text(json.dumps(found.as_dict(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return found


__all__ = ["CenterPlan", "audit", "plan_run", "plan_steps"]
