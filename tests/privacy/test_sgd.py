"""Patient-level DP-SGD on the path on which the product trains.

Wanted numbers are worked by hand, come from Opacus' own per-example gradients, or from plain training.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from scipy import stats
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from ramw_fed.config import ErosionConfig, SegmentationConfig, TrainingConfig
from ramw_fed.errors import PrivacyError
from ramw_fed.learning.corrections import proximal
from ramw_fed.learning.losses import dice_bce
from ramw_fed.learning.models import erosion_network, segmentation_network
from ramw_fed.learning.training import TrainingLog, train_round
from ramw_fed.privacy.randomness import seeded
from ramw_fed.privacy.sgd import NoisyOptimizer, PatientSteps, check_network, clip_factor

CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    optimizer="sgd", learning_rate=1.0, final_learning_rate=1.0, weight_decay=0.0, num_rounds=1, local_epochs=1
)


class Table:
    """Images and a target each; remembers what it was asked for."""

    def __init__(self, inputs: Tensor, targets: Tensor, patients: Sequence[str]) -> None:
        self.inputs, self.targets = inputs, targets
        self.patients = np.array(patients, np.str_)
        own = [patients[:row].count(patient) for row, patient in enumerate(patients)]
        self.names = np.array([f"{patient} {number}" for patient, number in zip(patients, own, strict=True)], np.str_)
        self.asked: list[tuple[list[int], tuple[int, int] | None]] = []

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: np.ndarray, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        self.asked.append((rows.tolist(), augment_key))
        return self.inputs[rows], self.targets[rows]


def images_of(*counts: int, dtype: torch.dtype = torch.float64) -> Table:
    """Return random images ``(1, 6, 6)``, so many of each patient, with targets that have nothing to do with them."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(sum(counts), 1, 6, 6, generator=generator, dtype=dtype)
    targets = (torch.arange(sum(counts)) % 2).to(dtype)
    return Table(inputs, targets, [f"p{place:03}" for place, count in enumerate(counts) for _ in range(count)])


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1)
        ).to(dtype)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.flatten(), targets.to(logits.dtype))


@contextmanager
def in_float64() -> Iterator[None]:
    """Let ``train_round`` hand logits to the loss unrounded: in float32 equality ends at 1e-7."""
    kept = Tensor.float
    Tensor.float = lambda tensor: tensor  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Tensor.float = kept  # type: ignore[method-assign]


def protect(examples: Table, **knobs: Any) -> PatientSteps:
    chosen = {
        "sampling_rate": 1.0,
        "steps": 1,
        "noise_multiplier": 0.0,
        "clip_norm": float("inf"),
        "randomness": seeded("test"),
        "rows_at_once": 1000,
    }
    return PatientSteps(examples.patients, **{**chosen, **knobs})


def train(
    model: nn.Module,
    examples: Table,
    private: PatientSteps | None,
    config: TrainingConfig = CONFIG,
    *,
    mu: float = 0.0,
    round_number: int = 1,
    loss: Any = cross_entropy,
) -> TrainingLog:
    params = [param for param in model.parameters() if param.requires_grad]
    with in_float64():
        return train_round(
            model,
            examples,
            loss,
            config,
            correction=proximal(params, mu) if mu else None,
            key=(0, "squares", round_number, "HU"),
            round_number=round_number,
            device=CPU,
            private=private,
        )


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([param.detach().flatten() for param in model.parameters()])


def step_of(examples: Table, model: nn.Module | None = None, **knobs: Any) -> Tensor:
    """Return what one step of rate 1 took from the weights, times the expected patients: the sum with its noise."""
    model = network(examples.inputs.dtype) if model is None else model
    before = weights_of(model).clone()
    private = protect(examples, **knobs)
    train(model, examples, private)
    return (before - weights_of(model)) * private.expected_patients


