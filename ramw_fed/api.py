"""The verbs as functions: what the command line calls, and a notebook may."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ramw_fed.arms import Arm
from ramw_fed.baselines import measure_baselines
from ramw_fed.comparison import Comparison, compare_arms
from ramw_fed.config import ErosionConfig, PhantomConfig, RunConfig, SegmentationConfig
from ramw_fed.data import phantom as phantom_package
from ramw_fed.data.cache import cache_folder
from ramw_fed.data.checks import check_cohort
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.conversion import Conversion, import_folder
from ramw_fed.data.download import download_ramw600
from ramw_fed.data.parting import part_by_center
from ramw_fed.data.phantom.writer import write_phantom as _write_phantom
from ramw_fed.data.radiograph import SPLITS, Split
from ramw_fed.data.reading import read_cohort, read_run_cohort
from ramw_fed.errors import ConfigError, RunError, StudyError
from ramw_fed.evaluation import Evaluation, evaluate_run, evaluate_submission, refuse_taken
from ramw_fed.federation.opening import simulated_centers
from ramw_fed.federation.recorder import FolderRecorder
from ramw_fed.manifest import Meter
from ramw_fed.plan import Cost
from ramw_fed.plan import plan as _plan
from ramw_fed.prediction import Predictions, predict
from ramw_fed.preflight import refuse_what_cannot_start
from ramw_fed.pretraining import for_pretraining
from ramw_fed.progress import Watch, nobody
from ramw_fed.report.console import HEADLINES, comparison, overview
from ramw_fed.report.pictures import draw_cases
from ramw_fed.report.words import absences
from ramw_fed.run_folder import RunFolder, is_study
from ramw_fed.studies.analysis import analyse
from ramw_fed.studies.config import Study
from ramw_fed.studies.cost import StudyCost
from ramw_fed.studies.cost import plan_study as cost_of_study
from ramw_fed.studies.planner import plan_power as power_of_study
from ramw_fed.studies.results import Results
from ramw_fed.studies.store import summarize
from ramw_fed.studies.study import run_study
from ramw_fed.studies.table import read_parquet, read_table, seals
from ramw_fed.studies.work import PhantomFolder, Work, cohort_roots

if TYPE_CHECKING:
    from ramw_fed.verification import Verification


def load_cohort(root: Path, *, split: str = "official") -> Cohort:
    """Read a cohort, with a manifest or in RAM-W600's tree; ``split`` is ``official`` or ``grouped``."""
    return read_cohort(root, split=split)


def write_phantom(config: PhantomConfig, out: Path, *, workers: int = 1, watch: Watch = nobody) -> None:
    """Write a synthetic cohort into the new folder ``out``."""
    _write_phantom(config, out, workers=workers, progress=partial(watch, "phantom images"))


def phantom_folder(config: PhantomConfig, *, workers: int = 1, watch: Watch = nobody) -> Path:
    """Return the cache's folder of this phantom cohort, written once a configuration and version of the phantom."""
    sources = sorted(Path(phantom_package.__file__).parent.glob("*.py"))
    code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    key = hashlib.sha256(f"{sorted(config.write().items())} {code}".encode()).hexdigest()[:16]
    folder = cache_folder() / "phantoms" / key
    if not folder.exists():
        write_phantom(config, folder, workers=workers, watch=watch)
    return folder


def run(
    config: RunConfig, *, out: Path, resume: bool = False, overwrite: bool = False, watch: Watch = nobody
) -> RunFolder:
    """Federate, and leave everything in the folder ``out``.

    Args:
        config: Without ``cohort`` the phantom of its table is used, and made where the cache has none.
        out: Run folder.
        resume: Go on with the run in ``out``.
        overwrite: Replace the run in ``out``.
        watch: Told how far each phase is.

    Raises:
        RamwFedError: A knob, a file, a center or the folder does not allow it; the message says what to do.
    """
    refuse_what_cannot_start(config, resume=resume)
    config = replace(placed(config, watch), out=str(out.resolve()))
    simulated_centers(config)  # refuses before a folder is made
    folder = RunFolder.create(out, config, overwrite=overwrite, resume=resume)
    if folder.is_measured:
        folder.read_json("manifest.json")  # refuses before baselines are measured
    with Meter() as meter:
        if not (folder.path / "metrics.json").exists():
            _engine(config.engine)(config, FolderRecorder(folder, config, watch))
        if config.baselines and not (folder.path / "baselines.json").exists():
            folder.write_json("baselines.json", measure_baselines(config, watch))
        if not (folder.path / "overlays").exists():
            draw_cases(folder, config, watch)
    manifest = folder.read_json("manifest.json")
    spent = {"peak_rss_mb": round(meter.peak_mb, 1), "cpu_seconds": round(meter.cpu_s, 1)}
    folder.write_json("manifest.json", spent | manifest)
    watch("report", 0, 1)
    report(out)
    watch("report", 1, 1)
    return folder


