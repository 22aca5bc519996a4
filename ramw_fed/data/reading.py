"""From a folder to its cohort, whichever form the folder has."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ramw_fed.config import RunConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.findings import Finding, summary
from ramw_fed.data.layout import MANIFEST
from ramw_fed.data.manifest import scan_manifest
from ramw_fed.data.radiograph import Radiograph
from ramw_fed.data.ramw600 import scan_ramw600
from ramw_fed.data.scan import Scan
from ramw_fed.data.splits import split_by_name, split_by_patient
from ramw_fed.errors import CohortError
from ramw_fed.wording import counted

# Warnings whose radiographs are not in the cohort.
_LEAVES_OUT = ("score-without-image",)


def read_cohort(
    root: Path,
    *,
    split: str = "official",
    quarantine: float = 0.0,
    allow_leakage: bool = False,
    seed: int = 0,
    tested: tuple[int, int] | None = None,
) -> Cohort:
    """Read a cohort; images and masks stay in their files.

    Args:
        root: The folder that holds ``manifest.csv``, or ``Metadata.xlsx``.
        split: ``"official"`` takes the folder's own train, val and test; ``"grouped"`` deals patients anew, stratified
            by center, labels and erosions; ``"by-name"`` takes a hash of each patient's name.
        quarantine: Largest share of radiographs, in [0, 1), that may be left out for faults in their own files;
            they are named in ``left_out``. At 0 any fault stops the reader.
        allow_leakage: Take an official split that puts one patient on both sides.
        seed: Of the grouped split.
        tested: Part of the patients that a grouped split tests; as in :func:`split_by_patient`.

    Returns:
        The cohort, with all labels that the files hold.

    Raises:
        CohortError: All errors of the folder in one text, as ``check_cohort`` lists them.
    """
    if split not in ("official", "grouped", "by-name"):
        raise CohortError(f"split is {split!r}; 'official', 'grouped' or 'by-name' is wanted")
    found = scan(root)
    if split == "official" and not allow_leakage:
        note_leakage(found)
    left_out = _quarantined(found, quarantine, root)
    left_out |= {name: f.code for f in found.collector.findings() if f.code in _LEAVES_OUT for name in f.places}
    kept = [radiograph for radiograph in found.radiographs if radiograph.name not in left_out]
    if split == "grouped":
        kept = list(split_by_patient(kept, seed=seed, same_fold=_duplicates(found, kept), tested=tested))
    if split == "by-name":
        kept = list(split_by_name(kept))
    return Cohort(description=found.description, radiographs=tuple(kept), sha256=found.sha256, left_out=left_out)


def read_run_cohort(config: RunConfig, root: str = "") -> Cohort:
    """Read the cohort of a run, or a center's own at ``root``, as the run's knobs say."""
    cohort = read_cohort(
        Path(root or config.cohort),
        split=config.split,
        quarantine=config.quarantine,
        allow_leakage=config.allow_leakage,
        tested=config.tested_fold,
    )
    return cohort.pooled(config.centers) if config.pool else cohort


def run_centers(config: RunConfig, cohort: Cohort) -> tuple[str, ...]:
    """Return the centers of ``cohort``, as :func:`read_run_cohort` gave it, that take part in a run."""
    return config.taking_part or cohort.centers


def scan(root: Path) -> Scan:
    """Look at a folder in the form that it has: a manifest where ``manifest.csv`` lies in it, else RAM-W600's tree."""
    return scan_manifest(root) if (root / MANIFEST).is_file() else scan_ramw600(root)


def note_leakage(found: Scan) -> None:
    """Note patients whose images lie in different splits of one task."""
    splits: dict[tuple[str, str], dict[str, set[str]]] = {}
    for radiograph in found.radiographs:
        for task, split in (("segmentation", radiograph.mask_split), ("erosion", radiograph.score_split)):
            if split is not None:
                splits.setdefault((task, radiograph.patient), {}).setdefault(split, set()).add(radiograph.name)
    for (task, _), by_split in splits.items():
        if len(by_split) > 1:
            for name in sorted(name for names in by_split.values() for name in names):
                found.collector.add("patient-in-two-splits", name, detail=task)


def duplicates(found: Scan) -> list[tuple[str, ...]]:
    """Return groups of names whose images have the same pixels, mirrored or not."""
    by_pixels: dict[str, set[str]] = {}
    for name, place in found.places.items():
        for path in (place.bone_image, place.joint_image):
            if path is not None and found.facts[path].pixels and not found.facts[path].is_blank:
                by_pixels.setdefault(found.facts[path].pixels, set()).add(name)
    return sorted(tuple(sorted(names)) for names in by_pixels.values() if len(names) > 1)


def _duplicates(found: Scan, kept: Iterable[Radiograph]) -> list[tuple[str, str]]:
    patient = {radiograph.name: radiograph.patient for radiograph in kept}
    groups = ([patient[name] for name in names if name in patient] for names in duplicates(found))
    return [(group[0], other) for group in groups for other in group[1:]]


def _quarantined(found: Scan, share: float, root: Path) -> dict[str, str]:
    """Name of each faulty radiograph to its codes, or an error where that does not heal the folder."""
    errors = [finding for finding in found.collector.findings() if finding.level == "error"]
    fatal = [finding for finding in errors if not finding.radiographs]
    left_out = {
        name: ", ".join(sorted(finding.code for finding in errors if name in finding.radiographs))
        for name in sorted({name for finding in errors for name in finding.radiographs})
    }
    all_faulty = bool(left_out) and len(left_out) >= len(found.radiographs)
    if fatal or all_faulty or len(left_out) > share * len(found.radiographs):
        raise CohortError(_refusal(root, errors, len(left_out), len(found.radiographs), share))
    return left_out


def _refusal(root: Path, errors: Sequence[Finding], num_faulty: int, num_radiographs: int, share: float) -> str:
    allowed = f", at most {share:.0%} may be left out" if share else ""
    return (
        f"{root} cannot be used: {counted(len(errors), 'kind')} of error, {num_faulty} of {num_radiographs} "
        f"radiographs faulty{allowed}.\n{summary(errors)}\n`ramw-fed cohort check {root}` lists everything"
    )
