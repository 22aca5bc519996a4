"""The report of a study: ``report.html`` in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramw_fed.report import study_sections as sections
from ramw_fed.report.citations import Bibliography
from ramw_fed.report.document import Document, Items, Paragraph, Section, Table
from ramw_fed.report.methods_text import (
    cohort_words,
    erosion_words,
    method_words,
    segmentation_words,
    statistics_words,
    threshold_words,
)
from ramw_fed.report.page import render
from ramw_fed.report.run_report import REPORT, tools
from ramw_fed.report.study_designs import design_sections
from ramw_fed.report.study_facts import StudyMaterial, read_study, run_config
from ramw_fed.report.tripod import tripod_section
from ramw_fed.run_folder import write_atomically


def write_study_report(folder: Path, *, with_images: bool = False) -> Path:
    """Write a finished study's ``report.html`` and return its path.

    Args:
        folder: Of the study.
        with_images: Show radiographs also where they are patients'.

    Raises:
        RunError: The folder holds no finished study.
    """
    out = folder / REPORT
    write_atomically(out, render(study_document(read_study(folder), with_images=with_images)))
    return out


def study_document(study: StudyMaterial, *, with_images: bool) -> Document:
    """Return what a study's report shows."""
    found = [sections.summary(study), sections.cohort(study), sections.missed(study), *design_sections(study.facts)]
    found += [sections.discrimination(study), sections.cases(study, with_images=with_images or study.is_phantom)]
    found += [sections.training(study), sections.trainings(study), _methods(study, Bibliography()), _card(study)]
    found.append(tripod_section(study.sources))
    kind = "synthetic phantom cohort" if study.is_phantom else "real radiographs"
    name = study.facts.get("study", "name")
    return Document(
        kind="study",
        title=f'Cross-site study "{name}"',
        lead=f"{len(study.facts.keys('study', 'availability'))} centers; {kind}",
        sections=[section for section in found if section is not None],
        sources=dict(study.sources),
        tools=tools(),
        options={"images": "yes" if with_images else "no"},
    )


def _methods(study: StudyMaterial, marks: Bibliography) -> Section:
    facts, config = study.facts.get("study"), study.config
    said = [_data(study, marks), _federations(study, marks)]
    if "segmentation" in facts["tasks"]:
        said.append(segmentation_words(config.segmentation.write(), marks))
    if "erosion" in facts["tasks"]:
        choice = threshold_words(config.erosion, marks, None)
        said.append(erosion_words(config.erosion, marks, top=None, choice=choice))
    said.append(_statistics(facts, marks))
    blocks: list[Any] = [Paragraph((one,)) for one in said]
    blocks.append(Items([(work,) for work in marks.listed()], title="References"))
    return Section(name="methods", title="Methods", blocks=blocks)


def _data(study: StudyMaterial, marks: Bibliography) -> str:
    facts, config = study.facts.get("study"), study.config
    sides = "all radiographs of a patient lie on one side of a split"
    if config.allow_leakage and config.split == "official" and facts["folds"] == 1:
        sides = "a patient may lie on both sides of a split, which was allowed: its results are optimistic"
    split = f"{facts['folds']} folds by patient" if facts["folds"] > 1 else f"the {config.split} split"
    return (
        f"Data: {cohort_words(facts['kind'], marks)} (sha256 {facts['cohort']['sha256'][:12]}); {split} was used; "
        f"{sides}. Each test split was opened once per training, after every choice."
    )


def _federations(study: StudyMaterial, marks: Bibliography) -> str:
    facts, knobs = study.facts.get("study"), study.facts.get("knobs")
    methods = []
    for method in facts["methods"]:
        mu = run_config(knobs, method).proximal_mu
        methods.append(method_words(method, marks) + (f", mu = {mu:g}" if mu is not None else ""))
    said = (
        f"Methods: {'; '.join(methods)}. Federations ran over Flower {marks.cite('flower')}. The round of each "
        "training was chosen on its own centers' validation data."
    )
    grid = "; ".join(f"{name} of {', '.join(values)}" for name, values in sorted(facts.get("tune", {}).items()))
    if grid:
        said += f" Tuned, by each arm on the validation data of its first seed: {grid}; what follows says the others."
    return said


def _statistics(facts: Mapping[str, Any], marks: Bibliography) -> str:
    margins = ", ".join(f"{name} {value:g}" for name, value in sorted(facts["margins"].items()))
    more = ["No contrast was declared beforehand, and none is tested."]
    if facts["contrasts"]:
        more = [
            f"Contrasts were declared beforehand: means of patients by Wilcoxon's signed ranks "
            f"{marks.cite('wilcoxon')} (with rank-biserial r), ranks of joints by bootstrap over patients; p-values "
            f"after Holm over all of them {marks.cite('holm')}."
        ]
    if facts["folds"] > 1:
        more.append("Each fold has a model of its own: AUROC and AUPRC rank joints within a fold only.")
    more.append("Seeds are replicates of one arm, never more patients.")
    if margins:
        more.append(f"Equivalence by two one-sided tests {marks.cite('tost')} within the margins {margins}.")
    return statistics_words(facts["resamples"], facts["seed"], marks, more)


def _card(study: StudyMaterial) -> Section:
    facts = study.facts.get("study")
    rows = [
        ("Purpose", "Comparison of ways to train. No single model of this study is meant to be used."),
        ("Cohort", f"{facts['kind']}, sha256 {facts['cohort']['sha256']}"),
        ("Models", f"{len(facts['trainings'])} trainings, in runs/, each with a card in its file of weights"),
        ("Commit", str(facts["git_commit"] or "not run from a checkout")),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(facts["versions"].items()))),
        ("Privacy guarantee", "none: no differential privacy was applied to the updates"),
    ]
    table = Table(
        name="card-study",
        caption="Model card: the study as a whole",
        header=("field", "content"),
        rows=[[(name,), (content,)] for name, content in rows],
    )
    return Section(name="model-card", title="Model card", blocks=[table])