def pretrain(
    config: RunConfig, *, out: Path, resume: bool = False, overwrite: bool = False, watch: Watch = nobody
) -> RunFolder:
    """Train on a synthetic cohort, all its centers pooled, and leave a run folder that ``start-from`` takes.

    No patient is in it, so a private run starts from it at no cost.

    Args:
        config: Without ``cohort`` the phantom of its table is used; method and ``pool`` are set here.
        out: Run folder.
        resume: Go on with the training in ``out``.
        overwrite: Replace the run in ``out``.
        watch: Told how far each phase is.

    Raises:
        RamwFedError: The cohort is no phantom, no private run could start from the networks, or a run is not possible.
    """
    return run(for_pretraining(config), out=out, resume=resume, overwrite=overwrite, watch=watch)


def report(folder: Path, *, with_images: bool = False) -> Path:
    """Write ``report.html`` of a finished run or study into its folder, and return its path.

    Args:
        folder: Of the run or study.
        with_images: Show and name radiographs also where they are patients'; phantoms always are.

    Raises:
        RunError: The folder holds neither, or it did not finish.
    """
    # matplotlib takes seconds to import
    from ramw_fed.report.run_report import write_run_report
    from ramw_fed.report.study_report import write_study_report

    if is_study(folder) and not (folder / "study.json").exists():
        raise StudyError(f"the study in {folder} has not finished; `ramw-fed study` with its file goes on with it")
    if is_study(folder):
        return write_study_report(folder, with_images=with_images)
    return write_run_report(folder, with_images=with_images)


def verify(report: Path, *, quick: bool = False) -> "Verification":
    """Check a report against the files beside it.

    Args:
        report: ``report.html`` in the folder of its run or study.
        quick: Only the seal and the hashes of files; nothing is recomputed.

    Raises:
        RunError: It is no report.
    """
    from ramw_fed.verification import RUN, StudyFiles, verify_report

    tables = {"table.csv": read_table, "table.parquet": read_parquet}
    study = StudyFiles(tables=tables, seals=seals, analyse=analyse, logged=_logged)
    return verify_report(report, {"run": RUN, "study": study.subject()}, quick=quick)


