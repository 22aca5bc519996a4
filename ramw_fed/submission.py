"""Predictions that someone else made, held against a cohort before anything is measured.

A folder of ``<stem>.npy`` (bones, H, W) as acquired and/or one ``scores.csv``; see ``docs/comparing.md``.
"""

import csv
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from ramw_fed.data.cohort import Cohort, Description
from ramw_fed.data.layout import known_joint
from ramw_fed.data.radiograph import Split, read_masks
from ramw_fed.errors import CohortError, PredictionError
from ramw_fed.tasks import SEGMENTATION
from ramw_fed.tasks.erosion import ErosionExamples

SCORES = "scores.csv"
_NAME_COLUMNS = ("radiograph", "image", "name")
_REMARKS = frozenset({"side", "eroded", "remark", "center", "patient"})  # what our own files also hold
_SHOWN = 10

Joint = tuple[str, str]
"""Names of radiograph and joint."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Probability of an erosion in [0, 1], and the grade where one was predicted."""

    probability: float
    grade: int | None = None


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a folder predicts of one split of a cohort.

    Attributes:
        masks: Name of a radiograph to its file; empty where the folder holds no masks.
        scores: Score of each joint that has a true grade; empty where the folder holds no scores.
        missing: Task to the number of radiographs (joints) that have a truth and no prediction.
        without_truth: Joints that are predicted and have no true grade: nothing to measure.
        not_asked: Radiographs that are predicted and not to be measured.
        others: Ending of files that hold no predictions to their number.
    """

    masks: Mapping[str, Path]
    scores: Mapping[Joint, Score]
    missing: Mapping[str, int]
    without_truth: int
    not_asked: int
    others: Mapping[str, int]

    def remarks(self) -> list[str]:
        """Return in words what was not measured."""
        units = {"segmentation": "radiographs", "erosion": "scored joints"}
        said = [
            f"{task}: {count} {units[task]} have no prediction and are left out, not counted as errors"
            for task, count in self.missing.items()
            if count
        ]
        if self.without_truth:
            said.append(f"erosion: {self.without_truth} predicted joints have no true grade and are not measured")
        if self.not_asked:
            said.append(
                f"{self.not_asked} predicted radiographs are of other centers, or faulty and left out: not measured"
            )
        if self.others:
            kinds = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in sorted(self.others.items()))
            said.append(f"files that are neither masks (.npy) nor {SCORES}, not read: {kinds}")
        return said


class Faults:
    """Everything that is wrong with a folder, said at once."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, what: str, where: str) -> None:
        """Note one fault and the file or line that has it."""
        self._found.setdefault(what, []).append(where)

    def refuse(self, folder: Path) -> None:
        """Raise a PredictionError that lists all faults, if there is one."""
        if not self._found:
            return
        lines = []
        for what, places in self._found.items():
            more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
            lines.append(f"{what} ({len(places)}): {', '.join(places[:_SHOWN])}{more}")
        raise PredictionError(
            f"{folder} cannot be measured as it is:\n  " + "\n  ".join(lines) + "\nForm of the files: docs/comparing.md"
        )


def read_submission(
    folder: Path,
    cohort: Cohort,
    split: Split,
    examples: ErosionExamples,
    *,
    not_asked: Collection[str] = (),
    allow_missing: bool = False,
) -> Submission:
    """Read and check a folder of predictions.

    Args:
        folder: Masks, ``scores.csv``, or both; what it holds is what is measured.
        cohort: All radiographs.
        split: Which of them are predicted.
        examples: The joints of that split that have a true grade.
        not_asked: Names of radiographs beside the cohort's that may be predicted; their predictions are not read.
        allow_missing: Count what has a truth and no prediction, in place of refusing it.

    Raises:
        PredictionError: All faults of all files.
    """
    if not folder.is_dir():
        raise PredictionError(f"{folder} is no folder; one with <stem>.npy and/or {SCORES} is wanted")
    faults = Faults()
    files = sorted(path for path in folder.iterdir() if path.is_file())
    masks = {path.stem: path for path in files if path.suffix == ".npy"}
    others = Counter(path.suffix for path in files if path.suffix != ".npy" and path.name != SCORES)
    has_scores = (folder / SCORES).exists()
    surplus = masks.keys() & set(not_asked)
    masks = {name: path for name, path in masks.items() if name not in surplus}
    if not masks and not has_scores and not surplus:
        found = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items())) or "nothing"
        raise PredictionError(f"{folder} holds {found}; <stem>.npy (bones, H, W) and/or {SCORES} are wanted")
    missing: dict[str, int] = {}
    if masks:
        part = SEGMENTATION.of(cohort, split)
        missing["segmentation"] = _check_masks(masks, part, faults, allow_missing)
    scores: dict[Joint, Score] = {}
    without_truth = 0
    if has_scores:
        named = [
            (_radiograph(row["radiograph"], not_asked), (line, row)) for line, row in _rows(folder / SCORES, faults)
        ]
        surplus |= {name for name, _ in named if name in not_asked}
        rows = [row for name, row in named if name not in not_asked]
        scores, without_truth = _read_scores(rows, cohort, examples, faults)
        absent = [joint for joint in _wanted(examples) if joint not in scores]
        missing["erosion"] = _missing(map("/".join, absent), "scored joint without a row", faults, allow_missing)
    faults.refuse(folder)
    return Submission(
        masks=masks,
        scores=scores,
        missing=missing,
        without_truth=without_truth,
        not_asked=len(surplus),
        others=others,
    )


