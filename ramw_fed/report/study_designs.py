"""The designs of a study, a section each: arms, matrix, held-out centers, scale and dose."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ramw_fed.report.charts import Series, curves, forest, heat_map
from ramw_fed.report.document import Block, Paragraph, Section, Table, Text, text
from ramw_fed.report.facts import Facts, numbered
from ramw_fed.report.measures import LESS_IS_BETTER, form, title, weighed_by
from ramw_fed.report.study_contrasts import contrasts, fairness, in_order
from ramw_fed.report.tables import Address, arms_table

Blocks = Iterator[Block]


def design_sections(facts: Facts) -> list[Section]:
    """Return a section for each design that the study analysed, in the order in which they are read."""
    found = []
    for design, (name, said, show) in _DESIGNS.items():
        blocks: list[Block] = [Paragraph((said,))]
        for task in reversed(facts.keys("analysis", "designs", design)):
            for metric in facts.keys("analysis", "designs", design, task):
                blocks += show(facts, ("analysis", "designs", design, task, metric), f"{design}-{task}-{metric}")
        if len(blocks) > 1:
            found.append(Section(name=design, title=name, blocks=blocks))
    return found


def _matched_arms(facts: Facts, at: Address, name: str) -> Blocks:
    task, metric = str(at[-2]), str(at[-1])
    arms: dict[str, Address] = {arm: (*at, "arms", arm) for arm in in_order(facts.keys(*at, "arms"))}
    heading = f"{task.capitalize()}, {title(metric)}"
    yield arms_table(
        facts, name, f"{heading}: by center and arm, with 95 % intervals by patient", arms, metric, deep=False
    )
    panels = [
        (scope, {arm: facts.get(*place, scope) for arm, place in arms.items()})
        for scope in ("macro", "pooled")
        if all(facts.has(*place, scope, "value") for place in arms.values())
    ]
    if panels:
        yield forest(f"{name}-forest", f"{heading} by arm", panels, is_shared=True)
    yield from contrasts(facts, at, name, heading)
    yield from fairness(facts, at, name, heading)
    yield from _seeds(facts, arms, name, heading, metric)


def _seeds(facts: Facts, arms: Mapping[str, Address], name: str, heading: str, metric: str) -> Blocks:
    seeds = sorted({seed for at in arms.values() for seed in facts.keys(*at, "seeds")}, key=int)
    if len(seeds) < 2:
        return

    def cell(*at: str | int) -> Text:
        known = facts.has(*at) and facts.get(*at) is not None
        return (facts.number(*at, form=form(metric)),) if known else ("-",)

    yield Table(
        name=f"{name}-seeds",
        caption=f"{heading}: each seed, and their standard deviation",
        header=("arm", *(f"seed {seed}" for seed in seeds), "SD"),
        rows=[
            [(arm,), *(cell(*at, "seeds", seed) for seed in seeds), cell(*at, "seed_sd")] for arm, at in arms.items()
        ],
        notes=("Seeds are not patients: their spread shows how much training by chance alone changes.",),
        is_folded=True,
    )


def _matrix(facts: Facts, at: Address, name: str) -> Blocks:
    task, metric = str(at[-2]), str(at[-1])
    found = facts.get(*at)
    rows, columns = list(found["rows"]), list(found["columns"])
    heading = f"{task.capitalize()}, {title(metric)}"
    yield heat_map(
        f"{name}-map",
        f"{heading}: trained here, tested there",
        {row: found["cells"].get(row, {}) for row in rows},
        columns,
        rows_are="trained at",
        columns_are="tested at",
        best_is_low=metric in LESS_IS_BETTER,
    )
    reasons: list[str] = []
    yield Table(
        name=name,
        caption=f"{heading}: rows trained, columns tested, with 95 % intervals by patient",
        header=("trained at", *columns),
        rows=[
            [
                (row,),
                *(facts.estimate(*at, "cells", row, column, reasons=reasons, form=form(metric)) for column in columns),
            ]
            for row in rows
        ],
        notes=numbered(reasons),
        is_folded=True,
    )
    if facts.has(*at, "gap", "value"):
        gap = facts.estimate(*at, "gap", reasons=[]) if found["gap"]["value"] is not None else (found["gap"]["reason"],)
        said = f"Gap, at home less elsewhere, within centers, which weigh by their {weighed_by(metric)}: "
        yield Paragraph(text(said, gap, "."))


def _held_out(facts: Facts, at: Address, name: str) -> Blocks:
    task, metric = str(at[-2]), str(at[-1])
    arms = in_order(facts.keys(*at))
    heading = f"{task.capitalize()}, {title(metric)}"
    centers = sorted({center for arm in arms for center in facts.keys(*at, arm, "centers")})
    reasons: list[str] = []

    def row(label: str, *places: Address) -> list[Text]:
        """Return two cells an arm; the second place may be lacking."""
        cells: list[Text] = []
        for arm in arms:
            shown = [facts.estimate(*at, arm, *one, reasons=reasons, form=form(metric)) for one in places]
            cells += [*shown, ("-",)][:2]
        return [(label,), *cells]

    cost = (
        "Cost of being held out: member less held out, within the centers tested both ways, which weigh by their "
        f"{weighed_by(metric)}."
    )
    rows = [row(one, ("centers", one), ("inside", one)) for one in centers]
    rows += [row("macro", ("macro",)), row("cost of being held out", ("loss",))]
    yield Table(
        name=name,
        caption=f"{heading}: each center held out of training, and as a member of it",
        header=("center", *(f"{arm}, {shown}" for arm in arms for shown in ("held out", "member"))),
        rows=rows,
        notes=(*numbered(reasons), cost),
    )
    panels = [
        (
            arm,
            {
                **{one: facts.get(*at, arm, "centers", one) for one in centers if facts.has(*at, arm, "centers", one)},
                "macro": facts.get(*at, arm, "macro"),
            },
        )
        for arm in arms
    ]
    yield forest(f"{name}-forest", f"{heading} at the center held out", panels[:4], is_shared=True)


def _along(axis: str) -> Callable[[Facts, Address, str], Blocks]:
    def show(facts: Facts, at: Address, name: str) -> Blocks:
        task, metric = str(at[-2]), str(at[-1])
        arms = in_order(facts.keys(*at))
        points = sorted({point for arm in arms for point in facts.keys(*at, arm)}, key=float)
        heading = f"{task.capitalize()}, {title(metric)} by {axis}"
        reasons: list[str] = []
        yield Table(
            name=name,
            caption=f"{heading}, with 95 % intervals by patient",
            header=(axis, *arms),
            rows=[
                [
                    (point,),
                    *(facts.estimate(*at, arm, point, reasons=reasons, form=form(metric)) for arm in arms),
                ]
                for point in points
            ],
            notes=numbered(reasons),
        )
        lines: Series = {arm: _line(facts.get(*at, arm)) for arm in arms}
        about = "Bars: 95 % intervals by patient. What is not estimable is left out."
        yield curves(f"{name}-curve", heading, [(title(metric), lines)], along=axis, about=about)

    return show


def _line(entries: Mapping[str, Mapping[str, Any]]) -> list[tuple[float, ...]]:
    known = sorted((float(point), entry) for point, entry in entries.items() if entry["value"] is not None)
    return [(point, entry["value"], *(entry.get("ci") or ())) for point, entry in known]


_DESIGNS: Mapping[str, tuple[str, str, Callable[[Facts, Address, str], Blocks]]] = MappingProxyType(
    {
        "matched-arms": (
            "Local, central or federated",
            "Every arm trains as long on each radiograph and has the same budget for tuning. Local: each center alone, "
            "tested on itself; central: radiographs pooled, for comparison only.",
            _matched_arms,
        ),
        "cross-site-matrix": (
            "Trained here, tested there",
            "How a model of one center does at the others, with the pooled and federated models below.",
            _matrix,
        ),
        "leave-one-center-out": (
            "At a center that nobody trained on",
            "Each center in turn is left out of training, tuning and choice of the round, and tested once.",
            _held_out,
        ),
        "scale-up": (
            "More centers",
            "Over random orders in which centers join; the mean over orders.",
            _along("centers"),
        ),
        "dose-response": (
            "How far centers differ",
            "The dial of the phantom that sets how far centers differ; 0: the same distribution at every center.",
            _along("dial"),
        ),
    }
)