def _logged(folder: Path, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the log of a study's training says, as ``study.json`` names it."""
    found = summarize(RunFolder(folder / training["folder"]), training["task"])
    return {name: getattr(found, name) for name in ("rounds", "best_round", "quality", "steps")}


def plan(config: RunConfig, *, watch: Watch = nobody) -> Cost:
    """Return what a run would cost, from a few measured steps."""
    refuse_what_cannot_start(config)
    return _plan(placed(config, watch))


def study(config: Study, *, out: Path, watch: Watch = nobody) -> dict[str, Any]:
    """Make a cross-site study, or go on with the one in ``out``, and leave everything there.

    Args:
        config: As :meth:`Study.read` gives it.
        out: Folder of the study.
        watch: Told how far each phase is.

    Returns:
        What ``analysis.json`` holds.

    Raises:
        RamwFedError: A knob, a file, a run or the folder does not allow it; the message says what to do.
    """
    found = run_study(config, out, _phantoms(config, watch), watch)
    watch("report", 0, 1)
    report(out)
    watch("report", 1, 1)
    return found


def plan_study(config: Study, *, out: Path, watch: Watch = nobody) -> StudyCost:
    """Return what a study would cost, less what is finished in ``out``, from a measured step of each task."""
    return cost_of_study(_work(config, out, watch))


def plan_power(config: Study, *, out: Path, watch: Watch = nobody) -> list[dict[str, Any]]:
    """Return the smallest differences that a study can find; a finished study in ``out`` serves as its pilot."""
    work = _work(config, out, watch)
    pilot = None
    if (out / "table.csv").exists():
        pilot = Results(read_table(out), seed=config.base.seed, resamples=config.base.resamples)
    return power_of_study(work, pilot)


def _work(config: Study, out: Path, watch: Watch) -> Work:
    return Work(config, out, cohort_roots(config, _phantoms(config, watch)), watch)


def _phantoms(config: Study, watch: Watch) -> PhantomFolder:
    return partial(phantom_folder, workers=config.base.workers, watch=watch)


def evaluate(
    run_folder: Path,
    cohort_root: Path,
    *,
    split: str = "test",
    unseen_batch_norm: str | None = None,
    out: Path | None = None,
    watch: Watch = nobody,
) -> dict[str, dict[str, Any]]:
    """Measure a run's models on a cohort.

    Args:
        run_folder: Of a finished run.
        cohort_root: Folder of the cohort; ``split``, ``fold``, ``quarantine`` and ``allow-leakage`` are the run's.
        split: ``train``, ``val`` or ``test``.
        unseen_batch_norm: Where the run's method left batch normalisation at its centers, what a center gets that was
            not among them: ``mean``, ``re-estimate`` or ``least-entropy``; None for what the run was configured with.
        out: New folder for the evaluation, which :func:`compare` takes.
        watch: Told how many centers are measured.

    Returns:
        ``{task: {split: scopes}}`` as in ``metrics.json``.

    Raises:
        RunError: There is no finished run, or the cohort has other bones or joints than its models.
        ConfigError: There is no such split or rule, or a rule is wanted and there is none.
    """
    chosen = _split(split)
    if out is not None:
        refuse_taken(out)
    folder = RunFolder.open(run_folder)
    apart = replace(folder.config(), pool=False)  # whatever a run trained on, centers are measured one by one
    evaluation = evaluate_run(
        folder,
        read_run_cohort(apart, str(cohort_root)),
        split=chosen,
        unseen_batch_norm=unseen_batch_norm,
        watch=watch,
    )
    if out is not None:
        evaluation.save(out)
    return {task: dict(splits) for task, splits in evaluation.metrics.items()}


def evaluate_predictions(
    predictions: Path,
    cohort_root: Path,
    *,
    split: str = "test",
    grouped: bool = False,
    threshold: float = 0.5,
    tolerance_px: float = 2.0,
    allow_missing: bool = False,
    quarantine: float = 0.0,
    allow_leakage: bool = False,
    centers: Sequence[str] = (),
    out: Path | None = None,
    watch: Watch = nobody,
) -> Evaluation:
    """Measure masks and scores that someone else made, by the measures of a run.

    Args:
        predictions: Folder of ``<stem>.npy`` (bones, H, W) as acquired, and/or ``scores.csv`` (docs/comparing.md).
        cohort_root: Folder of the cohort that holds the truth.
        split: ``train``, ``val`` or ``test``.
        grouped: Take the split grouped by patient in place of the files' own.
        threshold: Joints with at least this probability are called eroded.
        tolerance_px: Distance up to which outlines count as equal (NSD).
        allow_missing: Leave out and count what has a truth and no prediction.
        quarantine: Largest share of the cohort's radiographs that may be left out for faults in their own files.
        allow_leakage: Take an official split that has one patient on both sides.
        centers: Measure these only; empty: all of the cohort.
        out: New folder for the evaluation, which :func:`compare` takes.
        watch: Told how many centers are measured.

    Raises:
        PredictionError: Everything that is wrong with the folder.
        ConfigError: There is no such split, or a knob is out of its range.
    """
    if out is not None:
        refuse_taken(out)
    config = RunConfig(
        split="grouped" if grouped else "official",
        quarantine=quarantine,
        allow_leakage=allow_leakage,
        centers=tuple(centers),
        segmentation=SegmentationConfig(tolerance_px=tolerance_px),
        erosion=ErosionConfig(threshold=threshold),
    )
    cohort = read_run_cohort(config, str(cohort_root))
    evaluation = evaluate_submission(
        predictions, cohort, config, split=_split(split), allow_missing=allow_missing, watch=watch
    )
    if out is not None:
        evaluation.save(out)
    return evaluation


def compare(
    first: Path, second: Path, *, tasks: Sequence[str] = (), metrics: Sequence[str] = (), seed: int = 0
) -> Comparison:
    """Compare two runs, two evaluations, or one of each, paired by patient.

    Args:
        first: Folder of arm A; a difference is A less B.
        second: Folder of arm B.
        tasks: ``segmentation``, ``erosion``; empty: all that both measured.
        metrics: As ``metrics.json`` spells them; empty: the main ones. All of them are one family of tests (Holm).
        seed: Of the bootstrap.

    Raises:
        PredictionError: A folder holds neither, or the two do not cover the same patients.
        ConfigError: There is no such task or metric.
    """
    return compare_arms(Arm.open(first), Arm.open(second), tasks=tasks, metrics=metrics, seed=seed)


def tables(folder: RunFolder) -> list[Table]:
    """Return what a run found as tables: its main metrics, and beside the first of them what its baselines reach.

    Raises:
        RunError: Its files are not what a run writes.
    """
    metrics = folder.read_json("metrics.json")
    path = folder.path / "baselines.json"
    baselines = folder.read_json("baselines.json") if path.exists() else {}
    try:
        return _tables(metrics, baselines)
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise RunError(
            f"metrics.json or baselines.json of {folder.path} is not what a run writes; put it back from a copy, or "
            "--overwrite the run"
        ) from error


def remarks(folder: RunFolder) -> list[str]:
    """Return what the reader of a run's tables must know: who did not take part, what its patients' privacy cost."""
    manifest = folder.read_json("manifest.json")
    said = absences(folder.rounds(), manifest["centers"])
    privacy = manifest.get("privacy")
    if not privacy:
        return said
    for center, own in privacy["centers"].items():
        told = f"privacy of {center}: epsilon {own['epsilon']['pld']:.4g} at delta {own['delta']:.3g}"
        said.append(f"{told}; in all {own['spent']:.4g} of its cap {own['cap']:.4g} is spent")
    if not folder.read_json("metrics.json"):
        said.append("no test patient was measured, as evaluation says; measure the weights with `ramw-fed evaluate`")
    return said


def _tables(metrics: Mapping[str, Mapping[str, Any]], baselines: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    shown = overview_tables(metrics, "test")
    for task in metrics:
        others = {title: arms[task]["test"] for title, arms in baselines.items() if task in arms}
        if others:
            metric = HEADLINES[task][0]
            shown.append(comparison(task, metric, {"federated": metrics[task]["test"], **others}))
    return shown


def overview_tables(metrics: Mapping[str, Mapping[str, Any]], split: str) -> list[Table]:
    """Return a table a task of what was measured on ``split``."""
    return [overview(task, split, scopes[split]) for task, scopes in metrics.items()]


def placed(config: RunConfig, watch: Watch) -> RunConfig:
    """Return the configuration with the absolute path of a cohort that exists."""
    if config.cohort:
        root = Path(config.cohort).resolve()
    else:
        root = phantom_folder(config.phantom, workers=config.workers, watch=watch)
    return replace(config, cohort=str(root))


def _engine(name: str) -> Any:
    if name == "ray":
        from ramw_fed.federation.ray import run_ray

        return run_ray
    from ramw_fed.federation.inline import run_inline

    return run_inline


def _split(name: str) -> Split:
    if name not in SPLITS:
        raise ConfigError(f"split is {name!r}; one of {', '.join(SPLITS)} is wanted")
    return name


__all__: Sequence[str] = [
    "Comparison",
    "Conversion",
    "Evaluation",
    "Predictions",
    "check_cohort",
    "compare",
    "download_ramw600",
    "evaluate",
    "evaluate_predictions",
    "import_folder",
    "load_cohort",
    "overview_tables",
    "part_by_center",
    "phantom_folder",
    "plan",
    "plan_power",
    "plan_study",
    "predict",
    "pretrain",
    "remarks",
    "report",
    "run",
    "study",
    "tables",
    "verify",
    "write_phantom",
]
