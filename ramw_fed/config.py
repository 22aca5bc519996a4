"""Every knob of a run: default, range and meaning.

One knob, one spelling: ``proximal-mu`` in TOML, in ``--set`` and in Flower's run-config, ``proximal_mu`` in Python.
A knob of training stands in the table of a task (``[erosion]``, ``erosion.learning-rate``), or on top for all tasks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar

from ramw_fed.errors import ConfigError
from ramw_fed.knobs import Knobs, Value, flatten, knob

POOLED = "pooled"
"""The one center that all are where their radiographs are pooled."""
UNSEEN_RULES = ("refuse", "mean", "re-estimate", "least-entropy")
PRIVATE = ("privacy", "patient")
"""Where a knob is read under differential privacy only."""


@dataclass(frozen=True, kw_only=True)
class PhantomConfig(Knobs):
    """The synthetic cohort. A dial runs from 0 (all centers alike in that respect) to 1 (strongly different)."""

    table: ClassVar[str] = "phantom"

    patients: int = knob(168, "patients over all centers", least=6, most=100_000)
    centers: int = knob(6, "how many of the six centers, in their published order", least=1, most=6)
    seed: int = knob(0, "decides anatomy, looks, scores and splits", least=0)
    size: int | None = knob(
        None, "side of every image in pixels; unset: 600 or 720, as each center has them", least=48, most=2048
    )
    shift: float = knob(0.5, "dial: how far the centers' imaging styles differ", least=0, most=1)
    label_skew: float = knob(0.0, "dial: how unequally erosion scores are available", least=0, most=1)
    prevalence_skew: float = knob(0.0, "dial: how unequally erosions occur", least=0, most=1)
    quantity_skew: float = knob(0.0, "dial: how unequal the numbers of patients are", least=0, most=1)
    prevalence: float = knob(0.12, "share of scored joints with an erosion, over all centers", least=0, most=0.6)
    field_of_view: float = knob(1.0, "side of the canvas as a multiple of the usual frame", least=1, most=2)
    contrast: float | None = knob(
        None, "attenuation of bone as a share of what the looks have; unset: all of it", least=0.1, most=1
    )


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


@dataclass(frozen=True, kw_only=True)
class RunConfig(Knobs):
    """One federation, resolved: what decides its numbers, and where it is computed."""

    tasks: tuple[str, ...] = knob(("segmentation", "erosion"), "built-in tasks, or package.file:NAME of a user's own")
    method: str = knob("fedprox", "built-in method, or package.file:NAME of a user's own")
    proximal_mu: float | None = knob(
        0.01, "strength of the proximal term", least=0, most=1e6, under=("method", "fedprox")
    )
    unseen_batch_norm: str | None = knob(
        "refuse",
        "batch normalisation of a center that took no part: an error that asks for a rule, or mean, re-estimate "
        "(transductive), least-entropy",
        choices=UNSEEN_RULES,
        under=("method", "fedbn", "silobn"),
    )
    centers: tuple[str, ...] = knob((), "centers that take part; empty: all of the cohort")
    min_centers: int = knob(
        1, "fewest valid updates of a round; below it the model stays as it was", least=1, most=1000
    )
    max_failed_rounds: int = knob(3, "rounds in a row with too few updates after which a run stops", least=1, most=1000)
    round_timeout: float = knob(3600.0, "seconds to wait for the centers of a round", least=1, most=604800)
    split: str = knob(
        "official",
        "split of the cohort's files, one grouped and balanced by patient, or by a hash of each patient's name",
        choices=("official", "grouped", "by-name"),
    )
    fold: str | None = knob(
        "",
        "part of the patients that is tested, as 2/5: the second of five; empty: one split by shares",
        under=("split", "grouped"),
    )
    quarantine: float = knob(
        0.0, "largest share of radiographs that may be left out for faults in their own files", least=0, most=0.5
    )
    allow_leakage: bool = knob(False, "take an official split that has one patient on both sides")
    seed: int = knob(0, "decides initial weights, order of images and augmentation", least=0)
    privacy: str = knob(
        "none",
        "whose records the updates protect by differential privacy: nobody's, or each patient's",
        choices=("none", "patient"),
    )
    target_epsilon: float | None = knob(
        0.0,
        "epsilon of the whole run at each center, which solves its noise for it; 0: noise-multiplier says it",
        least=0,
        most=1000,
        under=PRIVATE,
    )
    noise_multiplier: float | None = knob(
        0.0,
        "deviation of the noise in units of clip-norm, at every center; 0: solved for target-epsilon",
        least=0,
        most=10_000,
        under=PRIVATE,
    )
    delta: float | None = knob(
        0.0,
        "of the guarantee; a center whose ledger has a smaller one takes that. 0: its ledger's",
        least=0,
        most=0.1,
        under=PRIVATE,
    )
    evaluation: str | None = knob(
        "none",
        "what leaves of validation and test patients: nothing; noisy sums of each round's validation, for which the "
        "ledger is charged; or their metrics as they are, outside the guarantee",
        choices=("none", "paid", "unprotected"),
        under=PRIVATE,
    )
    evaluation_noise: float | None = knob(
        10.0,
        "deviation of the noise of a paid validation, in units of the most that a patient adds",
        least=0.1,
        most=10_000,
        under=("evaluation", "paid"),
    )
    resamples: int = knob(2000, "bootstrap resamples behind an interval", least=100, most=100_000)
    start_from: str = knob("", "weights to start from: a run folder, a .safetensors file, or empty for seeded ones")
    pool: bool = knob(
        False, "train on all centers' radiographs as one center would: no federation, simulation only", travels=False
    )
    open_test: bool = knob(
        True, "measure the chosen weights on the test split; a study does so itself", decides=False, travels=False
    )
    max_norm_ratio: float = knob(
        100.0, "an update longer than this many times the centers' median is refused", least=1, most=1e9
    )
    baselines: bool = knob(
        False,
        "also hold the run against trivial methods and its largest center alone",
        decides=False,
        travels=False,
    )
    precision: str = knob("float32", "of the final weights, as measured and saved", choices=("float32", "float16"))
    engine: str = knob(
        "inline",
        "worker processes on this machine, or Flower's own simulation",
        choices=("inline", "ray"),
        decides=False,
        travels=False,
    )
    workers: int = knob(
        2, "processes that train centers at the same time", least=1, most=256, decides=False, travels=False
    )
    device: str = knob("auto", "auto takes a GPU where there is one", choices=("auto", "cpu", "cuda"), decides=False)
    cohort: str = knob("", "folder of the cohort; empty: the phantom of [phantom]", decides=False)
    out: str = knob("", "run folder; empty: runs/ and the name of the configuration", decides=False)
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    erosion: ErosionConfig = field(default_factory=ErosionConfig)
    others: Mapping[str, TrainingConfig] = field(default_factory=dict)
    phantom: PhantomConfig = field(default_factory=PhantomConfig)

    def __post_init__(self) -> None:
        """Check the knobs alone, then those that depend on each other."""
        super().__post_init__()
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ConfigError(f"tasks is {','.join(self.tasks)!r}; one or more different names are wanted")
        if self.fold:
            read_fold(self.fold)
        if self.segmentation.image_size % 32:
            raise ConfigError(f"segmentation.image-size is {self.segmentation.image_size}; a multiple of 32 is wanted")
        for name in (*TASK_CONFIGS, *self.others):
            training = self.training(name).settle_under(self)
            if name in TASK_CONFIGS:
                object.__setattr__(self, name, training)
            else:
                object.__setattr__(self, "others", {**self.others, name: training})
        if self.is_private:
            self._refuse_unprotected()

    @property
    def is_private(self) -> bool:
        """Whether updates are protected by differential privacy."""
        return self.privacy != "none"

    @property
    def is_evaluated(self) -> bool:
        """Whether centers say how good the weights are, as they find it: each round, and on the test split."""
        return self.evaluation not in ("none", "paid")

    @property
    def pays_to_validate(self) -> bool:
        """Whether centers say each round how good the weights are with noise, at a cost to their patients."""
        return self.evaluation == "paid"

    @property
    def is_validated(self) -> bool:
        """Whether centers say each round how good the weights are, so that a round can be chosen."""
        return self.is_evaluated or self.pays_to_validate

    def _refuse_unprotected(self) -> None:
        """Refuse what would tell of patients beside what the guarantee covers, or make no guarantee.

        Raises:
            ConfigError: With all of it.
        """
        found = []
        if bool(self.target_epsilon) == bool(self.noise_multiplier):
            found.append("set one of target-epsilon and noise-multiplier, above 0")
        if self.pool:
            found.append("pool trains on all centers' patients as one, and each center has a ledger of its own")
        if self.split == "grouped":
            found.append(
                "split is 'grouped', where one patient's labels decide in which part others are; take 'by-name', or "
                "'official'"
            )
        if self.baselines:
            found.append("baselines trains without privacy; leave it out")
        # A user's own task has its name in its code only: it may be called as a built-in one is.
        known = tuple(TASK_CONFIGS) if any(":" in name for name in self.tasks) else self.tasks
        for task in (*known, *self.others):
            training = self.training(task)
            if training.norm != "group":
                found.append(f"{task}.norm is {training.norm!r}, whose statistics are patients'; set norm = 'group'")
            found += training.releases_unprotected
            if training.asks_for_counts and not self.is_evaluated:
                found.append(
                    f"{task} chooses a threshold or calibration on validation patients, of whom "
                    f"{'noisy sums alone leave' if self.pays_to_validate else 'nothing leaves'}"
                )
        if found:
            raise ConfigError(f"privacy is {self.privacy!r}: {'; '.join(found)}")

    @property
    def taking_part(self) -> tuple[str, ...]:
        """Names of the centers that take part; empty for all of the cohort. Pooled radiographs are one center's."""
        return (POOLED,) if self.pool else self.centers

    @property
    def tested_fold(self) -> tuple[int, int] | None:
        """Which part of how many is tested, counted from 1; None where the split is not in folds."""
        return read_fold(self.fold) if self.fold else None

    def training(self, task: str) -> TrainingConfig:
        """Return the knobs of ``task``."""
        built_in: dict[str, TrainingConfig] = {"segmentation": self.segmentation, "erosion": self.erosion}
        return built_in.get(task) or self.others.get(task, TrainingConfig()).settle_under(self)

    @property
    def asks_for_counts(self) -> bool:
        """Whether centers are to say how many of their examples are of which class, beyond what every run asks."""
        # A user's own task has its name in its code only.
        return any(one.asks_for_counts for one in (self.segmentation, self.erosion, *self.others.values()))

    def with_training(self, task: str, training: TrainingConfig) -> "RunConfig":
        """Return the run with other knobs of ``task``."""
        if training == self.training(task):
            return self
        changed: dict[str, Any] = {task: training}
        if task not in TASK_CONFIGS:
            changed = {"others": {**self.others, task: training}}
        return replace(self, **changed)

    def deciding(self) -> dict[str, Any]:
        """Return, nested and in file spelling, what decides the run's numbers."""
        tree = self.tree()
        return {name: value for name, value in tree.items() if name not in _NOT_DECIDING}

    def tree(self) -> dict[str, Any]:
        """Return all knobs nested and in file spelling, as ``config.toml`` holds them."""
        return {
            **self.write(),
            **{name: self.training(name).write() for name in ("segmentation", "erosion", *self.others)},
            "phantom": self.phantom.write(),
        }

    def flat(self) -> dict[str, Value]:
        """Return all knobs flat, as Flower's run-config holds them: ``segmentation.learning-rate``."""
        return flatten(self.tree())


def read_fold(text: str) -> tuple[int, int]:
    """Return (part, parts) of a fold spelled ``2/5``.

    Raises:
        ConfigError: It is none: at least three parts are needed, to train, to choose and to test.
    """
    found = re.fullmatch(r"(\d{1,3})/(\d{1,3})", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (1 <= part <= parts and parts >= 3):
        raise ConfigError(f"fold is {text!r}; a part of at least three is wanted, such as 2/5")
    return part, parts


_NOT_DECIDING = frozenset(name for name, known in RunConfig.names().items() if not known.metadata["decides"])
