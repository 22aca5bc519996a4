"""FedBN and SiloBN: which tensors stay at a center, and that one center alone trains as it would without others."""

from pathlib import Path

import pytest
import torch

from ramw_fed.center import Center, initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.cohort import Cohort
from ramw_fed.errors import ConfigError
from ramw_fed.methods import FEDAVG, FEDBN, METHODS, SILOBN, Method
from ramw_fed.preflight import refuse_what_cannot_start
from ramw_fed.rounds import federate
from ramw_fed.starting_weights import starting_weights
from ramw_fed.tasks import get_task

TINY = {
    "device": "cpu",
    "num-rounds": 2,
    "local-epochs": 1,
    "image-size": 32,
    "crop-size": 16,
    "segmentation": {"depth": 3, "decoder-width": 8},
}
TASKS = ("segmentation", "erosion")


def configured(method: str, **knobs: object) -> RunConfig:
    return resolve({**TINY, "method": method, **knobs})


def norms_of(task: str, cohort: Cohort) -> dict[str, torch.nn.Module]:
    """The batch normalisations of a built-in task's network, found by their type and not by their tensors' names."""
    network = get_task(task).untrained(cohort.description, configured("fedavg").training(task))
    kind = torch.nn.modules.batchnorm._BatchNorm
    return {name: module for name, module in network.named_modules() if isinstance(module, kind)}


@pytest.mark.parametrize("task", TASKS)
def test_fedbn_keeps_every_tensor_of_every_batch_norm_and_shares_all_others(task: str, phantom_cohort: Cohort) -> None:
    weights = initial_weights(get_task(task), phantom_cohort.description, configured("fedbn"))
    shared, own = FEDBN.part(weights)
    norms = norms_of(task, phantom_cohort)
    wanted = {f"{name}.{key}" for name, norm in norms.items() for key in norm.state_dict()}
    assert len(norms) > 5
    assert set(own) == wanted
    assert set(shared) == set(weights) - wanted
    assert {name.rpartition(".")[2] for name in own} >= {"weight", "bias", "running_mean", "running_var"}


@pytest.mark.parametrize("task", TASKS)
def test_silobn_keeps_statistics_only(task: str, phantom_cohort: Cohort) -> None:
    weights = initial_weights(get_task(task), phantom_cohort.description, configured("silobn"))
    shared, own = SILOBN.part(weights)
    wanted = {
        f"{name}.{key}" for name, norm in norms_of(task, phantom_cohort).items() for key, _ in norm.named_buffers()
    }
    assert set(own) == wanted
    assert not any(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in shared)
    assert set(shared) | set(own) == set(weights)


def test_other_normalisations_and_layers_below_a_batch_norm_are_shared() -> None:
    names = ["norm.weight", "norm.bias", "bn.weight", "bn.running_mean", "bn.act.weight", "running_meaner.weight"]
    assert FEDBN.shared(names) == frozenset(names) - {"bn.weight", "bn.running_mean"}
    assert FEDAVG.shared(names) == frozenset(names)
    assert FEDBN.shared(["weight", "running_mean"]) == frozenset()  # a network that is one batch normalisation


@pytest.mark.parametrize("method", ["fedbn", "silobn"])
@pytest.mark.parametrize("task", TASKS)
def test_one_center_federated_alone_is_local_training(phantom_cohort: Cohort, method: str, task: str) -> None:
    """Oracle 7.2."""
    config, learned = configured(method), get_task(task)
    start = initial_weights(learned, phantom_cohort.description, config)
    center = Center("HMCRD", phantom_cohort, config, METHODS[method])
    federated = federate([center], METHODS[method], learned, start, 2).at("HMCRD")
    local = Center("HMCRD", phantom_cohort, config, FEDAVG)
    wanted = local.train(learned, local.train(learned, start, 1).weights, 2).weights
    assert set(federated) == set(wanted)
    assert all(torch.equal(federated[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("method", ["fedbn", "silobn"])
def test_centers_end_with_the_shared_tensors_of_all_and_statistics_of_their_own(
    phantom_cohort: Cohort, method: str
) -> None:
    config, task = configured(method), get_task("segmentation")
    start = initial_weights(task, phantom_cohort.description, config)
    centers = [Center(name, phantom_cohort, config, METHODS[method]) for name in ("FA", "HU")]
    found = federate(centers, METHODS[method], task, start, 2)
    first, second = found.at("FA"), found.at("HU")
    assert {name for name in first if not torch.equal(first[name], second[name])} <= set(found.own["FA"])
    assert all(
        not torch.equal(first[name], second[name]) for name in first if name.endswith(("running_mean", "running_var"))
    )


@pytest.mark.parametrize("method", ["fedbn", "silobn"])
@pytest.mark.parametrize("table", TASKS)
def test_a_task_with_group_norm_is_refused_with_the_reason(
    phantom_cohort: Cohort, phantom_root: Path, method: str, table: str
) -> None:
    tree = {**TINY, "method": method, "cohort": str(phantom_root)}
    config = resolve({**tree, table: {**TINY.get(table, {}), "norm": "group"}})
    reason = rf"leaves batch normalisation at the centers, and the {table} network has none.*{table}.norm = 'batch'"
    with pytest.raises(ConfigError, match=reason):
        refuse_what_cannot_start(config)
    start = initial_weights(get_task(table), phantom_cohort.description, config)
    centers = [Center("FA", phantom_cohort, config, METHODS[method])]
    with pytest.raises(ConfigError, match=reason):
        federate(centers, METHODS[method], get_task(table), start, 1)
    (other,) = set(TASKS) - {table}
    starting_weights(get_task(other), phantom_cohort.description, config)
    refuse_what_cannot_start(resolve(tree))


def test_a_method_that_shares_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="shares no tensor of the erosion network"):
        Method(name="alone", shared=lambda _names: frozenset()).refuse_unfit("erosion", ["w"])


def test_the_rule_for_unseen_centers_stands_under_the_methods_that_need_one() -> None:
    assert resolve({"method": "fedbn"}).unseen_batch_norm == "refuse"
    assert resolve({"method": "silobn", "unseen-batch-norm": "mean"}).unseen_batch_norm == "mean"
    assert resolve({"method": "fedavg"}).unseen_batch_norm is None
    with pytest.raises(ConfigError, match="unseen-batch-norm does nothing under method 'fedavg'"):
        resolve({"method": "fedavg", "unseen-batch-norm": "mean"})
    with pytest.raises(ConfigError, match="one of refuse, mean, re-estimate, least-entropy is wanted"):
        resolve({"method": "fedbn", "unseen-batch-norm": "median"})
