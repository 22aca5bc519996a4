"""Pictures of a finished run: for each center the worst, the median and the best segmented test radiograph."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ramw_fed.config import RunConfig
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.data.reading import read_run_cohort
from ramw_fed.learning.training import pick_device
from ramw_fed.progress import Watch, nobody
from ramw_fed.report.overlays import contact_sheet, draw_overlay, label, write_png
from ramw_fed.run_folder import RunFolder
from ramw_fed.tasks import SEGMENTATION
from ramw_fed.tasks.segmentation import segment

_SIDE = 480

Cases = Mapping[str, Sequence[tuple[str, str, float]]]
"""Center to (which, name of the radiograph, mean DSC over bones)."""


def draw_cases(folder: RunFolder, config: RunConfig, watch: Watch = nobody) -> None:
    """Write ``overlays/<center>.png`` of a run; nothing where the values of single radiographs are not known."""
    table = folder.path / "predictions" / "segmentation.csv"
    if table.exists():
        draw(folder, config, pick_cases(table), folder.path / "overlays", watch=watch)


def draw(
    folder: RunFolder,
    config: RunConfig,
    cases: Cases,
    out: Path,
    *,
    who: str = "",
    watch: Watch = nobody,
) -> None:
    """Write ``<center>.png``: predicted outlines in colours, true ones in white, as acquired.

    Args:
        folder: Run whose model predicts.
        config: Of that run; says where the radiographs are.
        cases: By center, as :func:`pick_cases` gives them.
        out: Folder of the pictures.
        who: Name of the model, for the labels.
        watch: Told how many centers are drawn.
    """
    radiographs = {one.name: one for one in read_run_cohort(config).radiographs}
    weights, card = folder.load_model("segmentation")
    own = folder.load_own("segmentation")
    device = pick_device(config.device)
    for done, (center, chosen) in enumerate(sorted(cases.items()), start=1):
        pictures = []
        network = SEGMENTATION.restore({**weights, **own.get(center, {})}, card, device)
        for which, name, dsc in chosen:
            image, truth = radiographs[name].read_image(), radiographs[name].read_masks()
            mirror = is_mirrored(radiographs[name], config, card.description.mirrored_sides)
            masks, _ = segment(network, image, config.segmentation, device, mirror=mirror)
            picture = draw_overlay(image, masks, truth, side=_SIDE)
            pictures.append(label(picture, f"{center} {which}: DSC {dsc:.3f}{who and f' ({who})'}"))
        write_png(out / f"{center}.png", contact_sheet(pictures, len(pictures)))
        watch("overlays", done, len(cases))


def is_mirrored(radiograph: Radiograph, config: RunConfig, mirrored_sides: tuple[str, ...]) -> bool:
    """Whether the network sees this radiograph mirrored."""
    return config.segmentation.mirror and radiograph.side in mirrored_sides


def pick_cases(table: Path) -> dict[str, list[tuple[str, str, float]]]:
    """Return, by center, (which, name, mean DSC over bones) of its worst, median and best radiograph."""
    values: dict[str, list[tuple[float, str]]] = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            bones = [float(value) for key, value in row.items() if key == "dsc" or key.startswith("dsc_")]
            known = [value for value in bones if not np.isnan(value)]
            if known:
                values.setdefault(row["center"], []).append((float(np.mean(known)), row["name"]))
    cases = {}
    for center, found in values.items():
        ordered = sorted(found)
        places = {"worst": 0, "median": (len(ordered) - 1) // 2, "best": len(ordered) - 1}
        cases[center] = [(which, ordered[place][1], ordered[place][0]) for which, place in places.items()]
    return cases
