"""The knobs of a task, in its own table: ``[segmentation]``, ``[erosion]``, or that of a task of a user's own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from ramw_fed.errors import ConfigError
from ramw_fed.knobs import Knobs, knob

PRIVATE = ("privacy", "patient")
"""Where a knob is read under differential privacy only."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Knobs):
    """How one task is trained at a center. The defaults of a task that a user adds."""

    num_rounds: int = knob(5, "rounds of federation", least=1, most=10_000)
    local_epochs: int = knob(3, "passes over a center's training images in a round", least=1, most=1000)
    batch_size: int = knob(8, "images (segmentation) or joints (erosion) in a step", least=1, most=4096)
    optimizer: str = knob("adamw", "rule of the local steps; made anew each round", choices=("adamw", "sgd"))
    learning_rate: float = knob(3e-3, "of the local optimizer", least=1e-8, most=10)
    final_learning_rate: float = knob(
        0.1, "share of the learning rate that is left in the last round (cosine)", least=0, most=1
    )
    warmup_steps: int = knob(
        0, "first steps of a round over which the rate grows: a new adamw overshoots", least=0, most=10_000
    )
    weight_decay: float = knob(1e-4, "decoupled for adamw", least=0, most=1)
    norm: str = knob("batch", "normalisation layers of the network", choices=("batch", "group"))
    augmentation: str = knob("mild", "how widely training images are varied", choices=("none", "mild", "strong"))
    trainable: str = knob(
        "all",
        "what learns: every weight, or the small head alone behind a frozen backbone, which start-from must bring",
        choices=("all", "head"),
    )
    mirror: bool = knob(True, "mirror the cohort's mirrored sides, so that all wrists look alike")
    average: float = knob(
        0.0, "decay of a moving average of the weights within a round; 0: none", least=0, most=0.99999
    )
    patients_per_step: int | None = knob(
        8, "patients that a step draws on average, each on its own", least=1, most=100_000, under=PRIVATE
    )
    clip_norm: float | None = knob(
        1.0, "length to which each patient's gradient is cut", least=1e-6, most=1e6, under=PRIVATE
    )

    @property
    def asks_for_counts(self) -> bool:
        """Whether centers are to say how many of their examples are of which class, beyond what every run asks."""
        return False

    @property
    def releases_unprotected(self) -> list[str]:
        """What training with these knobs would tell of patients beside the gradients that are protected."""
        return []

    def at(self, _center: str) -> "TrainingConfig":
        """Return the knobs for one center."""
        return self


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig(TrainingConfig):
    """Bones as one sigmoid each."""

    table: ClassVar[str] = "segmentation"

    num_rounds: int = knob(7, "rounds of federation", least=1, most=10_000)
    local_epochs: int = knob(3, "passes over a center's training images in a round", least=1, most=1000)
    batch_size: int = knob(4, "images in a step", least=1, most=4096)
    learning_rate: float = knob(6e-3, "of the local optimizer", least=1e-8, most=10)
    warmup_steps: int = knob(
        5, "first steps of a round over which the rate grows: a new adamw overshoots", least=0, most=10_000
    )
    image_size: int = knob(96, "side of the network's input in pixels; a multiple of 32", least=32, most=2048)
    architecture: str = knob("unet", "name of an architecture of segmentation-models-pytorch")
    encoder: str = knob("tu-test_resnet", "name of an encoder of segmentation-models-pytorch")
    depth: int = knob(4, "stages of the encoder", least=3, most=5)
    decoder_width: int = knob(
        64, "channels of the decoder's first block, halved in each further one", least=8, most=1024
    )
    field_of_view: float = knob(
        1.0,
        "side of the cohort's images as a multiple of what the network sees; augmentation cuts the frame out",
        least=1,
        most=2,
    )
    tolerance_px: float = knob(2.0, "distance up to which outlines count as equal (NSD)", least=0, most=100)


