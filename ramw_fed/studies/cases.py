"""Pictures of a study: what the last of its methods made of each center's worst, median and best radiograph."""

from collections.abc import Mapping, Sequence

from ramw_fed.report.pictures import draw, pick_cases
from ramw_fed.run_folder import RunFolder
from ramw_fed.studies.matched_arms import DESIGN as MATCHED
from ramw_fed.studies.store import Question, measured_table
from ramw_fed.studies.training import Cell, Training
from ramw_fed.studies.work import Work


def draw_study_cases(
    work: Work, cells: Mapping[Cell, Training], questions: Mapping[tuple[Training, str], Question]
) -> None:
    """Write ``overlays/<center>.png`` for the first seed and fold; nothing without that design or without bones."""
    method = work.study.config.methods[-1]
    shown = [
        cell
        for cell in sorted(cells)
        if cell.design == MATCHED and cell.training.arm == method and cell.training.task == "segmentation"
    ]
    if not shown or (work.folder / "overlays").exists():
        return
    training = cells[shown[0]]
    order = work.order(training)
    cases: dict[str, Sequence[tuple[str, str, float]]] = {}
    for center in sorted(set(shown[0].test_centers) & set(training.centers)):
        cases |= pick_cases(measured_table(questions[training, center]))
    partial = work.folder / "overlays.part"
    who = f"{method}, seed {training.seed}"
    draw(RunFolder(order.folder), order.config, cases, partial, who=who, watch=work.watch)
    partial.rename(work.folder / "overlays")  # whole or absent
