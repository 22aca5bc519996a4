"""Every knob of a run: default, range and meaning. The only reader of raw mappings.

One knob, one spelling: ``proximal-mu`` in TOML, in ``--set`` and in Flower's run-config, ``proximal_mu`` in Python.
A knob of training stands in the table of a task (``[erosion]``, ``erosion.learning-rate``), or on top for all tasks.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self, get_type_hints

from ramw_fed.errors import ConfigError

Value = bool | int | float | str


def knob(
    default: Any,
    meaning: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    decides: bool = True,
) -> Any:
    """Declare a knob.

    Args:
        default: Its value where nothing is said.
        meaning: One line for the documentation.
        least: Smallest allowed value.
        most: Largest allowed value.
        choices: The allowed texts.
        methods: Built-in methods that read it; empty for knobs of every run.
        decides: Whether it can change a run's numbers (where and how fast a run is computed cannot).
    """
    metadata = {
        "meaning": meaning,
        "least": least,
        "most": most,
        "choices": choices,
        "methods": methods,
        "decides": decides,
    }
    return field(default=default, metadata=metadata)


def spelling(name: str) -> str:
    """Return the knob's spelling in files: ``proximal_mu`` is ``proximal-mu``."""
    return name.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """A table of knobs that checks itself: all problems are listed in one error."""

    table: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check type, range and choice of every knob."""
        problems = [problem for known in fields(self) if known.metadata for problem in self._problems(known)]
        if problems:
            raise ConfigError("; ".join(problems))

    def _problems(self, known: Field[Any]) -> list[str]:
        value, rule = getattr(self, known.name), known.metadata
        name = f"{self.table}.{spelling(known.name)}" if self.table else spelling(known.name)
        if not _has_type(value, get_type_hints(type(self))[known.name]):
            return [f"{name} is {value!r}; {_wanted(known, get_type_hints(type(self))[known.name])} is wanted"]
        if isinstance(value, float) and not math.isfinite(value):
            return [f"{name} is {value!r}; a finite number is wanted"]
        if rule["choices"] and value not in rule["choices"]:
            return [f"{name} is {value!r}; one of {', '.join(rule['choices'])} is wanted"]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if rule["least"] is not None and value < rule["least"]:
                return [f"{name} is {value!r}; at least {rule['least']} is wanted"]
            if rule["most"] is not None and value > rule["most"]:
                return [f"{name} is {value!r}; at most {rule['most']} is wanted"]
        return []

    @classmethod
    def names(cls) -> dict[str, Field[Any]]:
        """Return the knobs by their spelling in files."""
        return {spelling(known.name): known for known in fields(cls) if known.metadata}

    @classmethod
    def read(cls, table: Mapping[str, Any], *, where: str = "") -> Self:
        """Build from a raw mapping in file spelling; unknown names and wrong values are listed in one error."""
        known = cls.names()
        unknown = sorted(set(table) - set(known))
        if unknown:
            raise ConfigError(f"unknown knob {', '.join(map(repr, unknown))}{where}; known: {', '.join(sorted(known))}")
        hints = get_type_hints(cls)
        return cls(**{known[name].name: _coerce(value, hints[known[name].name]) for name, value in table.items()})

    def write(self) -> dict[str, Value]:
        """Return the knobs in file spelling; knobs without a value are left out."""
        raw = {name: getattr(self, known.name) for name, known in self.names().items()}
        return {
            name: ",".join(value) if isinstance(value, tuple) else value
            for name, value in raw.items()
            if value is not None
        }


def _coerce(value: Any, wanted: Any) -> Any:
    """Read ``3`` as ``3.0`` where a float is wanted, and a list or comma-separated text where names are."""
    if wanted == tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(part.strip() for part in parts if part.strip()) if isinstance(parts, list) else value
    if type(value) is int and float in (wanted, *getattr(wanted, "__args__", ())):
        return float(value)
    return value


def _has_type(value: Any, wanted: Any) -> bool:
    if wanted == tuple[str, ...]:
        return isinstance(value, tuple) and all(isinstance(part, str) for part in value)
    kinds = getattr(wanted, "__args__", (wanted,))
    return type(value) in kinds  # exact: True is no number


def _wanted(known: Field[Any], hint: Any) -> str:
    return "a list of names" if hint == tuple[str, ...] else getattr(hint, "__name__", str(hint))


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
    mirror: bool = knob(True, "mirror the cohort's mirrored sides, so that all wrists look alike")
    average: float = knob(
        0.0, "decay of a moving average of the weights within a round; 0: none", least=0, most=0.99999
    )


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
        "logit-adjustment",
        "cross-entropy on logits shifted by the center's own prior, weighted cross-entropy, focal, or plain",
        choices=("logit-adjustment", "weighted", "focal", "cross-entropy"),
    )
    positive_weight: float = knob(6.0, "weight of the positive class under `weighted`", least=0.01, most=1000)
    focal_gamma: float = knob(2.0, "exponent under `focal`", least=0, most=10)
    threshold: float = knob(0.5, "probability from which a joint is called eroded", least=0, most=1)


TASK_CONFIGS: Mapping[str, type[TrainingConfig]] = MappingProxyType(
    {"segmentation": SegmentationConfig, "erosion": ErosionConfig}
)


@dataclass(frozen=True, kw_only=True)
class RunConfig(Knobs):
    """One federation, resolved: what decides its numbers, and where it is computed."""

    tasks: tuple[str, ...] = knob(("segmentation", "erosion"), "built-in tasks, or package.file:NAME of a user's own")
    method: str = knob("fedprox", "built-in method, or package.file:NAME of a user's own")
    proximal_mu: float | None = knob(
        None,
        "strength of the proximal term; unset: 0.01 under fedprox",
        least=0,
        most=1e6,
        methods=("fedprox",),
    )
    centers: tuple[str, ...] = knob((), "centers that take part; empty: all of the cohort")
    min_centers: int = knob(
        1, "fewest valid updates of a round; below it the model stays as it was", least=1, most=1000
    )
    max_failed_rounds: int = knob(3, "rounds in a row with too few updates after which a run stops", least=1, most=1000)
    round_timeout: float = knob(3600.0, "seconds to wait for the centers of a round", least=1, most=604800)
    split: str = knob(
        "official", "split of the cohort's files, or one grouped by patient", choices=("official", "grouped")
    )
    seed: int = knob(0, "decides initial weights, order of images and augmentation", least=0)
    resamples: int = knob(2000, "bootstrap resamples behind an interval", least=100, most=100_000)
    start_from: str = knob("", "weights to start from: a run folder, a .safetensors file, or empty for seeded ones")
    max_norm_ratio: float = knob(
        100.0, "an update longer than this many times the centers' median is refused", least=1, most=1e9
    )
    baselines: bool = knob(
        False, "also hold the run against trivial methods and its largest center alone (simulation only)", decides=False
    )
    precision: str = knob("float32", "of the final weights, as measured and saved", choices=("float32", "float16"))
    engine: str = knob(
        "inline",
        "worker processes on this machine, or Flower's own simulation",
        choices=("inline", "ray"),
        decides=False,
    )
    workers: int = knob(2, "processes that train centers at the same time", least=1, most=256, decides=False)
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
        if self.method == "fedprox" and self.proximal_mu is None:
            object.__setattr__(self, "proximal_mu", 0.01)
        for name, known in self.names().items():
            owners = known.metadata["methods"]
            if (
                owners
                and getattr(self, known.name) is not None
                and self.method not in owners
                and ":" not in self.method
            ):
                raise ConfigError(
                    f"{name} does nothing under method {self.method!r}; leave it out, or use {' or '.join(owners)}"
                )
        if self.segmentation.image_size % 32:
            raise ConfigError(f"segmentation.image-size is {self.segmentation.image_size}; a multiple of 32 is wanted")

    def training(self, task: str) -> TrainingConfig:
        """Return the knobs of ``task``."""
        built_in: dict[str, TrainingConfig] = {"segmentation": self.segmentation, "erosion": self.erosion}
        return built_in.get(task) or self.others.get(task, TrainingConfig())

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


_NOT_DECIDING = frozenset(name for name, known in RunConfig.names().items() if not known.metadata["decides"])


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    """Return a nested mapping with dotted names."""
    flat: dict[str, Value] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with dotted names as a nested one."""
    tree: dict[str, Any] = {}
    for dotted, value in flat.items():
        *path, name = dotted.split(".")
        level = tree
        for part in path:
            level = level.setdefault(part, {})
            if not isinstance(level, dict):
                raise ConfigError(f"{dotted!r} is set below {part!r}, which has a value itself")
        level[name] = value
    return tree


