"""Bones as masks that may overlap: one sigmoid a bone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ramw_fed.config import SegmentationConfig
from ramw_fed.data.batches import Examples, Rows
from ramw_fed.data.cohort import Cohort, Description
from ramw_fed.data.packed import pack
from ramw_fed.data.radiograph import Radiograph, Split
from ramw_fed.data.resizing import fit_image, unfit
from ramw_fed.data.transforms import VARIATIONS, cut_middle, standardize, vary
from ramw_fed.learning.inference import predict, predict_images
from ramw_fed.learning.losses import Loss, dice_bce
from ramw_fed.learning.models import segmentation_head, segmentation_network
from ramw_fed.metrics.joint_space import mean_widths
from ramw_fed.metrics.joint_space_scopes import JOINT_SPACE_KINDS
from ramw_fed.metrics.overlap import dice, overlap_pair_masks
from ramw_fed.metrics.ranges import range_of
from ramw_fed.metrics.segmentation_scopes import SegmentationTable, segmentation_tree
from ramw_fed.metrics.surface import SEGMENTATION_COUNTS, SEGMENTATION_METRICS, segmentation_metrics
from ramw_fed.tasks.task import TEXT, Column, Contributions, Sums, Table, Task

MEASURES = (*SEGMENTATION_METRICS, *SEGMENTATION_COUNTS)
SPACE_COLUMNS = tuple(f"{kind}_{side}" for kind in JOINT_SPACE_KINDS for side in ("predicted", "true"))
Masks = NDArray[np.bool_]


class SegmentationExamples:
    """Radiographs with masks, a row each, at the size of the network."""

    def __init__(self, cohort: Cohort, split: Split, config: SegmentationConfig) -> None:
        """Take the radiographs of ``split`` that have masks."""
        self.cohort = SEGMENTATION.of(cohort, split)
        self.config = config
        self.packed = pack(self.cohort, canvas_size(config), mirror=config.mirror)
        self.names = np.array([radiograph.name for radiograph in self.cohort.radiographs], dtype=np.str_)
        self.patients = np.array([radiograph.patient for radiograph in self.cohort.radiographs], dtype=np.str_)

    def __len__(self) -> int:
        """Return the number of radiographs."""
        return len(self.names)

    def batch(self, rows: Rows, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Return images ``(rows, 1, S, S)`` and masks ``(rows, bones, S, S)`` uint8."""
        pairs = [self._read(int(row), augment_key) for row in rows]
        return torch.stack([image for image, _ in pairs]), torch.stack([masks for _, masks in pairs])

    def _read(self, row: int, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        variation = None if augment_key is None else VARIATIONS[self.config.augmentation]
        image, masks = vary(
            torch.from_numpy(self.packed.image(row))[None] / 255,
            torch.from_numpy(self.packed.masks(row).view(np.uint8)),
            variation,
            self.config.image_size,
            key=(*(augment_key or ()), str(self.names[row])),
        )
        assert masks is not None
        return standardize(image), masks


def canvas_size(config: SegmentationConfig) -> int:
    """Return the side of the packed images: the frame that the network sees, and what lies around it."""
    around = round(config.image_size * (config.field_of_view - 1) / 2)
    return config.image_size + 2 * around


def validate(model: nn.Module, examples: Examples, _config: SegmentationConfig, device: torch.device) -> Sums:
    """Return the sum over patients of the patient's mean Dice at the network's size, and the number of patients."""
    known = [mean for mean in _patient_dice(model, examples, device) if not np.isnan(mean)]
    return {"dsc": float(sum(known)), "patients": float(len(known))}


def _patient_dice(model: nn.Module, examples: Examples, device: torch.device) -> list[float]:
    """Return the mean Dice of each patient, in the order of their names; NaN for one without a bone."""
    values: dict[str, list[float]] = {}
    for rows, logits, targets in predict(model, examples, device):
        for row, predicted, truth in zip(rows, (logits > 0).numpy(), targets.numpy() > 0, strict=True):
            values.setdefault(str(examples.patients[row]), []).append(_mean(dice(predicted, truth)))
    return [_mean(np.array(values[patient])) for patient in sorted(values)]


def _dice_rows(
    model: nn.Module, examples: Examples, _config: SegmentationConfig, device: torch.device
) -> NDArray[np.float64]:
    """Return ``(patients, 1)``: 2 Dice - 1, in [-1, 1]; 0, as for a Dice of a half, for a patient without a bone."""
    return np.nan_to_num(2 * np.array(_patient_dice(model, examples, device), np.float64) - 1)[:, None]


def _dice_sums(noisy: Sums, patients: int, _noise_multiplier: float) -> Sums:
    return {"dsc": (noisy["dsc"] + patients) / 2, "patients": float(patients)}


def quality(sums: Sums) -> float:
    """Return the mean Dice of the patients of all centers; NaN without any."""
    patients = sums.get("patients", 0.0)
    return sums["dsc"] / patients if patients else float("nan")


def is_plausible(sums: Sums, examples: int) -> bool:
    """Whether no patient has more than all of a Dice, and no more have one than there are radiographs."""
    return set(sums) == {"dsc", "patients"} and 0 <= sums["dsc"] <= sums["patients"] <= examples


def measure(model: nn.Module, cohort: Cohort, split: Split, config: SegmentationConfig, device: torch.device) -> Table:
    """Measure every radiograph of ``split`` at its own size.

    Returns:
        ``center``, ``patient``, ``name``; each measure ``(rows, bones)``, and with ``overlap_`` before its name
        ``(rows, pairs)``; ``joint_space_predicted`` and ``joint_space_true`` ``(rows, spaces)`` in mm, and their
        changes since the exam before, ``joint_space_change_predicted`` and ``joint_space_change_true``.
    """
    examples = SegmentationExamples(cohort, split, config)
    radiographs, description = examples.cohort.radiographs, examples.cohort.description

    def predictions() -> Iterator[tuple[Masks, Masks]]:
        for rows, logits, _ in predict(model, examples, device):
            for row, one in zip(rows, logits, strict=True):
                yield _at_native_size(one.sigmoid(), radiographs[row], description, config)

    return tabulate(examples.cohort, predictions(), config)


def columns(description: Description, _config: SegmentationConfig) -> dict[str, Column]:
    """Return what the columns of :func:`measure` hold."""
    widths = {"": len(description.bones), "overlap_": len(description.overlap_pairs)}
    spaces, (least, most) = len(description.joint_spaces), range_of("bias")
    return {
        **dict.fromkeys(("center", "patient", "name"), TEXT),
        **{
            prefix + name: Column(least=range_of(name)[0], most=range_of(name)[1], is_optional=True, width=width)
            for prefix, width in widths.items()
            for name in MEASURES
        },
        **dict.fromkeys(SPACE_COLUMNS, Column(least=least, most=most, is_optional=True, width=spaces)),
    }


def tabulate(cohort: Cohort, pairs: Iterable[tuple[Masks, Masks]], config: SegmentationConfig) -> Table:
    """Measure masks against masks; the columns are those of :func:`measure`.

    Args:
        cohort: A row each of its radiographs.
        pairs: (predicted, truth) of each radiograph, ``(bones, H, W)``.
        config: Knobs of the task.
    """
    description = cohort.description
    indices, spaces = description.overlap_indices(), description.joint_space_indices()
    measured: list[dict[str, NDArray[np.float64]]] = []
    widths_mm: dict[str, list[NDArray[np.float64]]] = {"predicted": [], "true": []}
    for radiograph, (predicted, truth) in zip(cohort.radiographs, pairs, strict=True):
        bones = segmentation_metrics(predicted, truth, tolerance_px=config.tolerance_px)
        overlaps = segmentation_metrics(
            overlap_pair_masks(predicted, indices),
            overlap_pair_masks(truth, indices),
            tolerance_px=config.tolerance_px,
        )
        measured.append({**bones, **{f"overlap_{name}": values for name, values in overlaps.items()}})
        for name, masks in (("predicted", predicted), ("true", truth)):
            widths_mm[name].append(mean_widths(masks, spaces, radiograph.spacing_mm))
    widths = {"": len(description.bones), "overlap_": len(indices)}
    return {
        "center": np.array([radiograph.center for radiograph in cohort.radiographs], dtype=np.str_),
        "patient": np.array([radiograph.patient for radiograph in cohort.radiographs], dtype=np.str_),
        "name": np.array([radiograph.name for radiograph in cohort.radiographs], dtype=np.str_),
        **{
            prefix + name: np.array([each[prefix + name] for each in measured], np.float64).reshape(
                len(measured), width
            )
            for prefix, width in widths.items()
            for name in MEASURES
        },
        **_space_columns(cohort.radiographs, widths_mm, len(spaces)),
    }


def summarize(
    table: Table,
    description: Description,
    _config: SegmentationConfig,
    resamples: int,
    seed: int,
    *,
    centers: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the scopes of ``metrics.json`` for what :func:`measure` returned at one or more centers."""
    widths = len(description.bones), len(description.overlap_pairs), len(description.joint_spaces)

    def wide(name: str, width: int) -> NDArray[np.float64]:
        # a table that was read back has no column of no width, and one of width 1 has lost its second dimension
        return np.asarray(table.get(name, ()), np.float64).reshape(len(table["name"]), width)

    own = SegmentationTable(
        centers=tuple(map(str, table["center"])),
        patients=tuple(map(str, table["patient"])),
        radiographs=tuple(map(str, table["name"])),
        bones=description.bones,
        overlaps=tuple("+".join(pair) for pair in description.overlap_pairs),
        bone_values={name: wide(name, widths[0]) for name in MEASURES},
        overlap_values={name: wide(f"overlap_{name}", widths[1]) for name in MEASURES},
        spaces=tuple("+".join(pair) for pair in description.joint_spaces),
        space_errors={
            kind: wide(f"{kind}_predicted", widths[2]) - wide(f"{kind}_true", widths[2]) for kind in JOINT_SPACE_KINDS
        },
    )
    listed = sorted({*own.centers, *centers})
    return segmentation_tree(own, centers=listed, seed=seed, resamples=resamples)


def segment(
    model: nn.Module, image: NDArray[np.uint8], config: SegmentationConfig, device: torch.device, *, mirror: bool
) -> tuple[Masks, float]:
    """Return masks ``(bones, H, W)`` for any radiograph ``(H, W)``, at its size and orientation, and how sure they are.

    Sure: the mean over bones of the mean probability inside the mask, 0 for a bone that was not found.

    Args:
        model: A network of this task, on ``device``.
        image: Bone bright.
        config: The knobs with which the network was trained.
        device: Where to compute.
        mirror: The wrist is of a side that is mirrored in training.
    """
    seen = np.ascontiguousarray(image[:, ::-1]) if mirror else image
    square = torch.from_numpy(fit_image(seen, config.image_size))[None] / 255
    probabilities = predict_images(model, standardize(square)[None], device)[0].sigmoid().numpy()
    masks = np.stack([unfit(one, *image.shape) for one in probabilities]) >= 0.5
    certainty = float(np.mean([one[one >= 0.5].mean() if (one >= 0.5).any() else 0.0 for one in probabilities]))
    return np.ascontiguousarray(masks[:, :, ::-1]) if mirror else masks, certainty


def _at_native_size(
    probabilities: Tensor, radiograph: Radiograph, description: Description, config: SegmentationConfig
) -> tuple[Masks, Masks]:
    """Return (predicted, truth), oriented as the network sees them; only the frame where the canvas is larger."""
    truth = radiograph.read_masks()
    if config.mirror and radiograph.side in description.mirrored_sides:
        truth = truth[:, :, ::-1]
    height, width = truth.shape[1:]
    margin = (canvas_size(config) - config.image_size) // 2
    canvas = nn.functional.pad(probabilities, [margin] * 4).numpy()
    predicted = np.stack([unfit(one, height, width) for one in canvas]) >= 0.5
    if margin:
        predicted, truth = (_frame(masks, config) for masks in (predicted, truth))
    return predicted, np.ascontiguousarray(truth)


def _space_columns(
    radiographs: Sequence[Radiograph], widths_mm: Mapping[str, Sequence[NDArray[np.float64]]], num_spaces: int
) -> dict[str, NDArray[np.float64]]:
    width, change = JOINT_SPACE_KINDS
    columns: dict[str, NDArray[np.float64]] = {}
    for side, rows in widths_mm.items():
        columns[f"{width}_{side}"] = np.array(rows, np.float64).reshape(len(rows), num_spaces)
        columns[f"{change}_{side}"] = _changes(radiographs, columns[f"{width}_{side}"])
    return columns


def _changes(radiographs: Sequence[Radiograph], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Value less that of the exam before, of the same wrist; NaN for the first exam. Exams follow their keys."""
    changes = np.full_like(values, np.nan)
    order = sorted(range(len(radiographs)), key=lambda row: _place(radiographs[row]))
    for before, row in pairwise(order):
        one, other = radiographs[before], radiographs[row]
        if _place(one)[:3] == _place(other)[:3] and one.exam != other.exam:
            changes[row] = values[row] - values[before]
    return changes


def _place(radiograph: Radiograph) -> tuple[str, ...]:
    return radiograph.center, radiograph.patient, radiograph.side, radiograph.exam, radiograph.name


def _frame(masks: Masks, config: SegmentationConfig) -> Masks:
    longest = max(masks.shape[1:])
    frame = round(longest * config.image_size / canvas_size(config))
    side = min(frame, *masks.shape[1:])
    return np.ascontiguousarray(cut_middle(torch.from_numpy(np.ascontiguousarray(masks)), side).numpy())


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _network(description: Description, config: SegmentationConfig) -> nn.Module:
    return segmentation_network(len(description.bones), config)


def _loss(_examples: Examples, _config: SegmentationConfig) -> Loss:
    return dice_bce


SEGMENTATION = Task(
    name="segmentation",
    label="masks",
    examples=SegmentationExamples,
    network=_network,
    loss=_loss,
    validate=validate,
    quality=quality,
    measure=measure,
    summarize=summarize,
    is_plausible=is_plausible,
    columns=columns,
    head=segmentation_head,
    contributions=Contributions(names=("dsc",), rows=_dice_rows, sums=_dice_sums),
)
