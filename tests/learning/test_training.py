import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ramw_fed.config import TrainingConfig
from ramw_fed.errors import ConfigError, RamwFedError
from ramw_fed.learning.inference import predict, predict_images
from ramw_fed.learning.training import learning_rate, pick_device, train_round, warm_up

CPU = torch.device("cpu")
CONFIG = TrainingConfig(batch_size=4, local_epochs=2, num_rounds=3, learning_rate=0.01)


class Squares:
    """Images with a bright left or right half; the label says which. Remembers what it was asked for."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(5)
        self.labels = (torch.arange(count) % 2).float()
        self.images = 0.3 * torch.randn(count, 1, 8, 8, generator=generator)
        self.images[self.labels == 0, :, :, :4] += 1
        self.images[self.labels == 1, :, :, 4:] += 1
        self.patients = self.names = np.arange(count).astype(np.str_)
        self.asked: list[tuple[list[int], tuple[int, int] | None]] = []

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: np.ndarray, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        self.asked.append((rows.tolist(), augment_key))
        return self.images[rows], self.labels[rows]


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(256, 1),
        )


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.flatten(), targets)


def train(model: nn.Module, examples: Squares, config: TrainingConfig = CONFIG, round_number: int = 1, seed: int = 0):
    return train_round(
        model,
        examples,
        loss,
        config,
        correction=None,
        key=(seed, "squares", round_number, "HU"),
        round_number=round_number,
        device=CPU,
    )


def test_groups_take_turns_in_the_steps_and_a_row_that_comes_again_is_varied_anew() -> None:
    examples = Squares(12)
    groups = np.arange(12) >= 10
    train_round(
        network(),
        examples,
        loss,
        CONFIG,
        correction=None,
        key=(0, "squares", 2, "HU"),
        round_number=2,
        device=CPU,
        groups=groups,
    )
    assert [int(groups[rows].sum()) for rows, _ in examples.asked] == [2] * 6
    assert [key for _, key in examples.asked] == [(0, number) for number in range(6, 12)]


def digest(model: nn.Module) -> str:
    hashed = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(name.encode() + tensor.numpy().tobytes())
    return hashed.hexdigest()


def trained(**knobs: object) -> nn.Module:
    model = network()
    train(model, Squares(11), replace(CONFIG, **knobs))  # type: ignore[arg-type]
    return model


def test_a_round_uses_every_row_in_each_pass_and_the_incomplete_batch_too() -> None:
    examples = Squares(11)
    log = train(network(), examples)
    assert (log.steps, log.examples) == (6, 11)
    assert [len(rows) for rows, _ in examples.asked] == [4, 4, 3] * 2
    for start in (0, 3):
        used = [row for rows, _ in examples.asked[start : start + 3] for row in rows]
        assert sorted(used) == list(range(11))
    assert examples.asked[0][0] != examples.asked[3][0]


def test_a_single_left_over_row_joins_the_batch_before() -> None:
    examples = Squares(9)
    train(network(), examples)
    assert [len(rows) for rows, _ in examples.asked] == [4, 5] * 2


def test_passes_are_counted_over_the_whole_federation() -> None:
    examples = Squares(4)
    train(network(), examples, round_number=3)
    assert [key for _, key in examples.asked] == [(0, 4), (0, 5)]


def test_the_loss_falls() -> None:
    model, examples = network(), Squares(40)
    config = replace(CONFIG, local_epochs=5)
    losses = [train(model, examples, config, round_number).loss for round_number in (1, 2, 3)]
    assert losses[2] < 0.5 * losses[0]


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_ones() -> None:
    first, second, other = network(), network(), network()
    train(first, Squares(11))
    torch.rand(7)  # where the global generator stands does not matter
    train(second, Squares(11))
    train(other, Squares(11), seed=1)
    assert digest(first) == digest(second)
    assert digest(first) != digest(other)


def test_another_process_with_two_threads_gives_equal_bytes() -> None:
    program = (
        f"import sys, torch; sys.path.insert(0, {str(Path(__file__).parent)!r}); torch.set_num_threads(2); "
        "import test_training as t; print(t.digest(t.trained()))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == digest(trained())


def test_generator_threads_and_strictness_are_as_before_afterwards() -> None:
    torch.manual_seed(4)
    before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    trained()
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


def test_weights_come_back_contiguous() -> None:
    assert all(tensor.is_contiguous() for tensor in trained().state_dict().values())


def test_each_round_starts_with_an_optimizer_of_its_own() -> None:
    through, resumed = network(), network()
    examples = Squares(11)
    for round_number in (1, 2):
        train(through, examples, round_number=round_number)
    train(resumed, examples, round_number=1)
    again = network()
    again.load_state_dict(resumed.state_dict())
    train(again, examples, round_number=2)
    assert digest(through) == digest(again)


def test_learning_rate_falls_along_half_a_cosine_to_its_final_share() -> None:
    config = TrainingConfig(learning_rate=0.2, final_learning_rate=0.1)
    assert learning_rate(config, 0) == pytest.approx(0.2)
    assert learning_rate(config, 0.5) == pytest.approx(0.11)
    assert learning_rate(config, 1) == pytest.approx(0.02)


def test_the_first_steps_of_a_round_are_shorter_where_a_warm_up_is_set() -> None:
    config = TrainingConfig(warmup_steps=4)
    assert [warm_up(config, step) for step in (0, 1, 3, 4, 100)] == [0.25, 0.5, 1, 1, 1]
    assert warm_up(TrainingConfig(), 0) == 1
    assert digest(trained()) != digest(trained(warmup_steps=4))


def test_a_moving_average_lies_between_start_and_end_and_keeps_counters() -> None:
    plain, averaged = trained(), trained(average=0.9)
    start = network().state_dict()
    ends, means = plain.state_dict(), averaged.state_dict()
    assert digest(plain) != digest(averaged)
    assert torch.equal(ends["1.num_batches_tracked"], means["1.num_batches_tracked"])
    moved = sum(float((ends[name] - start[name]).norm()) for name in ("0.weight", "5.weight"))
    moved_mean = sum(float((means[name] - start[name]).norm()) for name in ("0.weight", "5.weight"))
    assert 0 < moved_mean < moved
    assert not torch.equal(ends["1.running_mean"], means["1.running_mean"])


def test_sgd_takes_the_step_by_hand() -> None:
    # One row batch of all: w - rate * gradient; the rate of the first step is the full one.
    linear = nn.Linear(64, 1)
    flat = nn.Sequential(nn.Flatten(), linear)
    examples = Squares(4)
    value = loss(flat(examples.images), examples.labels)
    slope = torch.autograd.grad(value, linear.weight)[0]
    wanted = linear.weight.detach() - 0.1 * slope
    config = replace(
        CONFIG, optimizer="sgd", learning_rate=0.1, weight_decay=0.0, local_epochs=1, final_learning_rate=1.0
    )
    log = train(flat, examples, config)
    torch.testing.assert_close(linear.weight.detach(), wanted)
    assert log.loss == pytest.approx(float(value.detach()))


def test_a_loss_that_is_not_finite_is_refused_in_words() -> None:
    examples = Squares(8)
    examples.images[3] = float("nan")
    with pytest.raises(RamwFedError, match=r"squares in round 1 is not finite.*learning-rate"):
        train(network(), examples)


def test_a_gpu_is_refused_in_words_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == CPU
    with pytest.raises(ConfigError, match="no GPU"):
        pick_device("cuda")


def test_what_a_network_says_of_a_row_does_not_depend_on_the_others() -> None:
    model, examples = trained(), Squares(13)
    together = torch.cat([logits for _, logits, _ in predict(model, examples, CPU)])
    assert len(together) == 13
    assert torch.equal(together[:8].flip(0), predict_images(model, examples.images[:8].flip(0), CPU))
    for row in range(13):
        assert torch.equal(together[row : row + 1], predict_images(model, examples.images[row : row + 1], CPU))
    assert all(key is None for _, key in examples.asked)
