"""What a study says of itself: what was asked, of whom, what was chosen, and the seals of its table."""

from collections.abc import Mapping
from typing import Any

from ramw_fed.data.cohort import Cohort
from ramw_fed.data.radiograph import SPLITS
from ramw_fed.manifest import git_commit, versions
from ramw_fed.methods import get_method
from ramw_fed.studies import dose_response, table
from ramw_fed.studies.config import Study
from ramw_fed.studies.files import file_hash
from ramw_fed.studies.held_out import Door
from ramw_fed.studies.store import as_dict
from ramw_fed.studies.training import Ground, Training
from ramw_fed.studies.work import Work
from ramw_fed.tasks import get_task


def describe(work: Work, chosen: Mapping[Training, Training], door: Door, seconds: float) -> dict[str, Any]:
    """Return ``study.json``: what was asked, of whom, what was chosen, and the seals of the table."""
    study, cohort = work.study, work.cohort(Ground(study=work.study, sites={}).folds[0], min(work.roots))
    opened = door.opened()
    trainings = []
    for training in sorted(set(chosen.values())):
        key = work.order(training).folder.name
        centers = sorted(name.partition("/")[2] for name in opened if name.startswith(f"{key}/"))
        trainings.append(as_dict(training, work.trained(training), key, {"opened": centers}))
    read = table.read_table(work.folder)
    return {
        "name": study.name,
        "kind": cohort.description.kind,
        "cohort": {"sha256": cohort.sha256, "kind": cohort.description.kind},
        "versions": versions(),
        "git_commit": git_commit(),
        "seconds": round(seconds, 1),
        "seed": study.base.seed,
        "resamples": study.base.resamples,
        "seeds": Ground(study=study, sites={}).seeds,
        **{name.replace("-", "_"): value for name, value in _asked(study).items()},
        "availability": availability(cohort),
        "trainings": trainings,
        "table": {
            "rows": len(read["value"]),
            "csv_sha256": file_hash(work.folder / "table.csv"),
            "parquet_sha256": file_hash(work.folder / "table.parquet"),
        },
        "seals": table.seals(read),
    }


def _asked(study: Study) -> dict[str, Any]:
    config = study.config
    return {
        "tasks": list(study.base.tasks),
        "designs": list(config.designs),
        "methods": list(config.methods),
        "own_models": [name for name in config.methods if get_method(name).keeps_own],
        "folds": config.folds,
        "metrics": list(config.metrics),
        "contrasts": [list(pair) for pair in config.pairs()],
        "margins": config.equivalence_margins(),
        "tune": {name: list(values) for name, values in config.grid().items()},
        "dial": config.dial if dose_response.DESIGN in config.designs else None,
    }


def availability(cohort: Cohort) -> dict[str, dict[str, dict[str, int]]]:
    """Return, by center and split, patients, radiographs, those with masks, scored and eroded joints."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for center in cohort.centers:
        for split in SPLITS:
            masked = get_task("segmentation").of(cohort.at(center), split).radiographs
            scored = get_task("erosion").of(cohort.at(center), split).radiographs
            grades = [grade for one in scored for grade in one.scores.values()]
            found.setdefault(center, {})[split] = {
                "patients": len({one.patient for one in (*masked, *scored)}),
                "radiographs": len({one.name for one in (*masked, *scored)}),
                "masks": len(masked),
                "scored_joints": len(grades),
                "eroded_joints": sum(grade > 0 for grade in grades),
            }
    return found