def gradient_of(examples: Table, rows: Sequence[int], model: nn.Module | None = None) -> Tensor:
    """Return by autograd alone the gradient of the sum of the rows' losses."""
    model = network(examples.inputs.dtype) if model is None else model
    losses = [cross_entropy(model(examples.inputs[[row]]), examples.targets[[row]]) for row in rows]
    gradients = torch.autograd.grad(torch.stack(losses).sum(), list(model.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize(("count", "rows_at_once"), [(1, 1000), (2, 1000), (40, 1000), (40, 7), (40, 1)])
def test_a_patients_contribution_is_at_most_the_clip_norm_however_many_images_there_are(
    count: int, rows_at_once: int
) -> None:
    examples = images_of(count)
    whole = gradient_of(examples, range(count))
    assert float(whole.norm()) > 0.5
    clipped = step_of(examples, clip_norm=0.01, rows_at_once=rows_at_once)
    assert float(clipped.norm()) <= 0.01 * (1 + 1e-9)
    torch.testing.assert_close(clipped, 0.01 * whole / whole.norm(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(step_of(examples, rows_at_once=rows_at_once), whole)  # unclipped, nothing is lost


def test_each_patient_is_clipped_and_not_the_sum_of_two_that_pull_apart() -> None:
    # w·x pulled by +1e6 and by -3e6: C - C = 0, where clipping the sum would leave -C.
    examples = Table(torch.ones(2, 3, dtype=torch.float64), torch.tensor([1e6, -3e6]).double(), ["a", "b"])
    linear = nn.Linear(3, 1, bias=False).double()
    before = linear.weight.detach().clone()

    def pull(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.flatten() * targets).mean()

    train(linear, examples, protect(examples, clip_norm=0.5), loss=pull)
    assert float((linear.weight.detach() - before).norm()) < 1e-12
    alone = Table(examples.inputs[:1], examples.targets[:1], ["a"])
    train(linear, alone, protect(alone, clip_norm=0.5), loss=pull)
    assert float((linear.weight.detach() - before).norm()) == pytest.approx(0.5, rel=1e-6)


# Opacus hooks the first layer too, whose input is data and has no gradient: torch says so.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_clip_and_sum_are_those_of_opacus_own_gradients_of_each_image() -> None:
    # The per-image gradients come from Opacus' hooks; a bag's is their sum, clipped after it.
    counts = (1, 1, 3, 5)
    examples = images_of(*counts)
    hooked = GradSampleModule(network(), loss_reduction="sum")
    logits = hooked(examples.inputs).flatten()
    functional.binary_cross_entropy_with_logits(logits, examples.targets, reduction="sum").backward()
    each = torch.cat([param.grad_sample.flatten(1) for param in hooked.parameters()], dim=1)
    bags = torch.stack([part.sum(dim=0) for part in each.split(list(counts))])
    clip_norm = float(bags.norm(dim=1).median())
    wanted = (bags * (clip_norm / bags.norm(dim=1, keepdim=True)).clamp(max=1)).sum(dim=0)
    by_image = (each * (clip_norm / each.norm(dim=1, keepdim=True)).clamp(max=1)).sum(dim=0)
    found = step_of(examples, clip_norm=clip_norm, rows_at_once=2)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert float((found - by_image).norm()) > 0.1 * clip_norm


def test_clipping_four_layers_of_twos_gives_the_number_by_hand() -> None:
    # 4 layers of 18 entries: 2 * sqrt(72) = 16.9706, and 2 / 16.9706 = .117851; of ones under C = 9: unchanged.
    model = nn.ParameterList([nn.Parameter(torch.zeros(2, 3, 3)) for _ in range(4)])
    for entry, clip_norm, wanted in ((2.0, 1.0, 0.117851), (1.0, 9.0, 1.0), (0.0, 1.0, 0.0)):
        optimizer = NoisyOptimizer(
            torch.optim.SGD(model.parameters(), lr=1.0),
            model=model,
            noise_multiplier=0.0,
            clip_norm=clip_norm,
            expected_patients=1.0,
            most_steps=1,
            randomness=seeded(0),
        )
        optimizer.zero_grad()
        for param in model:
            param.grad += entry  # type: ignore[operator]
        optimizer.take()
        for total in optimizer.grad_samples:
            torch.testing.assert_close(total, torch.full_like(total, wanted), rtol=0, atol=1e-5 if wanted < 1 else 0)
    assert clip_factor(2 * 72**0.5, 1.0) == pytest.approx(1 / 16.9706, rel=1e-5)


def nothing(logits: Tensor, _targets: Tensor) -> Tensor:
    return 0 * logits.sum()


def test_noise_has_the_variance_that_is_accounted() -> None:
    # 1e5 entries, sigma C = 4 * 0.5 = 2: variance 4 within 3 %; one patient, whose gradient is zero.
    examples = Table(torch.ones(1, 100_000), torch.zeros(1), ["a"])
    linear = nn.Linear(100_000, 1, bias=False)
    before = linear.weight.detach().clone()
    train(linear, examples, protect(examples, noise_multiplier=4.0, clip_norm=0.5), loss=nothing)
    noise = (before - linear.weight.detach()).double().flatten()
    assert float(noise.var()) == pytest.approx(4, rel=0.03)
    assert stats.kstest(noise.numpy() / 2, "norm").pvalue > 1e-3


def test_a_step_without_patients_is_counted_and_adds_noise() -> None:
    examples = images_of(2, 3)
    model = network()
    before = weights_of(model).clone()
    private = protect(examples, sampling_rate=1e-12, steps=3, noise_multiplier=1e-12, clip_norm=1.0)
    log = train(model, examples, private)
    assert (log.steps, private.steps_taken, examples.asked) == (3, 3, [])
    # three sums of noise of deviation 1e-12, each over 2 * 1e-12 expected patients
    assert float((weights_of(model) - before).std()) == pytest.approx(3**0.5 / 2, rel=0.2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_patient_whose_gradient_is_not_finite_contributes_nothing_and_stops_nothing(value: float) -> None:
    examples = images_of(2, 3)
    examples.inputs[3] = value
    log_sum = step_of(examples, clip_norm=0.1)
    whole = gradient_of(examples, (0, 1))
    torch.testing.assert_close(log_sum, 0.1 * whole / whole.norm(), rtol=1e-6, atol=1e-9)


def test_no_loss_is_told_of_protected_patients() -> None:
    examples = images_of(1, 2)
    assert train(network(), examples, protect(examples)).loss is None
    assert train(network(), examples, None).loss is not None


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_without_noise_and_clip_it_is_plain_training(optimizer: str, mu: float) -> None:
    # One image a patient, all of them in each step: the mean over patients is the mean over rows.
    examples = images_of(*[1] * 9)
    rate = 0.5 if optimizer == "sgd" else 0.01
    config = replace(CONFIG, optimizer=optimizer, batch_size=9, local_epochs=4, learning_rate=rate, weight_decay=0.01)
    plain, private, other = network(), network(), network()
    train(plain, examples, None, config, mu=mu)
    train(private, examples, protect(examples, steps=4, clip_norm=1e9), config, mu=mu)
    torch.testing.assert_close(weights_of(private), weights_of(plain), rtol=0, atol=1e-9)
    train(other, examples, protect(examples, steps=4, clip_norm=1e9), config, mu=mu + 1)
    assert float((weights_of(other) - weights_of(plain)).abs().max()) > 1e-4


def test_images_of_a_patient_add_up() -> None:
    # Three images a patient: the sum of the losses over 4 patients is 3 times the mean over 12 rows.
    examples = images_of(3, 3, 3, 3)
    plain, private = network(), network()
    config = replace(CONFIG, batch_size=12, local_epochs=3)
    train(plain, examples, None, replace(config, learning_rate=0.3))
    train(private, examples, protect(examples, steps=3, rows_at_once=2), replace(config, learning_rate=0.1))
    torch.testing.assert_close(weights_of(private), weights_of(plain), rtol=0, atol=1e-9)


def real_network(task: str) -> tuple[nn.Module, Table, Any, TrainingConfig]:
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if task == "segmentation":
            config: Any = SegmentationConfig(image_size=32, norm="group")
            model, channels = segmentation_network(14, config), 1
            targets = (torch.rand(4, 14, 32, 32, generator=generator) < 0.1).double()
            loss: Any = dice_bce
        else:
            config = ErosionConfig(crop_size=32, norm="group")
            model, channels = erosion_network(6, config), 7
            targets = (torch.arange(4) % 2).double()
            loss = cross_entropy
    inputs = torch.randn(4, channels, 32, 32, generator=generator, dtype=torch.float64)
    return model.double(), Table(inputs, targets, ["a", "b", "c", "d"]), loss, config


@pytest.mark.parametrize("task", ["segmentation", "erosion"])
def test_the_default_networks_train_as_without_privacy_where_nothing_protects(task: str) -> None:
    model, examples, loss, config = real_network(task)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = replace(config, batch_size=4, local_epochs=2, optimizer="sgd", learning_rate=0.1)
    train(model, examples, None, config, loss=loss)
    plain = weights_of(model)
    model.load_state_dict(start)
    train(model, examples, protect(examples, steps=2, clip_norm=1e9), config, loss=loss)
    torch.testing.assert_close(weights_of(model), plain, rtol=0, atol=1e-9)
    model.load_state_dict(start)
    before = weights_of(model)
    private = protect(examples, clip_norm=1e-3)
    train(model, examples, private, replace(config, learning_rate=1.0, weight_decay=0.0, warmup_steps=0), loss=loss)
    assert 0 < float((weights_of(model) - before).norm()) <= 1e-3 * (1 + 1e-9)


def test_a_correction_is_added_after_clip_and_noise() -> None:
    # Two steps of zero gradients: w1 = w0 - n1 / N and w2 = w1 - n2 / N - mu (w1 - w0), whatever the clip.
    examples = Table(torch.ones(2, 5), torch.zeros(2), ["a", "b"])
    linear = nn.Linear(5, 1, bias=False).double()
    examples.inputs = examples.inputs.double()
    start = linear.weight.detach().clone()
    private = protect(examples, steps=2, noise_multiplier=1e3, clip_norm=1e-3, randomness=seeded("noise"))
    train(linear, examples, private, mu=0.25, loss=nothing)
    stream = seeded("noise")
    for _ in range(2):
        stream.bernoulli(2, 1.0)
    first, second = (stream.normal((5,), 1.0, CPU).double() / 2 for _ in range(2))
    moved = start - first
    torch.testing.assert_close(linear.weight.detach(), moved - second - 0.25 * (moved - start), rtol=0, atol=1e-7)


def test_a_correction_is_made_once_a_step_however_many_parts_it_has() -> None:
    examples = images_of(5, 4, 1)
    calls: list[bool] = []
    train_round(
        network(torch.float32),
        images_of(5, 4, 1, dtype=torch.float32),
        cross_entropy,
        CONFIG,
        correction=lambda: calls.append(True),
        key=(0, "squares", 1, "HU"),
        round_number=1,
        device=CPU,
        private=protect(examples, steps=3, rows_at_once=2),
    )
    assert len(calls) == 3


def samples(*, seed: str, patients: int = 20, rate: float = 0.3, steps: int = 2000) -> np.ndarray:
    """Return ``(steps, patients)`` whether each patient is in each step, as the steps are drawn."""
    examples = images_of(*[2] * patients)
    private = protect(examples, sampling_rate=rate, steps=steps, randomness=seeded(seed))
    drawn = np.zeros((steps, patients), bool)
    for step, parts in enumerate(private.draw(examples.patients, 1)):
        for part in parts:
            drawn[step, part.rows[0] // 2] = True
    return drawn


def test_patients_are_drawn_independently_as_the_accountant_supposes() -> None:
    drawn = samples(seed="a")
    sizes = Counter(drawn.sum(axis=1).tolist())
    law = stats.binom(20, 0.3)
    observed = [sum(sizes[size] for size in range(3)), *(sizes[size] for size in range(3, 10))]
    expected = [law.cdf(2), *(law.pmf(size) for size in range(3, 10))]
    observed.append(2000 - sum(observed))
    expected.append(1 - sum(expected))
    assert stats.chisquare(observed, np.array(expected) * 2000).pvalue > 1e-3
    assert stats.chisquare(drawn.sum(axis=0), drawn.sum() / 20 * np.ones(20)).pvalue > 1e-3
    pairs = np.corrcoef(drawn.T)[np.triu_indices(20, 1)]
    assert np.abs(pairs).max() < 4.5 / 2000**0.5  # of 190 pairs; shuffled batches of equal size give -1/19 in the mean
    assert abs(pairs.mean()) < 4 / (190 * 2000) ** 0.5
    assert np.abs(np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]) < 4 / 40_000**0.5


def test_every_row_of_a_drawn_patient_is_used_once_and_the_last_part_ends_the_patient() -> None:
    examples = images_of(7, 2)
    (parts,) = protect(examples, rows_at_once=3).draw(examples.patients, 1)
    assert [part.rows.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6], [7, 8]]
    assert [part.ends_patient for part in parts] == [False, False, True, True]


def test_a_patient_looks_different_in_every_step_of_every_round() -> None:
    examples = images_of(2)
    for round_number in (1, 2, 2):
        config = replace(CONFIG, num_rounds=2)
        train(network(), examples, protect(examples, steps=3), config, round_number=round_number)
    keys = [key for _, key in examples.asked]
    assert keys == [(0, number) for number in (0, 1, 2, 3, 4, 5, 3, 4, 5)]


def test_taking_a_patient_away_changes_the_sum_by_no_more_than_the_clip_norm() -> None:
    # Dropout that went on from patient to patient would give those who come later other masks.
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 1)).double()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    examples = images_of(3, 2, 2, 2)
    whole = step_of(examples, model, clip_norm=0.1)
    without = Table(examples.inputs[3:], examples.targets[3:], examples.patients[3:].tolist())
    model.load_state_dict(start)
    difference = float((whole - step_of(without, model, clip_norm=0.1)).norm())
    assert 0.05 < difference <= 0.1 * (1 + 1e-9)


class Partly(nn.Module):
    """A network with a layer that is never used and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.frozen = nn.Linear(36, 1), nn.Linear(4, 4), nn.Linear(36, 36)
        self.frozen.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.used(self.frozen(images.flatten(1)))


def test_unused_parameters_get_noise_all_the_same_and_frozen_ones_stay() -> None:
    model = Partly().double()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    examples = images_of(1, 1)
    private = protect(examples, noise_multiplier=1.0, clip_norm=1.0)
    train(model, examples, private)
    assert torch.equal(model.frozen.weight, start["frozen.weight"])
    moved = (model.unused.weight - start["unused.weight"]).detach() * 2
    assert 0.5 < float(moved.std()) < 1.5
    assert not any(hasattr(param, "summed_grad") or param.grad is not None for param in model.parameters())


def test_the_learning_rate_falls_over_the_private_steps() -> None:
    # A gradient of 1 in every step: the weight falls by the sum of the rates .5 (1 + cos(pi s / 4)), s = 0..3, by hand.
    examples = Table(torch.ones(1, 1).double(), torch.zeros(1), ["a"])
    linear = nn.Linear(1, 1, bias=False).double()
    before = float(linear.weight.detach())
    config = replace(CONFIG, final_learning_rate=0.0)
    train(linear, examples, protect(examples, steps=4), config, loss=lambda logits, _: logits.mean())
    assert before - float(linear.weight.detach()) == pytest.approx(1 + 0.853553 + 0.5 + 0.146447, abs=1e-5)


def test_a_moving_average_is_of_noisy_weights() -> None:
    examples = images_of(1, 1)
    ends, means = network(), network()
    for model, average in ((ends, 0.0), (means, 0.9)):
        private = protect(examples, steps=5, noise_multiplier=1.0, clip_norm=0.1)
        train(model, examples, private, replace(CONFIG, average=average))
    start = weights_of(network())
    assert 0 < float((weights_of(means) - start).norm()) < float((weights_of(ends) - start).norm())


class Remembering(nn.Module):
    """A layer that keeps a mean of what it saw, under a name that tells nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.linear = nn.Linear(36, 1)

    def forward(self, images: Tensor) -> Tensor:
        self.seen += images.detach().mean()
        return self.linear(images.flatten(1))


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4),
        frozen(nn.BatchNorm2d(4)),
        frozen(nn.BatchNorm2d(4)).eval(),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.SyncBatchNorm(4),
        BatchNormAct2d(4),
        FrozenBatchNorm2d(4),
        nn.InstanceNorm2d(4, track_running_stats=True),
    ],
    ids=str,
)
def test_layers_that_keep_statistics_of_patients_are_refused_by_name(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), layer)
    with pytest.raises(PrivacyError, match=r"the layers 1 keep statistics of patients.*norm = 'group'"):
        check_network(model)


