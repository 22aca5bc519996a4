"""A study from its file to its table: what is trained, chosen, opened and written, in pieces that survive any kill.

```
STUDY/
  config.toml   study.json   table.csv   table.parquet   analysis.json   opened.json
  runs/<key>/                 a run folder each, without a test split
  overlays/<center>.png       worst, median and best radiograph under the last method
  measured/<key>/<center>/    what a run's weights measured on a center's test patients
```
"""

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from ramw_fed.config_sources import read_toml
from ramw_fed.errors import StudyError
from ramw_fed.progress import Watch, nobody
from ramw_fed.run_folder import is_leftover, make_folder, write_atomically
from ramw_fed.studies import table
from ramw_fed.studies.analysis import analyse
from ramw_fed.studies.cases import draw_study_cases
from ramw_fed.studies.config import Study
from ramw_fed.studies.held_out import Door
from ramw_fed.studies.manifest import describe
from ramw_fed.studies.store import read_measured
from ramw_fed.studies.work import PhantomFolder, Work, cohort_roots


def run_study(study: Study, folder: Path, phantom_folder: PhantomFolder, watch: Watch = nobody) -> dict[str, Any]:
    """Train, choose, open, measure, write the table and analyse it; whatever is there already is not done again.

    Args:
        study: What is asked.
        folder: New, empty, or that of the same study.
        phantom_folder: Where phantoms lie.
        watch: Told how far each phase is.

    Returns:
        The analysis.

    Raises:
        StudyError: The folder holds something else, a run failed, or a rule of the test split would be broken.
    """
    started = time.monotonic()
    with claimed(study, folder):
        work = Work(study, folder, cohort_roots(study, phantom_folder), watch)
        work.refuse_known_start()
        cells = work.cells()
        wanted = sorted({cell.training for cell in cells})
        chosen = work.choose(wanted)
        work.train_all(list(chosen.values()), "trainings")
        door = Door(folder)
        door.freeze({work.order(one).folder.name: work.trained(one).best_round for one in chosen.values()})
        by_cell = {cell: chosen[cell.training] for cell in cells}
        questions = work.measure_all(by_cell, door)
        rows = (
            row
            for cell, training in by_cell.items()
            for center in cell.test_centers
            for row in table.rows_of(study.name, cell, center, read_measured(questions[training, center]))
        )
        table.write_table(folder, rows)
        draw_study_cases(work, by_cell, questions)
        watch("analysis", 0, 1)
        manifest = describe(work, chosen, door, time.monotonic() - started)
        write_atomically(folder / "study.json", _json(manifest))
        analysis = analyse(table.read_table(folder), manifest)
        write_atomically(folder / "analysis.json", _json(analysis))
        watch("analysis", 1, 1)
    return analysis


@contextmanager
def claimed(study: Study, folder: Path) -> Iterator[None]:
    """Hold the folder for this study alone.

    Raises:
        StudyError: It holds something else, another study, or one that is under way.
    """
    path = folder / "config.toml"
    if folder.is_dir() and not path.exists() and any(not is_leftover(entry) for entry in folder.iterdir()):
        raise StudyError(f"{folder} holds something else than a study; choose another --out")
    make_folder(folder)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StudyError(f"a study is under way in {folder}; wait for it, or choose another --out") from error
        if path.exists():
            _refuse_other(Study.of(study.name, read_toml(path)), study, folder)
        else:
            write_atomically(path, tomli_w.dumps(study.tree_with_study()))
        yield


def _refuse_other(before: Study, now: Study, folder: Path) -> None:
    old, new = before.deciding(), now.deciding()
    if old != new:
        lines = "; ".join(sorted(f"was {line}" for line in old - new) + sorted(f"is {line}" for line in new - old))
        raise StudyError(
            f"{folder} holds a study with other knobs: {lines}. Give it a folder of its own: finished runs are found "
            "again where they are the same (copy runs/ beside it)"
        )


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
