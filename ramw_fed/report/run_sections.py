"""The sections of a run's report; one without data is left out, or says why it is empty."""

from collections.abc import Iterator, Sequence

from ramw_fed.report.charts import forest, heat_map
from ramw_fed.report.console import HEADLINES
from ramw_fed.report.digits import percent
from ramw_fed.report.document import Block, Paragraph, Picture, Section, Table, Text, text
from ramw_fed.report.erosion_charts import grades
from ramw_fed.report.measures import LESS_IS_BETTER, ordered, title
from ramw_fed.report.methods_text import method_name
from ramw_fed.report.run_facts import RunMaterial
from ramw_fed.report.tables import Address, arms_table, availability_table, parts_table, scopes_table
from ramw_fed.report.words import (
    PHANTOM_WARNING,
    absences,
    baseline_sentence,
    erosion_sentence,
    estimate_sentence,
    spread_sentence,
    what_was_done,
)

_PARTS = {"segmentation": ("bone", "overlap"), "erosion": ("joint",)}


def summary(run: RunMaterial) -> Section:
    """Say in words what was found."""
    facts, blocks = run.facts, list[Block]()
    if run.is_phantom:
        blocks.append(Paragraph(PHANTOM_WARNING, kind="warning"))
    blocks.append(Paragraph(what_was_done(facts, method_name(run.config.method))))
    missing = absences(facts.get("rounds"), facts.get("manifest", "centers"))
    if missing:
        blocks.append(Paragraph((" ".join(missing),), kind="warning"))
    for task, split in task_splits(run):
        at: Address = ("metrics", task, split)
        main = headlines(run, task, split)
        said: list[Text] = [(f"{task.capitalize()}, {split} split. ",)]
        said += [estimate_sentence(facts, at, metric) for metric in main]
        said += [spread_sentence(facts, at, main[0]), baseline_sentence(facts, task, split, main[0])]
        if task == "erosion":
            said.append(erosion_sentence(facts))
        blocks.append(Paragraph(text(*said)))
    return Section(name="summary", title="Summary", blocks=blocks)


def trained_tasks(run: RunMaterial) -> list[str]:
    """Return the tasks that the run has weights of, segmentation first."""
    return sorted(run.facts.get("cards"), key=lambda task: (task != "segmentation", task))


def task_splits(run: RunMaterial) -> list[tuple[str, str]]:
    """Return what was measured: (task, split)."""
    tasks = sorted(run.facts.get("metrics"), key=lambda task: (task != "segmentation", task))
    return [(task, split) for task in tasks for split in run.facts.keys("metrics", task)]


def headlines(run: RunMaterial, task: str, split: str) -> Sequence[str]:
    """Return the main measures of a task."""
    pooled = run.facts.get("metrics", task, split, "pooled")
    return [name for name in HEADLINES.get(task, ()) if name in pooled] or ordered(pooled)[:3]


def cohort(run: RunMaterial) -> Section:
    """Count labels by center, and erosions where single joints are known."""
    tasks = trained_tasks(run)
    blocks: list[Block] = [availability_table(run.facts, task) for task in tasks]
    if run.facts.has("derived", "erosion"):
        blocks.append(_prevalences(run))
    return Section(name="cohort", title="Cohort and label availability", blocks=blocks)


def _prevalences(run: RunMaterial) -> Table:
    def row(label: str, *at: str) -> list[Text]:
        known = run.facts.has(*at, "prevalence")
        share: Text = (run.facts.number(*at, "prevalence", form=percent),) if known else ("-",)
        counts: list[Text] = [(run.facts.number(*at, key, form=str),) for key in ("joints", "eroded")]
        return [(label,), *counts, share]

    at = ("derived", "erosion")
    rows = [row(center, *at, "centers", center) for center in run.facts.keys(*at, "centers")]
    return Table(
        name="prevalence",
        caption="Scored and eroded joints of the test split",
        header=("center", "scored joints", "eroded joints", "prevalence"),
        rows=[*rows, row("all", *at)],
    )


def results(run: RunMaterial, task: str, split: str) -> Section:
    """Lay one task's measures out: main table, forest plot, baselines, every other measure, parts."""
    facts, at = run.facts, ("metrics", task, split)
    main, every = headlines(run, task, split), ordered(facts.get("metrics", task, split, "pooled"))
    caption = f"{task.capitalize()} on the {split} split: value and 95 % interval by patient"
    blocks: list[Block] = [scopes_table(facts, f"{task}-main", caption, at, main)]
    rows = {
        **{center: facts.get(*at, "centers", center) for center in facts.keys(*at, "centers")},
        "macro": facts.get(*at, "macro"),
        "pooled": facts.get(*at, "pooled"),
    }
    panels = [(title(metric), {row: scope[metric] for row, scope in rows.items()}) for metric in main]
    blocks.append(forest(f"{task}-forest", f"{task.capitalize()} by center", panels))
    blocks += _baselines(run, task, split, main[0])
    others = [metric for metric in every if metric not in main]
    if others:
        more = f"{task.capitalize()}: every other measure on the {split} split"
        blocks.append(scopes_table(facts, f"{task}-all", more, at, others, is_folded=True))
    blocks += _parts(run, task, split, main)
    return Section(name=f"results-{task}", title=f"Results: {task}", blocks=blocks)


