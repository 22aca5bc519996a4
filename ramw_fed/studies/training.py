"""What a study trains and where it tests: the words in which designs speak."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ramw_fed.config import TASK_CONFIGS, RunConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.learning.training import pick_device
from ramw_fed.manifest import versions
from ramw_fed.studies.config import REFERENCES, Point, Study
from ramw_fed.studies.files import file_hash
from ramw_fed.tasks import get_task

LOCAL, CENTRAL = REFERENCES

# Folders of the package whose code decides a run's weights or what it predicts.
_TRAINING = ("data", "federation", "learning", "methods", "tasks")

# A mean over one patient is that patient's: such a center takes no part in a federation, nor in a study.
_FEWEST_PATIENTS = 2


@dataclass(frozen=True, kw_only=True, order=True)
class Training:
    """One network to train.

    Attributes:
        arm: ``local``, ``central``, or the name of a federated method.
        task: What is learned.
        seed: Of initial weights, orders and augmentations.
        fold: Part of the patients that is tested, as ``2/5``; empty for the split that the run names.
        dose: Setting of the phantom's dial; empty for the cohort as it is.
        centers: Who trains, sorted.
        point: Tuned knobs; empty until they are chosen.
    """

    arm: str
    task: str
    seed: int
    fold: str = ""
    dose: str = ""
    centers: tuple[str, ...]
    point: Point = ()

    @property
    def method(self) -> str:
        """The federated method; for a center alone, and for pooled centers, there is nothing to average."""
        return "fedavg" if self.arm in (LOCAL, CENTRAL) else self.arm

    def config(self, study: Study, cohort: str = "") -> RunConfig:
        """Return the run that trains it; its test split stays closed."""
        overrides: dict[str, Any] = {
            "method": self.method,
            "tasks": self.task,
            "seed": self.seed,
            "centers": ",".join(self.centers),
            "pool": self.arm == CENTRAL,
            "open-test": False,
            "workers": 1,
            "cohort": cohort,
        }
        if self.fold:
            overrides |= {"split": "grouped", "fold": self.fold}
        config = study.run_config(overrides, self.point)
        return replace(config, phantom=study.phantom(self.dose))

    def key(self, study: Study, cohort_sha256: str) -> str:
        """Return the name under which a finished run is found again: all that decides its numbers."""
        idle = {"phantom", *TASK_CONFIGS} - {self.task}
        knobs = {name: value for name, value in self.config(study).deciding().items() if name not in idle}
        deciding = {
            "knobs": knobs,
            "cohort": cohort_sha256,
            "made_with": made_with(study.base.device, self.method, study.base.start_from),
        }
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """One answer that a design needs: a training, tested at some centers.

    Attributes:
        design: Who asks.
        training: What is tested; its knobs are chosen later.
        test_centers: Where.
        label: What the design calls it, as an order of entry; empty where the training says all.
    """

    design: str
    training: Training
    test_centers: tuple[str, ...]
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Sites:
    """Who can train and test a task, in one fold of one cohort; sorted by name."""

    trainers: Mapping[str, tuple[str, ...]]
    testers: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, cohort: Cohort, tasks: Sequence[str]) -> "Sites":
        """Look at what each center has labels for."""
        enough = [name for name in cohort.centers if _count(cohort.at(name)) >= _FEWEST_PATIENTS]
        parts = {
            split: {
                name: tuple(one for one in enough if get_task(name).of(cohort.at(one), split).radiographs)
                for name in tasks
            }
            for split in ("train", "test")
        }
        return cls(trainers=parts["train"], testers=parts["test"])


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a design can plan with.

    Attributes:
        study: The study.
        sites: (fold, dose) to who can train and test what; ``("", "")`` where there is neither.
    """

    study: Study
    sites: Mapping[tuple[str, str], Sites]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the trainings."""
        first = self.study.base.seed
        return list(range(first, first + self.study.config.seeds))

    @property
    def folds(self) -> list[str]:
        """Folds in the spelling of the knob; one empty text where there is just one split."""
        count = self.study.config.folds
        return [""] if count == 1 else [f"{part}/{count}" for part in range(1, count + 1)]

    def settings(self, *, dose: str = "") -> Iterator[tuple[Training, Sites]]:
        """Yield each task, seed and fold as a training without arm and centers, with who is there."""
        for task in self.study.base.tasks:
            for fold in self.folds:
                for seed in self.seeds:
                    blank = Training(arm="", task=task, seed=seed, fold=fold, dose=dose, centers=())
                    yield blank, self.sites[fold, dose]


@cache
def made_with(device: str, method: str, start_from: str) -> dict[str, Any]:
    """Return what decides a run's numbers beside its knobs: device, versions, the code that trains, files of the user.

    Args:
        device: As the knob says.
        method: Of the package, or ``package.file:NAME`` of a user's own.
        start_from: Weights to start from, or empty.
    """
    root, own = Path(str(resources.files("ramw_fed"))), find_spec(method.partition(":")[0]) if ":" in method else None
    files = [root / name for name in ("config.py", "center.py", "seeding.py", "starting_weights.py")]
    files += sorted(file for name in _TRAINING for file in (root / name).glob("**/*.py"))
    files += [Path(own.origin)] if own and own.origin else []
    start = Path(start_from)
    files += ([start] if start.is_file() else sorted(start.glob("models/*.safetensors"))) if start_from else []
    hashes = [file_hash(file) for file in files]
    return {"device": pick_device(device).type, "versions": versions(), "files": hashes}


def alone(blank: Training, sites: Sites) -> list[Training]:
    """Return a training at each center by itself."""
    return [replace(blank, arm=LOCAL, centers=(center,)) for center in sites.trainers[blank.task]]


def pooled(blank: Training, sites: Sites) -> list[Training]:
    """Return the training on all centers' radiographs together."""
    return [replace(blank, arm=CENTRAL, centers=sites.trainers[blank.task])] if sites.trainers[blank.task] else []


def federated(blank: Training, centers: Sequence[str], methods: Iterable[str]) -> list[Training]:
    """Return a training of these centers by each method; none where there are fewer than two of them."""
    if len(centers) < 2:
        return []
    return [replace(blank, arm=method, centers=tuple(sorted(centers))) for method in methods]


def _count(cohort: Cohort) -> int:
    return len({radiograph.patient for radiograph in cohort.radiographs})