def test_group_normalisation_passes_our_check_and_opacus() -> None:
    for task in ("segmentation", "erosion"):
        model = real_network(task)[0]
        check_network(model)
        assert ModuleValidator.validate(model) == []
    frozen_batch_norm = nn.Sequential(frozen(nn.BatchNorm2d(4)))
    assert ModuleValidator.validate(frozen_batch_norm) == []  # why our own check is there
    with pytest.raises(PrivacyError):
        check_network(frozen_batch_norm)


def test_group_normalisation_in_place_of_batch_normalisation_changes_nothing_else() -> None:
    def made(norm: str) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return dict(erosion_network(6, ErosionConfig(crop_size=32, norm=norm)).state_dict())

    with torch.random.fork_rng(devices=[]):
        batch, group = made("batch"), made("group")
    gone = set(batch) - set(group)
    assert {name.rpartition(".")[2] for name in gone} == {"running_mean", "running_var", "num_batches_tracked"}
    assert set(group) < set(batch)
    assert all(torch.equal(group[name], batch[name]) for name in group)


def test_a_buffer_that_training_changes_is_refused_before_anything_leaves() -> None:
    examples = images_of(1, 1, dtype=torch.float32)
    with pytest.raises(PrivacyError, match="changed the buffers seen"):
        train(Remembering(), examples, protect(examples))


