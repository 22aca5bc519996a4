"""TRIPOD+AI, 27 items (Collins et al. 2024, doi:10.1136/bmj-2023-078378), each with the artefact that answers it.

Names are the statement's; what an item asks stands in our own words. An item that no artefact answers is left open: it
is for the authors of a paper, and no text stands in for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ramw_fed.report.document import Paragraph, Section, Table, Text


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item of the checklist.

    Attributes:
        number: 1 to 27.
        name: The statement's.
        asks: What is to be reported.
        artefacts: Files that answer it, any of which will do, to the section of this page; none: always open.
        still: What is left to the authors where an artefact answers a part only.
    """

    number: int
    name: str
    asks: str
    artefacts: Sequence[tuple[str, str]] = ()
    still: str = ""


_COHORT = (("manifest.json", "cohort"), ("study.json", "cohort"))
_CONFIG = (("config.toml", "methods"),)
_MEASURES = (("metrics.json", "results"), ("analysis.json", "results"))

ITEMS: Sequence[Item] = (
    Item(number=1, name="Title", asks="say that a prediction model is developed or evaluated, for whom and for what"),
    Item(number=2, name="Abstract", asks="give the structured summary of TRIPOD+AI for abstracts"),
    Item(number=3, name="Background", asks="give the clinical question, existing models, and known inequalities"),
    Item(number=4, name="Objectives", asks="say what is studied: development, evaluation, or both"),
    Item(
        number=5,
        name="Data",
        asks="say where the data of training and evaluation come from, and when they were taken",
        artefacts=_COHORT,
        still="dates and sources of a real cohort",
    ),
    Item(
        number=6,
        name="Participants",
        asks="describe the centers, who was eligible, and treatments",
        artefacts=_COHORT,
        still="eligibility and treatments",
    ),
    Item(number=7, name="Data preparation", asks="describe quality checks and preprocessing", artefacts=_CONFIG),
    Item(
        number=8,
        name="Outcome",
        asks="define the outcome and how it was assessed, by whom and how well they agree",
        artefacts=_CONFIG,
        still="assessors and their agreement",
    ),
    Item(number=9, name="Predictors", asks="define what the model sees and how it was measured", artefacts=_CONFIG),
    Item(
        number=10,
        name="Sample size",
        asks="explain the size of the sample and whether it suffices",
        still="the justification",
    ),
    Item(number=11, name="Missing data", asks="say how missing values were handled", artefacts=_COHORT),
    Item(
        number=12,
        name="Analytical methods",
        asks="describe model, training, splits, measures, intervals and heterogeneity between centers",
        artefacts=_CONFIG,
    ),
    Item(
        number=13,
        name="Class imbalance",
        asks="say what was done about rare outcomes, and recalibration",
        artefacts=_CONFIG,
    ),
    Item(
        number=14,
        name="Fairness",
        asks="describe how differences between groups were looked at",
        artefacts=_MEASURES,
        still="groups other than centers",
    ),
    Item(
        number=15,
        name="Model output",
        asks="say what the model gives, and how thresholds were chosen",
        artefacts=_CONFIG,
    ),
    Item(
        number=16,
        name="Training versus evaluation",
        asks="name differences between both sets of data",
        artefacts=_COHORT,
    ),
    Item(number=17, name="Ethical approval", asks="name the committee that approved the study"),
    Item(
        number=18,
        name="Open science",
        asks="funding, conflicts, protocol, registration, data and code",
        artefacts=(("manifest.json", "sources"), ("study.json", "sources")),
        still="all but the version of the code and the hash of the data",
    ),
    Item(number=19, name="Patient and public involvement", asks="describe it, or say that there was none"),
    Item(
        number=20,
        name="Participants (results)",
        asks="give numbers of participants, outcomes and their differences between sets",
        artefacts=_COHORT,
        still="demographics",
    ),
    Item(
        number=21, name="Model development", asks="give participants and outcomes in each analysis", artefacts=_COHORT
    ),
    Item(
        number=22,
        name="Model specification",
        asks="give the model so that others can use it",
        artefacts=(("models", "model-card"), ("runs", "methods")),
    ),
    Item(
        number=23,
        name="Model performance",
        asks="give measures with intervals, also by group and center",
        artefacts=_MEASURES,
    ),
    Item(number=24, name="Model updating", asks="give results of updating the model, if it was updated"),
    Item(number=25, name="Interpretation", asks="interpret the results in the light of objectives and other work"),
    Item(number=26, name="Limitations", asks="discuss limits and what they mean"),
    Item(number=27, name="Usability in current care", asks="discuss input quality, users, expertise and next steps"),
)


def tripod_section(sources: Mapping[str, str]) -> Section:
    """Return the checklist.

    Args:
        sources: Files that the page was made from; an item answered by none of them is open.
    """
    held = {name.split("/", 1)[0] for name in sources}
    rows: list[list[Text]] = []
    answered = 0
    for item in ITEMS:
        found = next(((file, section) for file, section in item.artefacts if file in held), None)
        answered += found is not None
        state = "open" if found is None else "in part" if item.still else "reported"
        where = f"{found[0]}; section {found[1]}" if found else ""
        rows.append([(str(item.number),), (item.name,), (item.asks,), (state,), (where,), (item.still,)])
    said = (
        f"{answered} of {len(ITEMS)} items are answered, wholly or in part, from the files named beside them; the "
        "others are open and wait for the authors."
    )
    header = ("item", "name", "what it asks (in our words)", "state", "computed from", "left to the authors")
    table = Table(
        name="tripod",
        caption="TRIPOD+AI (Collins et al. 2024, doi:10.1136/bmj-2023-078378)",
        header=header,
        rows=rows,
    )
    return Section(name="tripod-ai", title="TRIPOD+AI checklist", blocks=[Paragraph((said,)), table])
