"""Every knob of a run: default, range and meaning; those of a task stand in ``task_config.py``.

One knob, one spelling: ``proximal-mu`` in TOML, in ``--set`` and in Flower's run-config, ``proximal_mu`` in Python.
A knob of training stands in the table of a task (``[erosion]``, ``erosion.learning-rate``), or on top for all tasks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ramw_fed.errors import ConfigError
from ramw_fed.knobs import Knobs, Value, flatten, knob
from ramw_fed.task_config import (
    FIXED,
    PRIVATE,
    SETTLED,
    TASK_CONFIGS,
    ErosionConfig,
    SegmentationConfig,
    TrainingConfig,
)

POOLED = "pooled"
"""The one center that all are where their radiographs are pooled."""
UNSEEN_RULES = ("refuse", "mean", "re-estimate", "least-entropy")


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

__all__ = [
    "FIXED",
    "POOLED",
    "PRIVATE",
    "SETTLED",
    "TASK_CONFIGS",
    "UNSEEN_RULES",
    "ErosionConfig",
    "PhantomConfig",
    "RunConfig",
    "SegmentationConfig",
    "TrainingConfig",
    "read_fold",
]