def test_noise_is_added_by_one_optimizer_only() -> None:
    examples, model = images_of(1), network()
    private = protect(examples)
    wrapped = private.wrap(model, torch.optim.SGD(model.parameters()))
    with pytest.raises(PrivacyError, match="already"):
        private.wrap(model, torch.optim.SGD(model.parameters()))
    for again in (wrapped, DPOptimizer(wrapped, noise_multiplier=1, max_grad_norm=1, expected_batch_size=1)):
        with pytest.raises(PrivacyError, match="already"):
            protect(examples).wrap(model, again)
    with pytest.raises(PrivacyError, match="hooks"):
        check_network(GradSampleModule(network()))


def test_more_steps_than_are_accounted_are_refused_and_fewer_too() -> None:
    examples, model = images_of(1), network()
    private = protect(examples, steps=2)
    optimizer = private.wrap(model, torch.optim.SGD(model.parameters()))
    with pytest.raises(PrivacyError, match="zero_grad"):
        optimizer.step()
    optimizer.zero_grad()
    optimizer.step()
    with pytest.raises(PrivacyError, match="1 steps were taken, and 2"):
        private.finish()
    for attempt in (private.take, optimizer.step):  # the sum is the last step's
        with pytest.raises(PrivacyError, match="zero_grad"):
            attempt()
    optimizer.zero_grad()
    optimizer.step()
    optimizer.zero_grad()
    with pytest.raises(PrivacyError, match="more than the 2"):
        optimizer.step()


