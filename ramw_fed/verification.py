"""Whether a report says what its files say, and the files what they said when it was written.

Four looks, each of which finds what the one before cannot:

1. the page against its seal: any change of the page, unless it was sealed anew;
2. the files against the hashes that the page states: any change of a file, and in tables whose rows;
3. the files against each other: the measures are taken anew from the tables;
4. the page against one that is made anew from those: each number, and the words and drawings of each section.

Who changes table, measures and page alike, and seals anew, leaves nothing to find in the folder: whoever must rely on a
report needs its seal from elsewhere.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ramw_fed.errors import RamwFedError, RunError
from ramw_fed.report.page import render, seal, seal_of
from ramw_fed.report.parsing import Page, read_page
from ramw_fed.report.run_facts import read_run, run_sources
from ramw_fed.report.run_report import run_document
from ramw_fed.report.study_facts import file_hash, read_json, read_study, study_sources
from ramw_fed.report.study_report import study_document

_DRAWINGS = re.compile(r"<svg.*?</svg>|base64,[A-Za-z0-9+/=]*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Alteration:
    """Something that is not as it was.

    Attributes:
        where: ``seal``, a file, a part of its rows, the address of a number, or a section of the page.
        what: In words, with both values where there are two.
    """

    where: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found.

    Attributes:
        alterations: Empty where report and files agree.
        seal: Of the page; None where it bears none.
        remarks: What could not be compared, in words.
    """

    alterations: tuple[Alteration, ...]
    seal: str | None
    remarks: tuple[str, ...] = ()

    @property
    def is_intact(self) -> bool:
        """Whether nothing was altered."""
        return not self.alterations

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        found = [asdict(one) for one in self.alterations]
        return {"intact": self.is_intact, "seal": self.seal, "alterations": found, "remarks": list(self.remarks)}

    def lines(self, most: int = 50) -> list[str]:
        """Return it in words, one alteration a line, at most so many."""
        if self.is_intact:
            return [f"intact: every number agrees with its files; seal {self.seal}"]
        shown = [f"{one.where}: {one.what}" for one in self.alterations[:most]]
        more = len(self.alterations) - len(shown)
        return [*shown, *([f"and {more} more (--json lists all)"] if more else [])]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """How reports of one kind are made and checked.

    Attributes:
        sources: Folder to the hashes that its report states.
        disagreements: Folder to what the tables give otherwise than the file of measures says.
        page: (folder, options of the page, whether to take the measures from the tables in place of that file) to the
            report as it would be made now.
    """

    sources: Callable[[Path], Mapping[str, str]]
    disagreements: Callable[[Path], Iterator[Alteration]]
    page: Callable[[Path, Mapping[str, str], bool], str]