def resolve(tree: Mapping[str, Any], overrides: Mapping[str, Any] = MappingProxyType({})) -> RunConfig:
    """Build a run's configuration from a raw nested mapping and dotted overrides.

    A knob of training on top counts for every task that knows it; a task's own table is stronger, and an override is
    stronger than both. A method that an override names drops the file's knobs of other methods.

    Raises:
        ConfigError: A name is unknown, a value out of range, or two cannot be combined.
    """
    tree, above = dict(tree), nest(overrides)
    if "method" in above:
        for name, known in RunConfig.names().items():
            if known.metadata["methods"] and above["method"] not in known.metadata["methods"]:
                tree.pop(name, None)
    top = {**_scalars(tree), **_scalars(above)}
    tables = sorted({*_tables(tree), *_tables(above)} - {"phantom"})
    own = {name: value for name, value in top.items() if name in RunConfig.names()}
    shared = set(top) - set(own)
    trainings: dict[str, TrainingConfig] = {}
    for task in sorted({*TASK_CONFIGS, *tables}):
        kind = TASK_CONFIGS.get(task, TrainingConfig)
        layers = (_scalars(tree), tree.get(task, {}), _scalars(above), above.get(task, {}))
        merged: dict[str, Any] = {}
        for layer, is_own_table in zip(layers, (False, True, False, True), strict=True):
            merged |= {name: value for name, value in layer.items() if is_own_table or name in kind.names()}
        shared -= set(kind.names())
        trainings[task] = kind.read(merged, where=f" in [{task}]")
    if shared:
        all_known = {*RunConfig.names(), *(name for kind in TASK_CONFIGS.values() for name in kind.names())}
        raise ConfigError(f"unknown knob {', '.join(map(repr, sorted(shared)))}; known: {', '.join(sorted(all_known))}")
    phantom = PhantomConfig.read({**tree.get("phantom", {}), **above.get("phantom", {})}, where=" in [phantom]")
    others = {name: value for name, value in trainings.items() if name not in TASK_CONFIGS}
    built_in = {name: trainings[name] for name in TASK_CONFIGS}
    return replace(RunConfig.read(own), phantom=phantom, others=others, **built_in)  # type: ignore[arg-type]


def _scalars(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if not isinstance(value, Mapping)}


def _tables(tree: Mapping[str, Any]) -> set[str]:
    return {name for name, value in tree.items() if isinstance(value, Mapping)}


def read_toml(path: Path) -> dict[str, Any]:
    """Return the file's tables.

    Raises:
        ConfigError: It is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"no configuration can be read at {path}; give the path of a TOML file such as simulations/demo.toml"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}") from error


def read_overrides(settings: list[str]) -> dict[str, Any]:
    """Read ``key=value`` texts; a value is TOML where it parses as such, else text."""
    overrides: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{setting!r} is no setting; write key=value, as in proximal-mu=0.1")
        try:
            overrides[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            overrides[name.strip()] = text.strip()
    return overrides


__all__ = [
    "TASK_CONFIGS",
    "ErosionConfig",
    "Knobs",
    "PhantomConfig",
    "RunConfig",
    "SegmentationConfig",
    "TrainingConfig",
    "flatten",
    "nest",
    "read_overrides",
    "read_toml",
    "resolve",
]