def test_a_gradient_that_was_put_elsewhere_is_not_overlooked() -> None:
    examples, model = images_of(1), network()
    private = protect(examples)
    private.wrap(model, torch.optim.SGD(model.parameters())).zero_grad()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    with pytest.raises(PrivacyError, match="elsewhere"):
        private.take()


def test_parameters_that_the_optimizer_does_not_hold_are_refused() -> None:
    examples, model = images_of(1), network()
    with pytest.raises(PrivacyError, match="all trainable parameters"):
        protect(examples).wrap(model, torch.optim.SGD(model[0].parameters()))
    model[0].float()
    with pytest.raises(PrivacyError, match="one type"):
        protect(examples).wrap(model, torch.optim.SGD(model.parameters()))


def test_rows_of_nobody_and_rows_of_others_are_refused() -> None:
    examples = images_of(1, 2)
    with pytest.raises(PrivacyError, match="not those whose patients"):
        train(network(), images_of(1, 3), protect(examples))
    for patients in (["a", ""], []):
        with pytest.raises(PrivacyError, match="must be a patient's"):
            protect(Table(torch.zeros(len(patients), 1), torch.zeros(len(patients)), patients))


def test_rows_that_take_turns_by_class_are_refused() -> None:
    examples = images_of(2, 2)
    with pytest.raises(PrivacyError, match="sampling = 'shuffled'"):
        train_round(
            network(),
            examples,
            cross_entropy,
            CONFIG,
            correction=None,
            key=(0, "squares", 1, "HU"),
            round_number=1,
            device=CPU,
            groups=np.array([0, 0, 1, 1]),
            private=protect(examples),
        )


@pytest.mark.parametrize(
    "knobs",
    [
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.1},
        {"steps": 0},
        {"rows_at_once": 0},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": float("nan")},
        {"clip_norm": 0.0},
        {"clip_norm": float("nan")},
        {"noise_multiplier": 1.0, "clip_norm": float("inf")},
    ],
    ids=str,
)
def test_numbers_out_of_their_range_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError, match="is wanted"):
        protect(images_of(1), **knobs)