def _baselines(run: RunMaterial, task: str, split: str, metric: str) -> Iterator[Block]:
    own: dict[str, Address] = {"federated": ("metrics", task, split)}
    others = {arm: ("baselines", arm, task, split) for arm in run.facts.keys("baselines")}
    arms = own | {arm: at for arm, at in others.items() if run.facts.has(*at)}
    if len(arms) > 1:
        yield arms_table(
            run.facts, f"{task}-baselines", f"{title(metric)} of the federated model beside baselines", arms, metric
        )
        entries = {arm: run.facts.get(*at, "pooled", metric) for arm, at in arms.items()}
        name = f"Federated model and baselines, {title(metric)} pooled over centers"
        yield forest(f"{task}-arms", name, [(title(metric), entries)])


def _parts(run: RunMaterial, task: str, split: str, metrics: Sequence[str]) -> Iterator[Block]:
    at: Address = ("metrics", task, split)
    kinds = [kind for kind in _PARTS.get(task, ()) if run.facts.has(*at, "pooled", "by", kind)]
    for kind in kinds:
        names = run.facts.keys(*at, "pooled", "by", kind)
        centers = run.facts.keys(*at, "centers")
        cells = {
            name: {center: run.facts.get(*at, "centers", center, "by", kind, name, metrics[0]) for center in centers}
            for name in names
        }
        if kind != "overlap":
            yield heat_map(
                f"{task}-{kind}-map",
                f"{title(metrics[0])} by {kind} and center",
                cells,
                centers,
                rows_are=kind,
                columns_are="center",
                best_is_low=metrics[0] in LESS_IS_BETTER,
            )
        yield parts_table(
            run.facts,
            f"{task}-{kind}",
            f"{task.capitalize()} by {kind}, all centers pooled",
            (*at, "pooled"),
            kind,
            metrics,
        )


def missed(run: RunMaterial, *, with_cases: bool) -> Section | None:
    """List missed erosions, the highest grade first; None where single joints are not known."""
    facts, at = run.facts, ("derived", "erosion")
    if not facts.has(*at):
        return None
    found = [
        (int(grade), facts.get(*at, "grades", grade, "eroded"), facts.get(*at, "grades", grade, "missed"))
        for grade in sorted(facts.keys(*at, "grades"), key=int, reverse=True)
    ]
    if not found:
        return Section(
            name="missed", title="Missed erosions", blocks=[Paragraph(("The test split holds no eroded joint.",))]
        )
    rows: list[list[Text]] = [
        [(str(grade),), *((facts.number(*at, "grades", str(grade), key, form=str),) for key in ("eroded", "missed"))]
        for grade, *_ in found
    ]
    header = ("grade", "eroded joints", "missed")
    blocks: list[Block] = [
        Table(name="missed-grades", caption="Eroded test joints by true grade", header=header, rows=rows),
        grades("missed-chart", found),
    ]
    if facts.get(*at, "missed"):
        blocks.append(_cases(run) if with_cases else Paragraph((_WITHHELD,)))
    return Section(name="missed", title="Missed erosions", blocks=blocks)


_WITHHELD = (
    "Radiographs are not shown and not named: they are patients'. `ramw-fed report --with-images` adds them, for use "
    "where the images may be seen."
)


def _cases(run: RunMaterial) -> Table:
    at = ("derived", "erosion", "cases")
    rows: list[list[Text]] = [
        [
            (case["joint"],),
            (case["center"],),
            (case["name"],),
            (run.facts.number(*at, place, "grade", form=str),),
            (run.facts.number(*at, place, "probability"),),
        ]
        for place, case in enumerate(run.facts.get(*at))
    ]
    return Table(
        name="missed-cases",
        caption="Every missed erosion, the highest grade first",
        header=("joint", "center", "radiograph", "grade", "probability"),
        rows=rows,
        is_folded=len(rows) > 12,
    )


def cases(run: RunMaterial, *, with_images: bool) -> Section | None:
    """Show the worst, median and best segmented radiograph of each center; None where none was drawn."""
    if not run.pictures:
        return None
    if not with_images:
        return Section(name="cases", title="Cases", blocks=[Paragraph((_WITHHELD,), kind="warning")])
    said = "As acquired: predicted outlines in colours, true ones in white. Cases are chosen by mean DSC over bones."
    pictures = [
        Picture(name=f"case-{place}", caption=f"{center}: worst, median and best test radiograph", jpeg=jpeg)
        for place, (center, jpeg) in enumerate(run.pictures.items())
    ]
    return Section(name="cases", title="Cases", blocks=[Paragraph((said,)), *pictures])
