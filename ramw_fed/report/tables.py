"""Tables of estimates, cohorts and cases."""

from collections.abc import Mapping, Sequence

from ramw_fed.report.document import Table, Text
from ramw_fed.report.facts import Facts, numbered
from ramw_fed.report.measures import form, title, weighed_by

Address = tuple[str | int, ...]
_WITHIN = "within centers"


def scopes_table(
    facts: Facts, name: str, caption: str, at: Address, metrics: Sequence[str], *, is_folded: bool = False
) -> Table:
    """Lay measures side by side, a row a center, then macro and pooled.

    Args:
        facts: All numbers.
        name: Of the table.
        caption: Of the table.
        at: Address of ``pooled``, ``macro`` and ``centers``.
        metrics: Columns.
        is_folded: Shown on demand.
    """
    places: list[tuple[str, Address]] = [
        *((center, (*at, "centers", center)) for center in facts.keys(*at, "centers")),
        *((scope, (*at, scope)) for scope in ("macro", "pooled")),
    ]
    reasons: list[str] = []
    rows = [
        [
            (label,),
            facts.count(*place, metrics[0]),
            *(facts.estimate(*place, metric, reasons=reasons, form=form(metric)) for metric in metrics),
        ]
        for label, place in places
    ]
    header = ("center", "patients", *map(title, metrics))
    return Table(name=name, caption=caption, header=header, rows=rows, notes=numbered(reasons), is_folded=is_folded)


def arms_table(
    facts: Facts, name: str, caption: str, arms: Mapping[str, Address], metric: str, *, deep: bool = True
) -> Table:
    """Lay one measure of several arms side by side, a row a center, then macro, within centers and pooled.

    Args:
        facts: All numbers.
        name: Of the table.
        caption: Of the table.
        arms: Title of a column to the address of its scopes.
        metric: What is shown.
        deep: Whether a scope maps measures to entries, in place of being one.
    """
    first, entry = next(iter(arms.values())), (metric,) if deep else ()
    centers = sorted({center for at in arms.values() for center in facts.keys(*at, "centers")})
    places: list[Address] = [*(("centers", center) for center in centers), ("macro",)]
    is_within = facts.has(*first, "within")
    places += [("within",), ("pooled",)] if is_within else [("pooled",)]
    reasons: list[str] = []
    rows = [
        [
            (_WITHIN if place == ("within",) else str(place[-1]),),
            facts.count(*first, *place, *entry),
            *(facts.estimate(*at, *place, *entry, reasons=reasons, form=form(metric)) for at in arms.values()),
        ]
        for place in places
    ]
    said = f"{_WITHIN.capitalize()}: the centers' own values, which weigh by their {weighed_by(metric)}."
    notes = (*numbered(reasons), *([said] if is_within else []))
    return Table(name=name, caption=caption, header=("center", "patients", *arms), rows=rows, notes=notes)


def parts_table(facts: Facts, name: str, caption: str, at: Address, kind: str, metrics: Sequence[str]) -> Table:
    """Lay measures side by side, a row a bone (joint, overlap); folded."""
    reasons: list[str] = []
    rows: list[list[Text]] = [
        [
            (part,),
            facts.count(*at, "by", kind, part, metrics[0]),
            *(facts.estimate(*at, "by", kind, part, metric, reasons=reasons, form=form(metric)) for metric in metrics),
        ]
        for part in facts.keys(*at, "by", kind)
    ]
    unit = " [mm]" if kind.startswith("joint_space") else ""
    titles = [f"{title(metric)}{unit}" if metric == "mae" else title(metric) for metric in metrics]
    header = (kind.replace("_", " "), "patients", *titles)
    return Table(name=name, caption=caption, header=header, rows=rows, notes=numbered(reasons), is_folded=True)


def availability_table(facts: Facts, task: str) -> Table:
    """Count what each center has for a task; a dash where it has no label of the kind and takes no part."""
    centers = sorted(
        {center for one in facts.keys("manifest", "centers") for center in facts.keys("manifest", "centers", one)}
    )
    titles = _availability(facts, {"segmentation": "radiographs", "erosion": "joints"}.get(task, "examples"))

    def cells(*at: str) -> list[Text]:
        known = facts.has(*at)
        return [(facts.number(*at, key, form=str),) if known else ("-",) for key in titles]

    rows = [[(center,), *cells("manifest", "centers", task, center)] for center in centers]
    return Table(
        name=f"availability-{task}",
        caption=f"{task.capitalize()}: labels of each center; a dash: none, so it takes no part",
        header=("center", *titles.values()),
        rows=[*rows, [("all",), *cells("derived", "totals", task)]],
    )


def _availability(facts: Facts, examples: str) -> dict[str, str]:
    """Return key to title of what centers told of their labels; where patients are protected, little."""
    patients = {"patients": "training patients"}
    tested = {"validation": f"validation {examples}", "test": "test radiographs"}
    if not facts.has("manifest", "privacy"):
        return {**patients, "examples": f"training {examples}", **tested}
    evaluation = facts.get("knobs")["evaluation"]
    paid = {"validation": "validation patients"} if evaluation == "paid" else {}
    return {**patients, **(tested if evaluation == "unprotected" else paid)}
