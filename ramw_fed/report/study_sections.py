"""The sections of a study's report that belong to no single design."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ramw_fed.report.charts import Series, curves
from ramw_fed.report.digits import percent
from ramw_fed.report.document import Block, Paragraph, Picture, Section, Table, Text, text
from ramw_fed.report.erosion_charts import Scores, calibration, roc_and_pr
from ramw_fed.report.measures import form, quality_title, title
from ramw_fed.report.methods_text import method_name
from ramw_fed.report.study_contrasts import SCOPES, contrast_name
from ramw_fed.report.study_facts import MATCHED, StudyMaterial, first_fold
from ramw_fed.report.words import PHANTOM_WARNING, list_words

_COUNTS = (
    ("patients", "patients"),
    ("radiographs", "radiographs"),
    ("masks", "with outlines"),
    ("scored_joints", "scored joints"),
    ("eroded_joints", "eroded joints"),
)


def summary(study: StudyMaterial) -> Section:
    """Say in words what was found."""
    facts, blocks = study.facts, list[Block]()
    if study.is_phantom:
        blocks.append(Paragraph(PHANTOM_WARNING, kind="warning"))
    methods = list_words([method_name(one) for one in facts.get("study", "methods")])
    seeds = len(facts.get("study", "seeds"))
    blocks.append(
        Paragraph(
            (
                f"{methods} against each center alone and against pooled radiographs, over "
                f"{len(facts.keys('study', 'availability'))} centers, {seeds} {'seed' if seeds == 1 else 'seeds'}; "
                f"designs: {list_words(facts.get('study', 'designs'))}.",
            )
        )
    )
    if seeds < 5:
        said = "Fewer than five seeds: chance in training may be as large as what separates the methods. No ranking."
        blocks.append(Paragraph((said,), kind="warning"))
    at = ("analysis", "designs", MATCHED)
    for task in reversed(facts.keys(*at)):
        for metric in facts.keys(*at, task):
            blocks.append(Paragraph(_arms_words(study, task, metric)))
    return Section(name="summary", title="Summary", blocks=blocks)


def _arms_words(study: StudyMaterial, task: str, metric: str) -> Text:
    facts, at = study.facts, ("analysis", "designs", MATCHED, task, metric)
    said: list[Any] = [f"{task.capitalize()}, {title(metric)}, mean over centers: "]
    for place, arm in enumerate(facts.keys(*at, "arms")):
        value = facts.estimate(*at, "arms", arm, "macro", reasons=[], form=form(metric))
        said += ["; " if place else "", f"{arm} ", value]
    said.append(". ")
    contrasts: Sequence[Mapping[str, Any]] = facts.get(*at, "contrasts") if facts.has(*at, "contrasts") else ()
    for place, entry in enumerate(contrasts):
        name = f"{contrast_name(entry)} ({SCOPES[entry['scope']]})"
        if entry["value"] is None:
            said.append(f"{name} is not estimable: {entry['reason']}. ")
            continue
        difference = facts.estimate(*at, "contrasts", place, reasons=[])
        verdict = (
            f"; against the margin: {entry['equivalence']['verdict']}"
            if "verdict" in entry.get("equivalence", {})
            else ""
        )
        said += [f"{name}: ", difference, f", {entry.get('reading', 'not tested')}{verdict}. "]
    return text(*said)


def cohort(study: StudyMaterial) -> Section:
    """Count patients and labels by center and split."""
    facts, at = study.facts, ("study", "availability")
    blocks: list[Block] = []
    for split in ("train", "val", "test"):
        rows = [
            [(center,), *_counts(study, *at, center, split)]
            for center in facts.keys(*at)
            if facts.has(*at, center, split)
        ]
        if rows:
            blocks.append(
                Table(
                    name=f"availability-{split}",
                    caption=f"Labels of each center, {split} split",
                    header=("center", *(shown for _, shown in _COUNTS)),
                    rows=[*rows, [("all",), *_counts(study, "derived", "availability", split)]],
                )
            )
    return Section(name="cohort", title="Cohort and label availability", blocks=blocks)


def _counts(study: StudyMaterial, *at: str) -> list[Text]:
    return [(study.facts.number(*at, key, form=str),) if study.facts.has(*at, key) else ("-",) for key, _ in _COUNTS]


def missed(study: StudyMaterial) -> Section | None:
    """Count missed erosions by grade, the highest first; None without scored joints."""
    facts, at = study.facts, ("derived", "erosion")
    arms = facts.keys(*at)
    grades = sorted({grade for arm in arms for grade in facts.keys(*at, arm, "grades")}, key=int, reverse=True)
    if not grades:
        return None

    def cell(arm: str, grade: str) -> Text:
        place = (*at, arm, "grades", grade)
        if not facts.has(*place):
            return ("-",)
        missed, eroded = (facts.number(*place, key, form=str) for key in ("missed", "eroded"))
        return text(missed, " of ", eroded)

    rows = [[(grade,), *(cell(arm, grade) for arm in arms)] for grade in grades]
    table = Table(
        name="missed-grades",
        caption="Missed erosions of the test split by true grade and arm, under the first seed",
        header=("grade", *arms),
        rows=rows,
    )
    return Section(name="missed", title="Missed erosions", blocks=[Paragraph(_thresholds(study)), table])


def _thresholds(study: StudyMaterial) -> Text:
    """Say from which probability on a joint is called eroded: one for all models, or each model's own."""
    facts, at = study.facts, ("derived", "thresholds")
    arms = facts.keys(*at)
    if len({value for arm in arms for value in facts.get(*at, arm)}) == 1:
        return text("A joint is called eroded from a probability of ", facts.number(*at, arms[0], 0), " on.")
    said: list[Any] = [
        "A joint is called eroded from the probability on that its model chose on validation, where it could: "
    ]
    for place, arm in enumerate(arms):
        said.append(f"{'; ' if place else ''}{arm} ")
        for number in range(len(facts.get(*at, arm))):
            said += [", " if number else "", facts.number(*at, arm, number)]
    return text(*said, ".")


