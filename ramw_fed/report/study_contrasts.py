"""The declared contrasts between the arms of a study, and how evenly its centers are served."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ramw_fed.report.charts import forest
from ramw_fed.report.digits import chance, short
from ramw_fed.report.document import Block, Table, Text, text
from ramw_fed.report.facts import Facts, numbered
from ramw_fed.report.tables import Address
from ramw_fed.report.words import list_words

SCOPES: Mapping[str, str] = MappingProxyType({"pooled": "all patients pooled", "within centers": "within centers"})
"""What a contrast is taken over, in words."""


def contrast_name(entry: Mapping[str, Any]) -> str:
    """Return the two arms of a contrast."""
    return " - ".join(entry.get("arms") or (entry["first"], entry["second"]))


def in_order(arms: Sequence[str]) -> list[str]:
    """Return the arms that do without a federation first."""
    return sorted(arms, key=lambda arm: ({"local": 0, "central": 1}.get(arm, 2), arm))


def contrasts(facts: Facts, at: Address, name: str, heading: str) -> Iterator[Block]:
    """Yield the table and the forest of the declared contrasts; nothing where there are none."""
    entries: Sequence[Mapping[str, Any]] = facts.get(*at, "contrasts") if facts.has(*at, "contrasts") else ()
    if not entries:
        return
    reasons: list[str] = []
    rows = [_contrast_row(facts, (*at, "contrasts", place), entry, reasons) for place, entry in enumerate(entries)]
    header = (
        "contrast",
        "over",
        "patients",
        "difference",
        "p",
        "p (Holm)",
        "effect r",
        "reading",
        "equivalence",
        "mixed model",
        "centers fixed",
    )
    yield Table(
        name=f"{name}-contrasts",
        caption=f"{heading}: declared contrasts, first less second",
        header=header,
        rows=rows,
        notes=(*numbered(reasons), *_tests(entries)),
    )
    shown = {contrast_name(entry): entry for entry in entries}
    yield forest(f"{name}-differences", f"{heading}: declared contrasts", [("difference", shown)], zero=True)


def _tests(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return by which test each p-value was computed, and what the difference is where it is not one of means."""
    by_test: dict[str, list[str]] = {}
    for entry in entries:
        if "test" in entry:
            by_test.setdefault(entry["test"], []).append(contrast_name(entry))
    said = [f"p by {test}: {list_words(names)}" for test, names in by_test.items()]
    ranked = list_words([name for test, names in by_test.items() if "signed" in test for name in names])
    if ranked:
        said.append(
            f"Difference of {ranked}: the Hodges-Lehmann median shift, the median of the means of all pairs of "
            "patients' differences."
        )
    return said


def _contrast_row(facts: Facts, at: Address, entry: Mapping[str, Any], reasons: list[str]) -> list[Text]:
    def optional(*keys: str, shown: Callable[[float], str] = short) -> Text:
        known = facts.has(*at, *keys) and facts.get(*at, *keys) is not None
        return (facts.number(*at, *keys, form=shown),) if known else ("-",)

    equivalence: Text = ("-",)
    if facts.has(*at, "equivalence", "verdict"):
        margin = optional("equivalence", "margin")
        equivalence = text(f"{entry['equivalence']['verdict']} (margin ", margin, ")")
    models: list[Text] = [
        facts.estimate(*at, model, reasons=reasons) if facts.has(*at, model, "value") else ("-",)
        for model in ("mixed", "fixed")
    ]
    return [
        (contrast_name(entry),),
        (SCOPES[entry["scope"]],),
        facts.count(*at),
        facts.estimate(*at, reasons=reasons),
        optional("p", shown=chance),
        optional("p_holm", shown=chance),
        optional("rank_biserial"),
        (str(entry.get("reading", "-")),),
        equivalence,
        *models,
    ]


def fairness(facts: Facts, at: Address, name: str, heading: str) -> Iterator[Block]:
    """Yield the table of who fares worst, and worse than alone; nothing where no arm has a value."""
    arms = [arm for arm in in_order(facts.keys(*at, "fairness")) if facts.has(*at, "fairness", arm, "worst")]
    if not arms:
        return

    def row(arm: str) -> list[Text]:
        entry = facts.get(*at, "fairness", arm)
        spread: Text = (facts.number(*at, "fairness", arm, "sd"),) if entry.get("sd") is not None else ("-",)
        harmed: list[Text] = [
            (list_words(entry[kind]) or "none" if kind in entry and arm != "local" else "-",)
            for kind in ("harmed", "surely_harmed")
        ]
        worst = text(facts.number(*at, "fairness", arm, "worst"), f" ({entry['worst_center']})")
        return [(arm,), worst, (facts.number(*at, "fairness", arm, "gap"),), spread, *harmed]

    margin = facts.number(*at, "fairness", arms[0], "margin")
    said = f"by more than {margin.text}, the margin declared beforehand" if margin.value else "no margin was declared"
    yield Table(
        name=f"{name}-fairness",
        caption=f"{heading}: how evenly the centers are served",
        header=("arm", "worst center", "best less worst", "SD over centers", "worse off than alone", "surely so"),
        rows=[row(arm) for arm in arms],
        notes=(f"Worse off than alone: {said}; surely so: by the whole 95 % interval.",),
    )
