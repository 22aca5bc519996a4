"""Erosion of a joint, a Sharp/van der Heijde grade above 0, from a crop around it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ramw_fed.config import ErosionConfig
from ramw_fed.data.batches import Examples, Rows
from ramw_fed.data.cohort import Cohort, Description
from ramw_fed.data.packed import pack_crops
from ramw_fed.data.radiograph import Split
from ramw_fed.data.transforms import VARIATIONS, standardize, vary
from ramw_fed.learning.decision import (
    LARGEST_LOGIT,
    PATIENTS,
    calibrated,
    count_logits,
    decide,
    is_count,
    uncalibrated,
)
from ramw_fed.learning.inference import predict, predict_images
from ramw_fed.learning.losses import ORDINAL, ClassCounts, Loss, erosion_logits, erosion_loss
from ramw_fed.learning.models import erosion_head, erosion_network
from ramw_fed.metrics.erosion_scopes import Reading, erosion_tree
from ramw_fed.metrics.erosion_table import ErosionTable
from ramw_fed.tasks.task import TEXT, Column, Contributions, Counts, Sums, Table, Task


class ErosionExamples:
    """Scored joints that have a crop, a row each."""

    def __init__(self, cohort: Cohort, split: Split, config: ErosionConfig) -> None:
        """Take the scored joints of ``split``."""
        self.cohort = EROSION.of(cohort, split)
        self.config = config
        self.crops = pack_crops(self.cohort, config.crop_size, mirror=config.mirror)
        joints = self.cohort.description.joints
        self._places = [
            (row, joint)
            for row, radiograph in enumerate(self.cohort.radiographs)
            for joint, name in enumerate(joints)
            if name in radiograph.scores and self.crops.has_crop(row, joint)
        ]
        owners = [self.cohort.radiographs[row] for row, _ in self._places]
        self.centers = np.array([radiograph.center for radiograph in owners], dtype=np.str_)
        self.patients = np.array([radiograph.patient for radiograph in owners], dtype=np.str_)
        self.names = np.array([radiograph.name for radiograph in owners], dtype=np.str_)
        self.joints = np.array([joints[joint] for _, joint in self._places], dtype=np.str_)
        self.grades = np.array(
            [radiograph.scores[joints[joint]] for radiograph, (_, joint) in zip(owners, self._places, strict=True)],
            dtype=np.int64,
        )

    def __len__(self) -> int:
        """Return the number of joints."""
        return len(self._places)

    @property
    def counts(self) -> ClassCounts:
        """Joints without and with an erosion."""
        positives = int((self.grades > 0).sum())
        return ClassCounts(negatives=len(self) - positives, positives=positives)

    def crop(self, row: int) -> NDArray[np.uint8]:
        """Return a joint's crop ``(S, S)`` as it was packed."""
        return self.crops.crop(*self._places[row])

    def batch(self, rows: Rows, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Return inputs ``(rows, 1 + joints, S, S)`` as ``erosion_network`` wants them, and targets ``(rows,)``.

        A target is 1 for an eroded joint and 0 for another, or the grade where the loss is of grades.
        """
        inputs = torch.stack([self._read(int(row), augment_key) for row in rows])
        targets = self.grades[rows] if self.config.loss in ORDINAL else self.grades[rows] > 0
        return inputs, torch.from_numpy(targets.astype(np.float32))

    def _read(self, row: int, augment_key: tuple[int, int] | None) -> Tensor:
        place, joint = self._places[row]
        variation = None if augment_key is None else VARIATIONS[self.config.augmentation]
        crop, _ = vary(
            torch.from_numpy(self.crops.crop(place, joint))[None] / 255,
            None,
            variation,
            self.config.crop_size,
            key=(*(augment_key or ()), str(self.names[row]), str(self.joints[row])),
            extend=True,
        )
        return with_identity(standardize(crop), joint, len(self.cohort.description.joints))


def with_identity(crop: Tensor, joint: int, num_joints: int) -> Tensor:
    """Add to ``(1, S, S)`` a channel for each joint: 1 everywhere for this one, 0 for the others."""
    identity = torch.zeros(num_joints, *crop.shape[1:])
    identity[joint] = 1
    return torch.cat([crop, identity])


def score_crop(
    model: nn.Module,
    crop: NDArray[np.uint8],
    joint: int,
    description: Description,
    config: ErosionConfig,
    device: torch.device,
) -> float:
    """Return the probability of an erosion in one crop ``(S, S)``, oriented as in training."""
    seen = with_identity(standardize(torch.from_numpy(crop)[None] / 255), joint, len(description.joints))
    logits = erosion_logits(predict_images(model, seen[None], device).double())
    return float(calibrated(logits.numpy(), config)[0])


def validate(model: nn.Module, examples: Examples, config: ErosionConfig, device: torch.device) -> Sums:
    """Return log loss and count of each class, as sums over joints; of clipped logits, so that no joint decides all.

    Where thresholds or probabilities are to be chosen, also the joints by class and logit, and the patients with one.
    """
    logits, is_eroded, losses = _log_losses(model, examples, device)
    sums: dict[str, float] = {}
    for name, chosen in (("eroded", is_eroded), ("intact", ~is_eroded)):
        sums |= {name: float(chosen.sum()), f"log_loss_{name}": float(losses[chosen].sum())}
    if config.asks_for_scores:
        sums |= count_logits(logits.numpy(), is_eroded.numpy())
        sums[PATIENTS] = float(len(np.unique(examples.patients[is_eroded.numpy()])))
    return sums


def _log_losses(model: nn.Module, examples: Examples, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return clipped logit, whether it is eroded, and log loss of each joint, ``(rows,)`` in float64."""
    parts = [
        (erosion_logits(outputs.double()), targets > 0) for _, outputs, targets in predict(model, examples, device)
    ]
    logits = torch.cat([part for part, _ in parts]).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
    is_eroded = torch.cat([part for _, part in parts])
    losses = functional.binary_cross_entropy_with_logits(logits, is_eroded.double(), reduction="none")
    return logits, is_eroded, losses


# With noise: a joint's log loss counts up to this (the truth had a probability of 2 %). More would need more noise,
# less would not tell a poor network from a worse one.
LARGEST_LOSS = 4.0
# Deviations of the noise by which a number of patients must be above 0 before something is divided by it.
_SURE = 2.0


def _loss_rows(
    model: nn.Module, examples: Examples, _config: ErosionConfig, device: torch.device
) -> NDArray[np.float64]:
    """Return ``(patients, 4)``: of eroded and of intact joints the mean log loss and whether there is one, halved.

    The loss is counted from the middle of [0, ``LARGEST_LOSS``], in [-1, 1]; of joints that a patient lacks both are 0.
    """
    _, is_eroded, losses = _log_losses(model, examples, device)
    names, owners = np.unique(examples.patients, return_inverse=True)
    middle = LARGEST_LOSS / 2
    columns: list[NDArray[np.float64]] = []
    for chosen in (is_eroded.numpy(), ~is_eroded.numpy()):
        joints = np.bincount(owners[chosen], minlength=len(names))
        own = losses.numpy()[chosen].clip(max=LARGEST_LOSS) - middle
        total = np.bincount(owners[chosen], own, minlength=len(names))
        columns += [total / np.maximum(joints, 1) / middle, (joints > 0).astype(np.float64)]
    return np.stack(columns, axis=1) / 2  # four numbers of at most 1 are 2 long


def _loss_sums(noisy: Sums, _patients: int, noise_multiplier: float) -> Sums:
    """Return of each class how many patients have a joint of it, and the sum of their mean log losses.

    ``count_variance`` is that of the numbers' noise, which adds up across centers as the sums do.
    """
    sums: dict[str, float] = {"count_variance": (2 * noise_multiplier) ** 2}
    for name in ("eroded", "intact"):
        sums[name] = 2 * noisy[name]
        sums[f"log_loss_{name}"] = LARGEST_LOSS * (noisy[f"log_loss_{name}"] + noisy[name])
    return sums


_SUMS = frozenset({"log_loss_eroded", "eroded", "log_loss_intact", "intact"})


def is_plausible(sums: Sums, examples: int) -> bool:
    """Whether the joints are those that were enrolled, and their log loss is one that clipped logits can have."""
    if not set(sums) >= _SUMS or min(sums.values()) < 0:
        return False
    # log(1 + e^x) is a little more than x.
    worst = {name: (LARGEST_LOGIT + 1e-6) * sums[name] for name in ("eroded", "intact")}
    is_possible = all(sums[f"log_loss_{name}"] <= most for name, most in worst.items())
    return is_possible and sums["eroded"] + sums["intact"] == examples and _counts_add_up(sums)


def _counts_add_up(sums: Sums) -> bool:
    """Whether what came beside the four sums are the joints once more, bin by bin, and no more patients than joints."""
    more = {name: value for name, value in sums.items() if name not in _SUMS}
    if not more:
        return True
    bins = [name for name in more if is_count(name)]
    if set(more) != {PATIENTS, *bins} or not all(value.is_integer() for value in more.values()):
        return False
    found = {name: sum(more[one] for one in bins if f"/{name}/" in one) for name in ("eroded", "intact")}
    is_whole = all(found[name] == sums[name] for name in found)
    return is_whole and (sums["eroded"] > 0) <= more[PATIENTS] <= sums["eroded"]


def quality(sums: Sums) -> float:
    """Return minus the mean of the two classes' mean log loss, so that rare erosions weigh as much as intact joints.

    NaN unless both classes were validated: on one class alone the best model is the one that always names it. Where the
    sums have noise, a class was only if it has clearly more patients than the noise alone would give.
    """
    least = _SURE * math.sqrt(sums.get("count_variance", 0.0))
    if not min(sums.get("eroded", 0.0), sums.get("intact", 0.0)) > least:
        return float("nan")
    return -(sums["log_loss_eroded"] / sums["eroded"] + sums["log_loss_intact"] / sums["intact"]) / 2


def measure(model: nn.Module, cohort: Cohort, split: Split, config: ErosionConfig, device: torch.device) -> Table:
    """Return a row for each scored joint of ``split``: center, patient, name, joint, probability and true grade.

    The probability is the sigmoid of the logit, calibrated where ``temperature`` and ``shift`` were chosen. Under logit
    adjustment the priors stood beside the logit in training only, so the sigmoid is meant for classes of equal prior:
    0.5 is the threshold of least balanced error, at any prevalence.
    A network of grades adds ``predicted_grade``, its most probable one.
    """
    examples = ErosionExamples(cohort, split, config)
    outputs = [part.double() for _, part, _ in predict(model, examples, device)]
    logits = [erosion_logits(part) for part in outputs]
    table: dict[str, NDArray[Any]] = {
        "center": examples.centers,
        "patient": examples.patients,
        "name": examples.names,
        "joint": examples.joints,
        "probability": calibrated(torch.cat([torch.zeros(0, dtype=torch.float64), *logits]).numpy(), config),
        "grade": examples.grades,
    }
    if config.loss in ORDINAL:
        grades = [part.argmax(dim=1) for part in outputs]
        table["predicted_grade"] = torch.cat([torch.zeros(0, dtype=torch.int64), *grades]).numpy()
    return table


def columns(description: Description, config: ErosionConfig) -> dict[str, Column]:
    """Return what the columns of :func:`measure` hold."""
    grade = Column(least=0, most=description.max_grade, is_whole=True)
    return {
        **dict.fromkeys(("center", "patient", "name"), TEXT),
        "joint": Column(is_text=True, choices=description.joints),
        "probability": Column(least=0, most=1),
        "grade": grade,
        **({"predicted_grade": grade} if config.loss in ORDINAL else {}),
    }


def summarize(
    table: Table,
    description: Description,
    config: ErosionConfig,
    resamples: int,
    seed: int,
    *,
    centers: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the scopes of ``metrics.json`` for what :func:`measure` returned at one or more centers.

    Measures of agreement need a column ``predicted_grade``.
    """
    own = ErosionTable(
        centers=tuple(map(str, table["center"])),
        patients=tuple(map(str, table["patient"])),
        radiographs=tuple(map(str, table["name"])),
        joints=tuple(map(str, table["joint"])),
        joint_names=description.joints,
        probabilities=np.asarray(table["probability"], np.float64),
        grades=np.asarray(table["grade"], np.int64),
        predicted_grades=np.asarray(table["predicted_grade"], np.int64) if "predicted_grade" in table else None,
    )
    reading = Reading(
        threshold=config.threshold,
        own_thresholds=None if config.threshold_rule == "fixed" else config.thresholds(),
        uncalibrated=None if config.calibration == "none" else partial(uncalibrated, config=config),
    )
    return erosion_tree(own, reading, centers=sorted({*own.centers, *centers}), seed=seed, resamples=resamples)


def _network(description: Description, config: ErosionConfig) -> nn.Module:
    num_outputs = description.max_grade + 1 if config.loss in ORDINAL else 1
    return erosion_network(len(description.joints), config, num_outputs=num_outputs)


def _loss(examples: Examples, config: ErosionConfig) -> Loss:
    # Looked at only where the loss reads them: under differential privacy it must not.
    counts = (
        cast(ErosionExamples, examples).counts if config.prior == "local" else ClassCounts(negatives=0, positives=0)
    )
    return erosion_loss(counts, config)


def _counts(examples: Examples, config: ErosionConfig) -> Counts:
    if not config.asks_for_prior:
        return {}
    counts = cast(ErosionExamples, examples).counts
    return {"intact": counts.negatives, "eroded": counts.positives}


def _groups(examples: Examples, config: ErosionConfig) -> NDArray[Any] | None:
    if config.rows == "shuffled":
        return None
    return cast(ErosionExamples, examples).grades > 0 if config.rows == "classes" else examples.patients


def _settle(config: ErosionConfig, counts: Counts) -> ErosionConfig:
    """Take the class counts of all centers as the prior, where the run asked for them."""
    if not config.asks_for_prior:
        return config
    return replace(config, intact_joints=counts.get("intact", 0), eroded_joints=counts.get("eroded", 0))


EROSION = Task(
    name="erosion",
    label="scores",
    examples=ErosionExamples,
    network=_network,
    loss=_loss,
    validate=validate,
    quality=quality,
    measure=measure,
    summarize=summarize,
    is_plausible=is_plausible,
    columns=columns,
    counts=_counts,
    groups=_groups,
    settle=_settle,
    decide=decide,
    head=erosion_head,
    contributions=Contributions(
        names=("log_loss_eroded", "eroded", "log_loss_intact", "intact"), rows=_loss_rows, sums=_loss_sums
    ),
)