def verify_report(report: Path, subjects: Mapping[str, Subject], *, quick: bool = False) -> Verification:
    """Check a report that lies in the folder of its run or study.

    Args:
        report: The page.
        subjects: Kind of a report to how it is checked.
        quick: Only the first two looks, which need no recomputation.

    Raises:
        RunError: There is no such file, or it is no report.
    """
    if not report.is_file():
        raise RunError(f"{report} is no file; give the report.html of a run or a study")
    text = report.read_bytes().decode(errors="replace")
    page = read_page(text)
    found = list(_seal_alterations(text))
    kind = page.kind if page.kind in subjects else _kind_of(report.parent)
    if kind is None:
        raise RunError(f"{report} is no report of ramw-fed's, or lies outside the folder of its run or study")
    found += _source_alterations(page, subjects[kind].sources(report.parent))
    remarks: list[str] = []
    if not quick:
        try:
            disagreements = list(subjects[kind].disagreements(report.parent))
            anew = subjects[kind].page(report.parent, page.options, bool(disagreements))
            found += [*disagreements, *_page_alterations(page, anew, remarks)]
        except (RamwFedError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            found.append(Alteration(where="files", what=f"nothing can be computed from them: {error}"))
    return Verification(alterations=tuple(found), seal=seal_of(text), remarks=tuple(remarks))


def _kind_of(folder: Path) -> str | None:
    """Return what a folder holds: the page may not say it any more."""
    names = {"study": "study.json", "run": "metrics.json"}
    return next((kind for kind, name in names.items() if (folder / name).exists()), None)


def _seal_alterations(text: str) -> Iterator[Alteration]:
    if seal_of(text) is None:
        yield Alteration(where="seal", what="the page bears none")
    elif seal(text) != text:
        yield Alteration(where="seal", what="the page is not as it was sealed")


def _source_alterations(page: Page, now: Mapping[str, str]) -> Iterator[Alteration]:
    for name in sorted({*page.sources, *now}):
        if name not in now:
            yield Alteration(where=name, what="the page was made from it, and it is not there")
        elif name not in page.sources:
            yield Alteration(where=name, what="the page was made without it")
        elif page.sources[name] != now[name]:
            yield Alteration(where=name, what="changed since the report was written")


def _page_alterations(page: Page, anew: str, remarks: list[str]) -> Iterator[Alteration]:
    """Yield how a page differs from the one that its files give now."""
    wanted = read_page(anew)
    if page.tools != wanted.tools:
        own, ours = (
            ", ".join(f"{name} {version}" for name, version in tools.items()) for tools in (page.tools, wanted.tools)
        )
        remarks.append(f"drawings were not compared: made by {own}, here is {ours}")
        page, wanted = page.without(_DRAWINGS), wanted.without(_DRAWINGS)
    for name in dict.fromkeys([*wanted.sections, *page.sections]):
        stated, right = page.sections.get(name), wanted.sections.get(name)
        if stated is None or right is None:
            yield Alteration(where=f"section {name}", what="missing" if stated is None else "does not belong there")
            continue
        yield from _number_alterations(stated.numbers, right.numbers)
        if stated.words != right.words:
            yield Alteration(where=f"section {name}", what="words, tables or drawings differ")
    if page.frame != wanted.frame and page.tools == wanted.tools:
        yield Alteration(where="page", what="head, style or script differ")


def _number_alterations(
    stated: tuple[tuple[str, str, str], ...], wanted: tuple[tuple[str, str, str], ...]
) -> Iterator[Alteration]:
    """Yield the numbers that differ, in order; where some are missing or too many the section's words differ too."""
    for (path, value, shown), (right_path, right_value, right_shown) in zip(stated, wanted, strict=False):
        if (path, value, shown) == (right_path, right_value, right_shown):
            continue
        what = f"the page says {value} (shown as {shown}), the files give {right_value} (shown as {right_shown})"
        yield Alteration(where=right_path, what=what if path == right_path else f"{what}; its address reads {path}")


def differing(stated: Any, anew: Any, where: str = "", source: str = "the tables give") -> Iterator[Alteration]:
    """Yield the addresses at which two trees of numbers differ by more than another machine's last digits.

    >>> [one.where for one in differing({"a": [1, 2]}, {"a": [1, 3], "b": 0})]
    ['/a/1', '/b']
    """
    if isinstance(stated, Mapping) and isinstance(anew, Mapping):
        for key in sorted({*stated, *anew}):
            yield from differing(stated.get(key, _NOTHING), anew.get(key, _NOTHING), f"{where}/{key}", source)
    elif isinstance(stated, list) and isinstance(anew, list) and len(stated) == len(anew):
        for place, (own, other) in enumerate(zip(stated, anew, strict=True)):
            yield from differing(own, other, f"{where}/{place}", source)
    elif not _is_same(stated, anew):
        yield Alteration(where=where, what=f"the file says {stated!r}, {source} {anew!r}")


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def _run_disagreements(folder: Path) -> Iterator[Alteration]:
    stated, anew = (read_run(folder, anew=anew).facts.get("metrics") for anew in (False, True))
    return differing(stated, anew, "metrics.json")


def _run_page(folder: Path, options: Mapping[str, str], anew: bool) -> str:
    return render(run_document(read_run(folder, anew=anew), with_images=options.get("images") == "yes"))


RUN = Subject(sources=run_sources, page=_run_page, disagreements=_run_disagreements)


@dataclass(frozen=True, kw_only=True)
class StudyFiles:
    """How what stands in a study's folder is read and computed again.

    Attributes:
        tables: Name of a file to what reads the study's table from it: (folder) to rows; ``table.csv`` is analysed.
        seals: Table to the hash of each group of rows, as ``study.json`` states them.
        analyse: (table, ``study.json``) to what ``analysis.json`` holds.
        logged: (folder, a training of ``study.json``) to what the log of its rounds says in its place.
    """

    tables: Mapping[str, Callable[[Path], Any]]
    seals: Callable[[Any], Mapping[str, str]]
    analyse: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
    logged: Callable[[Path, Mapping[str, Any]], Mapping[str, Any]]

    def disagreements(self, folder: Path) -> Iterator[Alteration]:
        """Yield where tables, openings and logs say otherwise than ``study.json`` and ``analysis.json``."""
        study = read_json(folder / "study.json")
        for name, read in self.tables.items():
            if file_hash(folder / name) != study["table"][f"{name.removeprefix('table.')}_sha256"]:
                yield Alteration(where=name, what="not the file whose hash study.json states")
            yield from _row_alterations(name, study["seals"], self.seals(read(folder)))
        opened = read_json(folder / "opened.json")
        for place, training in enumerate(study["trainings"]):
            found = dict(self.logged(folder, training))
            found["opened"] = sorted(
                name.partition("/")[2] for name in opened["opened"] if name.startswith(f"{training['key']}/")
            )
            stated = {name: training.get(name, _NOTHING) for name in found}
            yield from differing(stated, found, f"study.json/trainings/{place}", "opened.json and rounds.jsonl give")
        analysis = self.analyse(self.tables["table.csv"](folder), study)
        yield from differing(read_json(folder / "analysis.json"), analysis, "analysis.json")

    def page(self, folder: Path, options: Mapping[str, str], anew: bool) -> str:
        """Return the report as it would be made now; see :class:`Subject`."""
        study = read_json(folder / "study.json")
        analysis = self.analyse(self.tables["table.csv"](folder), study) if anew else None
        material = read_study(folder, analysis=analysis)
        return render(study_document(material, with_images=options.get("images") == "yes"))

    def subject(self) -> Subject:
        """Return how reports of studies are checked."""
        return Subject(sources=study_sources, disagreements=self.disagreements, page=self.page)


def _row_alterations(name: str, stated: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Alteration]:
    for rows in sorted(rows for rows in {*stated, *now} if stated.get(rows) != now.get(rows)):
        what = "rows changed" if rows in stated and rows in now else "rows missing" if rows in stated else "rows new"
        yield Alteration(where=f"{name}, rows of {rows}", what=what)
