"""Training on a synthetic cohort: it shows no patient, so a private run may start from it at no cost."""

from dataclasses import replace
from pathlib import Path

from ramw_fed.config import RunConfig
from ramw_fed.data import layout
from ramw_fed.data.description import read_description
from ramw_fed.errors import ConfigError, PrivacyError
from ramw_fed.starting_weights import given_weights, is_protected
from ramw_fed.tasks import get_task


def for_pretraining(config: RunConfig) -> RunConfig:
    """Return the run that trains on the whole synthetic cohort as one center, whatever method the knobs name.

    Raises:
        PrivacyError: The cohort, or the weights to start from, may show patients: every use of them must be paid for.
        ConfigError: No private run could start from the result: it has batch normalisation.
    """
    _refuse_patients(config)
    batch = [name for name in config.tasks if config.training(name).norm == "batch"]
    if batch:
        raise ConfigError(
            f"norm is 'batch' for {', '.join(batch)}, and no private run can start from that: batch normalisation "
            "mixes patients and keeps their statistics. Set norm = 'group'"
        )
    return replace(config, pool=True, method="fedavg", proximal_mu=None, unseen_batch_norm=None)


def _refuse_patients(config: RunConfig) -> None:
    description = Path(config.cohort) / layout.DESCRIPTION
    if config.cohort and not (description.exists() and read_description(description).kind == "phantom"):
        raise PrivacyError(
            f"the cohort in {config.cohort} is not said to be a phantom (kind in cohort.toml): pretraining on patients "
            "has no privacy that could be accounted for. Leave cohort out to draw the phantom of [phantom], or use "
            "`ramw-fed run`"
        )
    for name in config.tasks:
        found = given_weights(get_task(name), config)
        if found and not (is_protected(found[1]) and found[1].description.kind == "phantom"):
            raise PrivacyError(
                f"start-from = {config.start_from!r} holds {name} weights that patients taught; weights to start "
                "private runs from go back to phantoms alone"
            )
