"""Tasks with an answer on paper: center k holds 1/2 a_k |w - b_k|^2 and n_k patients."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ramw_fed.data.cohort import Cohort
from ramw_fed.tasks.task import TEXT, Column, Contributions, Sums, Table, Task

START = 0.3


@dataclass(frozen=True)
class Parabola:
    curvature: float
    minimum: tuple[float, ...]
    patients: int = 1


class ToyExamples:
    """One row a patient, all alike: a target and a curvature."""

    def __init__(self, center: str, parabola: Parabola | None) -> None:
        rows = parabola.patients if parabola else 0
        self.parabola = parabola
        self.patients: NDArray[np.str_] = np.array([f"{center}-{row}" for row in range(rows)], np.str_)
        self.names = self.patients

    def __len__(self) -> int:
        return len(self.patients)

    def batch(self, rows: NDArray[np.int64], *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        assert self.parabola is not None
        target = torch.tensor(self.parabola.minimum, dtype=torch.float64)
        inputs = torch.full((len(rows), 1), self.parabola.curvature, dtype=torch.float64)
        return inputs, target.expand(len(rows), -1)


class Point(nn.Module):
    """A point that learns to lie at the minimum; counts its calls, and keeps a running variance, as BatchNorm does."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((size,), START, dtype=torch.float64))
        self.register_buffer("running_var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, curvature: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked += 1
        # The trainer hands float32 logits to a loss: keep a float64 gradient by weighing it here.
        return _Double.apply(self.w.expand(len(curvature), -1), curvature)


class _Double(torch.autograd.Function):
    """Gives w; its gradient is the curvature times what comes back."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, curvature: Tensor) -> Tensor:
        ctx.save_for_backward(curvature)
        return w.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (curvature,) = ctx.saved_tensors
        return grads[0] * curvature, None


def half_square(logits: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (logits.double() - targets).square().sum(dim=1).mean()


def make_task(name: str, parabolas: Mapping[str, Parabola], dtype: torch.dtype = torch.float64) -> Task:
    size = max(len(parabola.minimum) for parabola in parabolas.values())

    def examples(cohort: Cohort, split: str, _config: Any) -> ToyExamples:
        center = cohort.centers[0]
        return ToyExamples(center, parabolas.get(center))

    def validate(model: Point, examples: ToyExamples, _config: Any, _device: torch.device) -> Sums:
        assert examples.parabola is not None
        distance = model.w.detach() - torch.tensor(examples.parabola.minimum)
        loss = float(0.5 * examples.parabola.curvature * distance.square().sum())
        return {"loss": loss * len(examples), "patients": float(len(examples))}

    def measure(model: Point, cohort: Cohort, split: str, _config: Any, _device: torch.device) -> Table:
        center = cohort.centers[0]
        rows = parabolas[center].patients if center in parabolas else 0
        return {
            "center": np.array([center] * rows, np.str_),
            "value": np.full(rows, float(model.w.detach()[0])),
        }

    def summarize(table: Table, *_: Any, **__: Any) -> dict[str, Any]:
        values, centers = np.asarray(table["value"]), np.asarray(table["center"])
        scope = {"value": {"value": float(values.mean()), "ci": None, "n": len(values)}}
        own = {
            center: {"value": {"value": float(values[centers == center].mean()), "ci": None, "n": 1}}
            for center in sorted(set(centers.tolist()))
        }
        return {"pooled": scope, "macro": scope, "centers": own}

    return Task(
        name=name,
        label="masks",
        examples=examples,
        network=lambda _description, _config: Point(size).to(dtype),
        loss=lambda _examples, _config: half_square,
        validate=validate,
        quality=lambda sums: -sums["loss"] / sums["patients"] if sums else float("nan"),
        measure=measure,
        summarize=summarize,
        is_plausible=lambda sums, examples: sums.get("patients") == examples and sums["loss"] >= 0,
        columns=lambda *_: {"center": TEXT, "value": Column()},
    )


TWO = make_task("two", {"HMCRD": Parabola(1.0, (0.0,)), "SCGH": Parabola(4.0, (1.0,))})
ALIKE = make_task("alike", {name: Parabola(2.0, (0.7, -0.2)) for name in ("HMCRD", "SCGH", "HU")})
SIX = make_task(
    "six",
    {
        name: Parabola(1.0 + number, (0.1 * number, -0.3 * number), patients=3 + number)
        for number, name in enumerate(("BTXRD", "DHA", "FA", "HMCRD", "HU", "SCGH"))
    },
)
# Networks are float32: in float64 w + (w_k - w) is w_k only up to its last bit.
SINGLE = make_task("single", {"HU": Parabola(1.7, (0.1, -0.7), patients=3)}, torch.float32)
FIVE = make_task(
    "five",
    {
        name: Parabola(1.0, (float(number),), patients=2)
        for number, name in enumerate(("BTXRD", "DHA", "FA", "HU", "SCGH"))
    },
)


def _layers(name: str, minima: Mapping[str, tuple[float, ...]], patients: Mapping[str, int]) -> Task:
    return make_task(name, {center: Parabola(1.0, minima[center], patients[center]) for center in minima})


_FOUR = ("BTXRD", "DHA", "FA", "HMCRD")
_COUNTS = dict(zip(_FOUR, (50, 50, 100, 200), strict=True))
_ONES = dict.fromkeys(_FOUR, 1)
_MINIMA = dict(zip(_FOUR, ((1.0, 1.0), (1.0, 2.0), (3.0, 3.0), (4.0, 4.0)), strict=True))
COUNTED = _layers("counted", _MINIMA, _COUNTS)
EQUAL = _layers("equal", _MINIMA, _ONES)
VECTORS = _layers(
    "vectors",
    {"BTXRD": (3, 8, 8, 3, 1, 4), "DHA": (0.4, 1.6, 2, 1, 0.1, 1), "FA": (2, 5, 5, 3, 1, 6)},
    {"BTXRD": 1, "DHA": 1, "FA": 3},
)


def _die(_examples: Any, _config: Any) -> Any:
    os._exit(7)


def _fail(_examples: Any, _config: Any) -> Any:
    raise ValueError("/data/SMITH_JOHN_19480312.dcm cannot be read")


def _prepare_elsewhere(examples: Any, _config: Any) -> Any:
    """Prepare a batch in another process, as centers with a GPU do."""
    (batch,) = DataLoader([1.0], batch_size=None, num_workers=1)
    assert batch == 1.0
    return half_square


_PAIR = {name: Parabola(1.0, (0.0,)) for name in ("HU", "FA")}
DEADLY = replace(make_task("deadly", _PAIR), loss=_die)
FAILING = replace(make_task("failing", _PAIR), loss=_fail)
PARENTAL = replace(make_task("parental", _PAIR), loss=_prepare_elsewhere)


class SmallNet(nn.Module):
    """Two convolutions and a linear layer, as in FL4Health's tests/losses/test_weight_drift_loss.py; gives their sum.

    150 + 6 + 2400 + 16 + 8192 + 32 = 10796 parameters; its buffers run away while it trains.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.norm = nn.BatchNorm2d(6, affine=False)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 4 * 4, 32)

    def forward(self, curvature: Tensor) -> Tensor:
        if self.training:
            self.norm.running_mean += 1000.0  # type: ignore[operator]
            self.norm.running_var += 1000.0  # type: ignore[operator]
        total = torch.stack([param.sum() for param in self.parameters()]).sum()
        return total.expand(len(curvature))


