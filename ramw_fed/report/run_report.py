"""The report of a run: ``report.html`` in its folder."""

from importlib import metadata
from pathlib import Path

from ramw_fed.manifest import VERSION
from ramw_fed.report import run_figures as figures
from ramw_fed.report import run_sections as sections
from ramw_fed.report.citations import Bibliography
from ramw_fed.report.document import Document
from ramw_fed.report.methods_text import method_name, run_methods
from ramw_fed.report.model_card import model_card
from ramw_fed.report.page import render
from ramw_fed.report.run_facts import RunMaterial, read_run
from ramw_fed.report.run_privacy import privacy
from ramw_fed.report.tripod import tripod_section
from ramw_fed.report.words import list_words
from ramw_fed.run_folder import write_atomically

REPORT = "report.html"


def write_run_report(folder: Path, *, with_images: bool = False) -> Path:
    """Write a finished run's ``report.html`` and return its path.

    Args:
        folder: Of the run.
        with_images: Show and name radiographs also where they are patients'; phantoms are always shown.

    Raises:
        RunError: The folder holds no finished run.
    """
    out = folder / REPORT
    write_atomically(out, render(run_document(read_run(folder), with_images=with_images)))
    return out


def run_document(run: RunMaterial, *, with_images: bool) -> Document:
    """Return what a run's report shows."""
    shows_images = with_images or run.is_phantom
    found = [sections.summary(run), sections.cohort(run), sections.missed(run, with_cases=shows_images)]
    found += [sections.results(run, task, split) for task, split in sections.task_splits(run)]
    found += [figures.discrimination(run), figures.agreement(run), sections.cases(run, with_images=shows_images)]
    found += [privacy(run), figures.training(run), run_methods(run.facts, Bibliography()), model_card(run.facts)]
    found.append(tripod_section(run.sources))
    kind = "synthetic phantom cohort" if run.is_phantom else "real radiographs"
    tasks = list_words(sections.trained_tasks(run))
    return Document(
        kind="run",
        title="Report of a federated run",
        lead=f"{method_name(run.config.method)}, {tasks}; {run.facts.get('derived', 'num_centers')} centers; {kind}; "
        f"seed {run.config.seed}",
        sections=[section for section in found if section is not None],
        sources=dict(run.sources),
        tools=tools(),
        options={"images": "yes" if with_images else "no"},
    )


def tools() -> dict[str, str]:
    """Return the versions that decide how a page is drawn."""
    return {"ramw-fed": VERSION, **{name: metadata.version(name) for name in ("matplotlib", "opencv-python-headless")}}
