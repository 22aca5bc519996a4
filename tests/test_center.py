"""A center: only its own radiographs, the same bytes twice, other draws than its peers."""

import pytest
import torch

from ramw_fed.center import Center, initial_weights
from ramw_fed.config import RunConfig
from ramw_fed.config_sources import resolve
from ramw_fed.data.cohort import Cohort
from ramw_fed.methods import get_method
from ramw_fed.rounds import federate
from ramw_fed.tasks import get_task

TINY = {
    "device": "cpu",  # on a GPU other warnings come, and warnings are errors
    "num-rounds": 2,
    "local-epochs": 1,
    "batch-size": 4,
    "image-size": 32,
    "crop-size": 16,
    "augmentation": "none",
    "segmentation": {"depth": 3, "decoder-width": 8},
}


def centers(cohort: Cohort, config: RunConfig, names: tuple[str, ...] = ()) -> list[Center]:
    return [Center(name, cohort, config, get_method(config.method)) for name in names or cohort.centers]


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return resolve({**TINY, "proximal-mu": 0.0})


def test_a_center_holds_its_own_radiographs_only(phantom_cohort: Cohort, config: RunConfig) -> None:
    for center in centers(phantom_cohort, config):
        assert {radiograph.center for radiograph in center.cohort.radiographs} == {center.name}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_fedprox_with_mu_zero_is_fedavg_bit_for_bit(phantom_cohort: Cohort, norm: str) -> None:
    task = get_task("segmentation")
    ends = []
    for method in ({"method": "fedavg"}, {"method": "fedprox", "proximal-mu": 0.0}):
        config = resolve({**TINY, "norm": norm, **method})
        start = initial_weights(task, phantom_cohort.description, config)
        own = centers(phantom_cohort, config, ("FA", "HU"))
        ends.append(federate(own, get_method(config.method), task, start, 2).weights)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_one_center_federated_alone_is_local_training(phantom_cohort: Cohort, config: RunConfig) -> None:
    task = get_task("erosion")
    start = initial_weights(task, phantom_cohort.description, config)
    center = centers(phantom_cohort, config, ("HMCRD",))[0]
    federated = federate([center], get_method("fedavg"), task, start, 2).weights
    local = center.train(task, center.train(task, start, 1).weights, 2).weights
    assert all(torch.equal(federated[name], local[name]) for name in local)


def test_two_centers_with_the_same_images_draw_in_different_orders(phantom_cohort: Cohort, config: RunConfig) -> None:
    task = get_task("erosion")
    start = initial_weights(task, phantom_cohort.description, config)
    first = centers(phantom_cohort, config, ("HMCRD",))[0]
    second = Center("HMCRD", phantom_cohort, config, get_method("fedprox"))
    same = first.train(task, start, 1).weights
    assert all(torch.equal(same[name], tensor) for name, tensor in second.train(task, start, 1).weights.items())
    second.name = "FA"  # the name is part of the seed
    other = second.train(task, start, 1).weights
    assert not all(torch.equal(same[name], other[name]) for name in same)


def test_a_stronger_proximal_term_keeps_a_center_nearer(phantom_cohort: Cohort) -> None:
    task = get_task("segmentation")
    drifts = []
    for mu in (0.0, 10.0):
        config = resolve({**TINY, "proximal-mu": mu, "optimizer": "sgd", "learning-rate": 0.05})
        start = initial_weights(task, phantom_cohort.description, config)
        drifts.append(centers(phantom_cohort, config, ("HU",))[0].train(task, start, 1).squared_drift)
    assert 0 < drifts[1] < drifts[0]