def _make_small(name: str, slope: float) -> Task:
    """Every weight has the gradient ``-slope``, so that a step of plain descent at rate .1 moves it by ``slope`` / 10.

    BTXRD alone has a row; DHA has two, in one batch.
    """
    rows = {"BTXRD": Parabola(1.0, (0.0,)), "DHA": Parabola(1.0, (0.0,), patients=2)}

    def measure(_model: SmallNet, cohort: Cohort, *_: Any) -> Table:
        center = cohort.centers[0]
        count = rows[center].patients if center in rows else 0
        return {"center": np.array([center] * count, np.str_), "value": np.zeros(count)}

    return replace(
        make_task(name, rows),
        network=lambda _description, _config: SmallNet().double(),
        loss=lambda _examples, _config: lambda logits, _targets: -slope * logits.mean(),
        validate=lambda _model, examples, *_: {"loss": 0.0, "patients": float(len(examples))},
        measure=measure,
    )


STEADY = _make_small("steady", 1.0)
STILL = _make_small("still", 0.0)


class Normed(nn.Module):
    """A batch normalisation and a line: what a center says depends on whose statistics it uses."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.line = nn.Linear(1, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.line(self.norm(inputs))


class NormedExamples:
    """Rows of one center: inputs around its own place and of its own spread, targets from -1 to 1."""

    def __init__(self, center: str, place: float, spread: float, rows: int) -> None:
        self.patients: NDArray[np.str_] = np.array([f"{center}-{row}" for row in range(rows)], np.str_)
        self.names = self.patients
        self.targets = torch.linspace(-1, 1, rows)[:, None]
        self.inputs = place + spread * self.targets

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, rows: NDArray[np.int64], *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        return self.inputs[torch.from_numpy(rows)], self.targets[torch.from_numpy(rows)]


def _square(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits - targets).square().mean()


def make_normed(name: str, places: Mapping[str, tuple[float, float, int]], testers: tuple[str, ...] = ()) -> Task:
    """A task whose centers differ in (place, spread, rows); ``testers`` have nothing to train on."""
    known = {**places, **dict.fromkeys(testers, (0.0, 1.0, 2))}

    def examples(cohort: Cohort, split: str, _config: Any) -> NormedExamples:
        (center,) = cohort.centers
        place, spread, rows = known.get(center, (0.0, 1.0, 0))
        return NormedExamples(center, place, spread, rows if center in places or split == "test" else 0)

    def logits(model: Normed, of: NormedExamples) -> Tensor:
        with torch.inference_mode():
            return model.eval()(of.inputs)

    def validate(model: Normed, own: NormedExamples, _config: Any, _device: torch.device) -> Sums:
        return {"loss": float(_square(logits(model, own), own.targets)) * len(own), "patients": float(len(own))}

    def measure(model: Normed, cohort: Cohort, split: Any, _config: Any, _device: torch.device) -> Table:
        (center,) = cohort.centers
        own = examples(cohort, split, None)
        values = logits(model, own)[:, 0].double().numpy() if len(own) else np.zeros(0)
        return {"center": np.array([center] * len(own), np.str_), "value": values}

    return replace(
        make_task(name, {center: Parabola(1.0, (0.0,)) for center in known}),
        examples=examples,
        network=lambda _description, _config: Normed(),
        loss=lambda _examples, _config: _square,
        validate=validate,
        measure=measure,
    )


_PLACES = {
    name: (float(number), 1.0 + number, 4 + number)
    for number, name in enumerate(("BTXRD", "DHA", "FA", "HMCRD", "HU", "SCGH"))
}
NORMED = make_normed("normed", _PLACES)
PLACED = make_normed("placed", {name: (spread, 1.0, rows) for name, (_, spread, rows) in _PLACES.items()})
IDLE = make_normed("idle", {name: place for name, place in _PLACES.items() if name != "HU"}, testers=("HU",))


class Bare(nn.Module):
    """A point without statistics of patients; float32, as networks are."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((size,), START))

    def forward(self, curvature: Tensor) -> Tensor:
        return self.w.expand(len(curvature), -1) * curvature.float()


BARE = replace(SIX, name="bare", network=lambda _description, _config: Bare(2))
OTHER = replace(BARE, name="other")
PEEKING = replace(BARE, name="peeking", loss=lambda examples, _config: half_square if len(examples) else None)


def _loss_rows(model: Bare, examples: ToyExamples, _config: Any, _device: torch.device) -> NDArray[np.float64]:
    """A patient's loss, cut at 4 and counted from 2; all patients of a center are alike."""
    (one,) = {BARE.validate(model, examples, None, _device)["loss"] / len(examples)}
    return np.full((len(examples), 1), min(one, 4.0) / 2 - 1)


PAID = replace(
    BARE,
    name="paid",
    contributions=Contributions(
        names=("loss",),
        rows=_loss_rows,
        sums=lambda noisy, patients, _noise: {"loss": 2 * (noisy["loss"] + patients), "patients": float(patients)},
    ),
)
DUE = replace(PAID, name="due")


def _train_only(cohort: Cohort, split: str, config: Any) -> ToyExamples:
    center = cohort.centers[0]
    return ToyExamples(center, None) if (center, split) == ("HU", "val") else PAID.examples(cohort, split, config)


LACKING = replace(PAID, name="lacking", examples=_train_only)
