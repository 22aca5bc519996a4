"""Every knob of a study, and the runs that its file describes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ramw_fed.comparison import METRICS
from ramw_fed.config import TASK_CONFIGS, PhantomConfig, RunConfig
from ramw_fed.config_sources import read_overrides, read_toml, resolve
from ramw_fed.errors import ConfigError
from ramw_fed.knobs import Knobs, flatten, is_idle, knob
from ramw_fed.methods import METHODS
from ramw_fed.metrics.segmentation_pairs import DISTANCES

DESIGNS = ("matched-arms", "cross-site-matrix", "leave-one-center-out", "scale-up", "dose-response")
DIALS = ("shift", "label-skew", "prevalence-skew", "quantity-skew")
REFERENCES = ("local", "central")

_OF_STUDY = ("seed", "centers", "pool", "open-test", "split", "fold", "baselines", "method", "engine", "out")
# These need no threshold; decisions depend on one that each run chooses for itself.
EROSION_METRICS = ("auroc", "auprc", "brier", "ece")
# Distances are of the bones that a model found: averaged by patient, an arm would gain by missing the hard ones.
SEGMENTATION_METRICS = tuple(name for name in METRICS["segmentation"] if name not in DISTANCES)

Point = tuple[tuple[str, str], ...]
"""Values of tuned knobs, by name, as text."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig(Knobs):
    """The ``[study]`` table: what is asked, of which methods, over how many seeds and folds."""

    table: ClassVar[str] = "study"

    designs: tuple[str, ...] = knob(DESIGNS[:3], f"questions to ask: {', '.join(DESIGNS)}")
    methods: tuple[str, ...] = knob(("fedavg", "fedprox"), "federated methods, beside local and central training")
    seeds: int = knob(5, "trainings of each arm, from the run's seed on", least=1, most=1000)
    folds: int = knob(
        1, "1: the split that the run names; more: parts of the patients, each tested once", least=1, most=20
    )
    metrics: tuple[str, ...] = knob(("dsc", "auroc"), "measures that are analysed")
    contrasts: tuple[str, ...] = knob(
        (), "differences that are tested, first - second, declared before any number is seen; one family (Holm)"
    )
    margins: tuple[str, ...] = knob((), "largest difference that does not matter, metric = margin")
    tune: tuple[str, ...] = knob(
        (), "grid that every arm searches with its own validation split, knob = value | value; empty: none"
    )
    expected_deviation: float = knob(
        0.05, "--power without a pilot: standard deviation of patients' differences", least=1e-6, most=1000
    )
    expected_auroc: float = knob(0.8, "--power: AUROC of either arm", least=0.51, most=0.99)
    orders: int = knob(3, "scale-up: orders in which centers come in", least=1, most=100)
    dial: str = knob("shift", "dose-response: dial of the phantom", choices=DIALS)
    doses: tuple[str, ...] = knob(("0", "0.5", "1"), "dose-response: settings of the dial")

    def __post_init__(self) -> None:
        """Check each list, and what depends on another."""
        super().__post_init__()
        problems = [
            *_strangers("designs", self.designs, DESIGNS),
            *_strangers("metrics", self.metrics, (*SEGMENTATION_METRICS, *EROSION_METRICS)),
            *_strangers("methods", [name for name in self.methods if ":" not in name], tuple(METHODS)),
        ]
        problems += [f"{name} is empty" for name in ("designs", "methods", "metrics") if not getattr(self, name)]
        if self.folds == 2:
            problems.append("folds is 2; 1, or at least 3 is wanted: to train, to choose and to test")
        if problems:
            raise ConfigError("; ".join(f"study.{problem}" for problem in problems))
        self.pairs()
        self.equivalence_margins()
        self.settings()
        self.grid()

    def pairs(self) -> list[tuple[str, str]]:
        """Return the declared contrasts as (first, second).

        Raises:
            ConfigError: One names an arm that the study has not.
        """
        arms = (*REFERENCES, *self.methods)
        found = []
        for text in self.contrasts:
            first, separator, second = (part.strip() for part in text.partition(" - "))
            if not separator or first not in arms or second not in arms or first == second:
                raise ConfigError(
                    f"study.contrasts has {text!r}; two different of {', '.join(arms)} are wanted, as 'fedprox - local'"
                )
            found.append((first, second))
        if len(set(found)) < len(found):
            raise ConfigError("study.contrasts names one difference twice; each is tested once")
        return found

    def equivalence_margins(self) -> dict[str, float]:
        """Return the margin of each metric that has one.

        Raises:
            ConfigError: One is no positive number, or of a metric that is not analysed.
        """
        margins = {}
        for name, text in _assignments("margins", self.margins):
            margins[name] = _number(text)
            if name not in self.metrics or not margins[name] > 0:
                known = ", ".join(self.metrics)
                raise ConfigError(
                    f"study.margins has {name!r} = {text!r}; a metric of the study ({known}) and a number above 0 "
                    "are wanted"
                )
        return margins

    def settings(self) -> dict[str, float]:
        """Return the doses by their spelling.

        Raises:
            ConfigError: One is no number in [0, 1].
        """
        found = {text: _number(text) for text in self.doses}
        wrong = [text for text, dose in found.items() if not 0 <= dose <= 1]
        if wrong or not found:
            raise ConfigError(f"study.doses has {', '.join(map(repr, wrong)) or 'nothing'}; numbers in [0, 1] wanted")
        return found

    def grid(self) -> dict[str, tuple[str, ...]]:
        """Return the values of each tuned knob.

        Raises:
            ConfigError: A knob is the study's own business, or has no values.
        """
        grid: dict[str, tuple[str, ...]] = {}
        for name, text in _assignments("tune", self.tune):
            values = tuple(part.strip() for part in text.split("|") if part.strip())
            if name in _OF_STUDY or not values or name in grid:
                raise ConfigError(f"study.tune has {name!r} = {text!r}; a knob of training and its values are wanted")
            grid[name] = values
        return grid


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study's own knobs, and the raw knobs that all its runs share."""

    name: str
    config: StudyConfig
    tree: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Study":
        """Read a TOML file with a ``[study]`` table beside the knobs of a run.

        Raises:
            ConfigError: A knob is unknown, wrong, or one that the study itself sets.
        """
        return cls.of(path.stem, read_toml(path))

    @classmethod
    def of(cls, name: str, raw: Mapping[str, Any]) -> "Study":
        """Read a raw mapping; see :meth:`read`."""
        tree = {name: value for name, value in raw.items() if name != "study"}
        own = sorted(set(tree) & set(_OF_STUDY) - {"seed", "centers", "split"})
        if own:
            raise ConfigError(f"{', '.join(own)} is set by the study itself; leave it out, see [study]")
        config = StudyConfig.read(raw.get("study", {}), where=" in [study]")
        study = cls(name=name, config=config, tree=tree)
        if study.base.is_private:
            raise ConfigError(
                "a study trains arms such as all radiographs pooled, each many times, and measures validation and test "
                "patients: it would tell of them outside of any guarantee. Make private runs one by one, with "
                "`ramw-fed run`; their centers' ledgers add them up"
            )
        if config.folds > 1 and study.base.split == "official" and "split" in tree:
            raise ConfigError("folds deal the patients anew: set split = 'grouped', or leave it out")
        read: set[str] = set()
        for method, task in itertools.product(config.methods, study.base.tasks):
            for point in study.points(task, method):
                study.run_config({"method": method, "tasks": task}, point)
                read |= {name for name, _ in point}
        idle = sorted(set(config.grid()) - read)
        if idle:
            raise ConfigError(f"study.tune has {', '.join(idle)}, which no task and method of the study reads")
        strange = [name for name in study.base.tasks if name not in TASK_CONFIGS]
        if strange:
            raise ConfigError(f"a study analyses {', '.join(TASK_CONFIGS)}; tasks names {', '.join(strange)}")
        return study

    @property
    def base(self) -> RunConfig:
        """The knobs that all runs share."""
        return resolve(self.tree, {"method": "fedavg"})

    def run_config(self, overrides: Mapping[str, Any], point: Point = ()) -> RunConfig:
        """Return one run's configuration; a point's values are texts, as on the command line."""
        return resolve(self.tree, {**overrides, **read_overrides([f"{name}={value}" for name, value in point])})

    def phantom(self, dose: str) -> PhantomConfig:
        """Return the phantom of a dose, or of the file where ``dose`` is empty."""
        base = self.base.phantom
        if not dose:
            return base
        return PhantomConfig.read({**base.write(), self.config.dial: self.config.settings()[dose]})

    def points(self, task: str, method: str) -> list[Point]:
        """Return the grid of an arm: every combination of the tuned knobs that its task and method read."""
        grid = self.config.grid()
        read = {name: values for name, values in grid.items() if _is_read(name, task, method)}
        return [tuple(zip(read, values, strict=True)) for values in itertools.product(*read.values())]

    def tree_with_study(self) -> dict[str, Any]:
        """Return everything as ``config.toml`` holds it."""
        return {**self.tree, "study": self.config.write()}

    def deciding(self) -> set[str]:
        """Return a line for each knob that decides numbers, as the file spells it."""
        known = RunConfig.names()
        return {
            f"{name} = {value!r}"
            for name, value in flatten(self.tree_with_study()).items()
            if name not in known or known[name].metadata["decides"]
        }


def _is_read(name: str, task: str, method: str) -> bool:
    """Whether a knob means anything to a task's training under a method."""
    table, _, own = name.rpartition(".")
    if table:
        return table == task
    run = RunConfig.names().get(own)
    if run is None:
        return own in TASK_CONFIGS.get(task, next(iter(TASK_CONFIGS.values()))).names()
    under = run.metadata["under"]
    return not (under and under[0] == "method" and is_idle(run, method) and ":" not in method)


def _strangers(name: str, found: Sequence[str], known: Sequence[str]) -> list[str]:
    wrong = [one for one in found if one not in known]
    problems = [f"{name} has {', '.join(map(repr, wrong))}; known: {', '.join(known)}"] if wrong else []
    return [*problems, f"{name} names one twice"] if len(set(found)) < len(found) else problems


def _assignments(name: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [tuple(part.strip() for part in text.partition("=")) for text in texts]
    wrong = [text for text, (_, separator, _) in zip(texts, pairs, strict=True) if not separator]
    if wrong:
        raise ConfigError(f"study.{name} has {wrong[0]!r}; 'name = value' is wanted")
    return [(key, value) for key, _, value in pairs]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