def _check_masks(masks: Mapping[str, Path], part: Cohort, faults: Faults, allow_missing: bool) -> int:
    truths = {radiograph.name: radiograph.masks for radiograph in part.radiographs}
    for name, path in masks.items():
        truth = truths.get(name)
        if truth is None:
            faults.add("masks of what has no outlines in this split", path.name)
            continue
        try:
            shape = read_masks(path).shape
        except CohortError as error:
            faults.add("masks that cannot be read", str(error))
            continue
        wanted = np.load(truth, mmap_mode="r", allow_pickle=False).shape
        if shape != wanted:
            faults.add("masks of another shape (bones, H, W) than the radiograph", f"{path.name} {shape}, not {wanted}")
    absent = (name for name in truths if name not in masks)
    return _missing(absent, "radiograph without masks", faults, allow_missing)


def _read_scores(
    rows: Iterable[tuple[int, Mapping[str, str]]], cohort: Cohort, examples: ErosionExamples, faults: Faults
) -> tuple[dict[Joint, Score], int]:
    """Return the scores of joints that have a true grade, and the number of others."""
    graded = set(_wanted(examples))
    known = {radiograph.name for radiograph in cohort.radiographs}
    scores: dict[Joint, Score] = {}
    for number, row in rows:
        place = f"line {number}"
        name = _radiograph(row["radiograph"], known)
        joint = known_joint(row["joint"], cohort.description.joints)
        if name not in known:
            faults.add(f"{SCORES}: radiograph that has no place in the cohort", f"{place} {name!r}")
        if joint is None:
            faults.add(
                f"{SCORES}: joint other than {', '.join(cohort.description.joints)}", f"{place} {row['joint']!r}"
            )
        score = _score(row, cohort.description, place, faults)
        if name not in known or joint is None or score is None:
            continue
        if (name, joint) in scores:
            faults.add(f"{SCORES}: joint that has a row already", place)
        scores[name, joint] = score
    return {joint: score for joint, score in scores.items() if joint in graded}, len(scores.keys() - graded)


def _rows(path: Path, faults: Faults) -> list[tuple[int, dict[str, str]]]:
    """Return number and cells of each line, the radiograph's under ``radiograph``; none where columns are wrong."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="surplus", restval="")
            names = [name.strip().lower() for name in reader.fieldnames or []]
            reader.fieldnames = names
            rows = [(reader.line_num, dict(row)) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        faults.add(f"{SCORES} cannot be read as CSV", str(error))
        return []
    own = [name for name in _NAME_COLUMNS if name in names]
    wanted = {"joint", "probability"}
    unknown = sorted(set(names) - {*_NAME_COLUMNS, *wanted, "predicted_grade", *_REMARKS})
    for what, columns in (
        (f"{SCORES}: column missing", sorted(wanted - set(names)) + ([] if own else ["radiograph"])),
        (f"{SCORES}: more than one column names the radiograph", own if len(own) > 1 else []),
        (f"{SCORES}: column not known (a grade that was predicted is predicted_grade)", unknown),
        (f"{SCORES}: column twice", sorted({name for name in names if names.count(name) > 1})),
    ):
        for column in columns:
            faults.add(what, repr(column))
    for number in (number for number, row in rows if "surplus" in row):
        faults.add(f"{SCORES}: more cells than columns", f"line {number}")
    if not own or not wanted <= set(names):
        return []
    return [(number, row | {"radiograph": row[own[0]]}) for number, row in rows]


def _score(row: Mapping[str, str], description: Description, place: str, faults: Faults) -> Score | None:
    probability, grade = _number(row["probability"]), None
    if not 0 <= probability <= 1:
        faults.add(f"{SCORES}: probability that is no number in [0, 1]", f"{place} {row['probability']!r}")
    if "predicted_grade" in row:
        grade = _number(row["predicted_grade"])
        if not (0 <= grade <= description.max_grade and grade.is_integer()):
            wanted = f"whole number from 0 to {description.max_grade}"
            faults.add(f"{SCORES}: predicted_grade that is no {wanted}", f"{place} {row['predicted_grade']!r}")
            return None
    if not 0 <= probability <= 1:
        return None
    return Score(probability=probability, grade=None if grade is None else int(grade))


def _missing(names: Iterable[str], what: str, faults: Faults, allow_missing: bool) -> int:
    absent = list(names)
    for name in absent:
        if not allow_missing:
            faults.add(f"{what} (--allow-missing counts them)", name)
    return len(absent)


def _wanted(examples: ErosionExamples) -> Iterator[Joint]:
    return zip(map(str, examples.names), map(str, examples.joints), strict=True)


def _radiograph(name: str, known: Collection[str]) -> str:
    """Return the name of a radiograph, given as such or as its image file."""
    own = PurePath(name.strip()).name
    return own if own in known else PurePath(own).stem


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