@dataclass(frozen=True, kw_only=True)
class ErosionConfig(TrainingConfig):
    """Erosion of a joint as one logit."""

    table: ClassVar[str] = "erosion"

    num_rounds: int = knob(5, "rounds of federation", least=1, most=10_000)
    local_epochs: int = knob(6, "passes over a center's training joints in a round", least=1, most=1000)
    batch_size: int = knob(16, "joints in a step", least=1, most=4096)
    warmup_steps: int = knob(
        3, "first steps of a round over which the rate grows: a new adamw overshoots", least=0, most=10_000
    )
    crop_size: int = knob(48, "side of the network's input in pixels", least=16, most=1024)
    encoder: str = knob("test_resnet", "name of a timm network; the default is a very small one")
    loss: str = knob(
        "cross-entropy",
        "what a step makes smaller; docs/erosion.md tells them apart",
        choices=("logit-adjustment", "weighted", "class-balanced", "focal", "cross-entropy", "distance-weighted"),
    )
    prior: str | None = knob(
        "local",
        "whose class counts the loss reads: the center's own, or the sum of all centers'",
        choices=("local", "federated"),
        under=("loss", "logit-adjustment", "class-balanced"),
    )
    intact_joints: int | None = knob(
        None,
        "training joints without erosion of all centers; unset, with eroded-joints: centers are asked for their counts",
        least=0,
        under=("prior", "federated"),
    )
    eroded_joints: int | None = knob(
        None, "training joints with an erosion of all centers", least=0, under=("prior", "federated")
    )
    tau: float | None = knob(
        1.0,
        "strength of the shift by the prior's log odds; 1 is balanced softmax",
        least=0,
        most=10,
        under=("loss", "logit-adjustment"),
    )
    positive_weight: float | None = knob(
        6.0, "weight of the positive class", least=0.01, most=1000, under=("loss", "weighted")
    )
    beta: float | None = knob(
        0.99,
        "class-balanced: an example adds this share of what the one before it added",
        least=0,
        most=0.999999,
        under=("loss", "class-balanced"),
    )
    focal_gamma: float | None = knob(2.0, "exponent of the focal loss", least=0, most=10, under=("loss", "focal"))
    distance_power: float | None = knob(
        2.0, "exponent of the distance between grades", least=0, most=10, under=("loss", "distance-weighted")
    )
    sampling: str = knob(
        "auto",
        "rows of a pass: every joint once, or as many as there are with both classes (all patients) equally often; "
        "auto: classes where the loss is cross-entropy, which does nothing about rare erosions itself",
        choices=("auto", "shuffled", "classes", "patients"),
    )
    threshold: float = knob(0.5, "probability from which a joint is called eroded", least=0, most=1)
    threshold_rule: str = knob(
        "fixed",
        "threshold as it stands, or chosen on validation patients: largest sensitivity + specificity, or a sensitivity",
        choices=("fixed", "youden", "sensitivity"),
    )
    least_sensitivity: float | None = knob(
        0.8,
        "share of eroded validation joints that the threshold must find",
        least=0,
        most=1,
        under=("threshold_rule", "sensitivity"),
    )
    own_threshold_patients: int | None = knob(
        5,
        "validation patients with an erosion from which on a center has a threshold of its own",
        least=1,
        under=("threshold_rule", "youden", "sensitivity"),
    )
    calibration: str = knob(
        "none",
        "how validation patients correct probabilities: sigmoid(z / T), or sigmoid(z / T + b)",
        choices=("none", "temperature", "platt"),
    )
    temperature: float = knob(1.0, "T, as calibration chose it", least=0.01, most=100, travels=False)
    shift: float = knob(0.0, "b, as calibration chose it", least=-20, most=20, travels=False)
    own_thresholds: tuple[str, ...] = knob((), "NAME=PROBABILITY, as the rule chose them at centers", travels=False)

    def __post_init__(self) -> None:
        """Check the knobs alone, then those that depend on each other."""
        super().__post_init__()
        if (self.intact_joints is None) != (self.eroded_joints is None):
            raise ConfigError(
                "erosion.intact-joints and erosion.eroded-joints are counts of one sum: set both, or none"
            )
        corrected = self.loss in ("logit-adjustment", "weighted", "class-balanced", "focal")
        if (self.sampling == "classes" and corrected) or (self.sampling == "patients" and self.loss == "focal"):
            raise ConfigError(
                f"erosion.sampling is {self.sampling!r}, and the loss {self.loss!r} makes up for what is rare a second "
                "time; take loss = 'cross-entropy' with it, or sampling = 'shuffled'"
            )

        self.thresholds()

    @property
    def rows(self) -> str:
        """What ``sampling`` comes to: ``shuffled``, ``classes`` or ``patients``."""
        if self.sampling != "auto":
            return self.sampling
        return "classes" if self.loss == "cross-entropy" else "shuffled"

    @property
    def asks_for_prior(self) -> bool:
        """Whether the sum of the centers' class counts is wanted and not given."""
        return self.prior == "federated" and self.eroded_joints is None

    @property
    def asks_for_scores(self) -> bool:
        """Whether validation is to count joints by class and logit."""
        return self.threshold_rule != "fixed" or self.calibration != "none"

    @property
    def asks_for_counts(self) -> bool:
        """Whether centers are asked for more numbers of joints by class than every run asks."""
        return self.asks_for_prior or self.asks_for_scores

    @property
    def releases_unprotected(self) -> list[str]:
        """What training with these knobs would tell of patients beside the gradients that are protected."""
        found = []
        if self.prior is not None and not (self.prior == "federated" and not self.asks_for_prior):
            found.append(
                f"the loss {self.loss!r} reads how many joints are eroded at each center; fix erosion.prior = "
                "'federated' with intact-joints and eroded-joints beforehand, or take another loss"
            )
        if self.sampling not in ("auto", "shuffled"):
            found.append(
                f"erosion.sampling is {self.sampling!r}, and patients are drawn by Poisson sampling, each on its own; "
                "leave it out"
            )
        return found

    def thresholds(self) -> dict[str, float]:
        """Return the thresholds that centers have of their own.

        Raises:
            ConfigError: An entry is not NAME=PROBABILITY.
        """
        pairs = [entry.rpartition("=") for entry in self.own_thresholds]
        try:
            found = {name: float(value) for name, _, value in pairs}
        except ValueError:
            found = {"": -1.0}
        if not all(name and 0 <= value <= 1 for name, value in found.items()):
            raise ConfigError(
                f"erosion.own-thresholds is {','.join(self.own_thresholds)!r}; NAME=PROBABILITY is wanted for a center"
            )
        return found

    def at(self, center: str) -> "ErosionConfig":
        """Return the knobs for one center: the others' thresholds are not its business."""
        own = tuple(entry for entry in self.own_thresholds if entry.rpartition("=")[0] == center)
        return self if own == self.own_thresholds else replace(self, own_thresholds=own)


FIXED = frozenset({"erosion.intact-joints", "erosion.eroded-joints"})
SETTLED = FIXED | {f"erosion.{name}" for name in ("threshold", "temperature", "shift", "own-thresholds")}
"""Knobs that a run may set on its way; none of them decides which images a center reads, or how.

Those in ``FIXED`` are set beforehand where patients are protected.
"""

TASK_CONFIGS: Mapping[str, type[TrainingConfig]] = MappingProxyType(
    {"segmentation": SegmentationConfig, "erosion": ErosionConfig}
)