def discrimination(study: StudyMaterial) -> Section | None:
    """Draw ROC, precision-recall and calibration by arm; None without scored joints of both classes."""
    apart = study.facts.get("study", "own_models")
    shown = {arm: first_fold(table) for arm, table in study.erosions.items() if arm not in apart}
    arms: dict[str, Scores] = {
        arm: (np.asarray(table["probability"], np.float64), np.asarray(table["grade"]) > 0)
        for arm, table in shown.items()
    }
    arms = {arm: scores for arm, scores in arms.items() if 0 < scores[1].sum() < len(scores[1])}
    if not arms:
        return None
    first = next(iter(arms))
    prevalence = study.facts.number("derived", "prevalence", first, form=percent)
    fold = shown[first]["fold"][0]
    models = f"the first seed, fold {fold}" if fold else "the first seed"
    said = text(
        f"All centers pooled, under {models}. Prevalence of erosions among the scored joints tested there: ",
        prevalence,
        ".",
        f" Left out: {list_words(apart)}, whose centers have models of their own." if apart else "",
    )
    blocks: list[Block] = [Paragraph(said), roc_and_pr("roc-pr", arms, float(prevalence.value))]
    blocks += [
        calibration(f"calibration-{arm}", scores, f"Calibration of the erosion probabilities: {arm}")
        for arm, scores in arms.items()
    ]
    return Section(name="discrimination", title="Discrimination and calibration", blocks=blocks)


def training(study: StudyMaterial) -> Section | None:
    """Draw learning and drift of each federated method over all its centers, under the first seed."""
    blocks: list[Block] = []
    for task in sorted({record["task"] for own in study.rounds.values() for record in own}, reverse=True):
        panels = _learning(study, task)
        if panels:
            about = (
                "Quality is the federated validation measure, larger is better. Drift: mean over centers of the length "
                "of an update, and of the cosine of its angle with the mean update."
            )
            named = f"{task.capitalize()}: learning and drift by round"
            blocks.append(curves(f"{task}-learning", named, panels, along="round", about=about))
    return Section(name="training", title="Learning and drift", blocks=blocks) if blocks else None


def _learning(study: StudyMaterial, task: str) -> list[tuple[str, Series]]:
    chosen: dict[str, list[dict[str, Any]]] = {}
    trainings = [
        one for one in study.facts.get("study", "trainings") if one["method"] in study.facts.get("study", "methods")
    ]
    for one in sorted(trainings, key=lambda one: (-len(one["train_centers"]), one["seed"], one["key"])):
        own = [record for record in study.rounds.get(one["key"], ()) if record["task"] == task]
        if own and one["arm"] == one["method"]:
            chosen.setdefault(one["method"], own)
    if not chosen:
        return []
    quality = {
        method: [(float(one["round"]), float(one["quality"])) for one in own if one.get("quality") is not None]
        for method, own in chosen.items()
    }
    panels: list[tuple[str, Series]] = [(quality_title(task), {name: line for name, line in quality.items() if line})]
    for key, label in (
        ("loss", "training loss"),
        ("update_norm", "length of update"),
        ("cosine", "cosine to the mean"),
    ):
        panels.append((label, {method: _mean_line(own, key) for method, own in chosen.items()}))
    return panels


def _mean_line(rounds: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, ...]]:
    known = [(one["round"], [c[key] for c in one["centers"].values() if c.get(key) is not None]) for one in rounds]
    return [(float(number), float(np.mean(values))) for number, values in known if values]


def trainings(study: StudyMaterial) -> Section:
    """List every training, and at which centers' test splits it was opened."""
    facts = study.facts
    rows: list[list[Text]] = []
    for place, one in enumerate(facts.get("study", "trainings")):
        rows.append(
            [
                (one["key"],),
                (one["arm"],),
                (str(one.get("task", "-")),),
                (facts.number("study", "trainings", place, "seed", form=str),),
                (str(one["fold"]),),
                (", ".join(one["train_centers"]),),
                (", ".join(one["opened"]) or "none",),
            ]
        )
    table = Table(
        name="every-training",
        caption="Every training of the study, and the centers whose test split it was measured on",
        header=("training", "arm", "task", "seed", "fold", "trained at", "tested at"),
        rows=rows,
        is_folded=True,
    )
    return Section(name="trainings", title="Trainings", blocks=[table])


def cases(study: StudyMaterial, *, with_images: bool) -> Section | None:
    """Show cases, where a training left some and they may be seen."""
    if not study.pictures:
        return None
    if not with_images:
        said = "Radiographs are not shown: they are patients'. `ramw-fed report --with-images` adds them."
        return Section(name="cases", title="Cases", blocks=[Paragraph((said,), kind="warning")])
    method = method_name(study.facts.get("study", "methods")[-1])
    said = (
        f"Drawn by {method}, the study's last method, under its first seed and fold, as each picture's label says. "
        "Predicted outlines in colours, true ones in white. Cases are chosen by mean DSC over bones."
    )
    pictures = [
        Picture(name=f"case-{place}", caption=f"{center}: worst, median and best test radiograph", jpeg=jpeg)
        for place, (center, jpeg) in enumerate(study.pictures.items())
    ]
    return Section(name="cases", title="Cases", blocks=[Paragraph((said,)), *pictures])
