"""The command line: reads arguments, calls one function of ``ramw_fed.api``, prints."""

import logging
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ramw_fed import terminal
from ramw_fed.config import PhantomConfig
from ramw_fed.config_sources import read_toml
from ramw_fed.errors import ConfigError, RamwFedError
from ramw_fed.privacy_cli import privacy
from ramw_fed.report.bars import progress
from ramw_fed.terminal import Json, Setting

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cohorts = typer.Typer(no_args_is_help=True, help="Make, check and fetch cohorts of wrist radiographs.")
app.add_typer(cohorts, name="cohort")
app.add_typer(privacy, name="privacy")

# What typer makes of Ctrl-C.
_INTERRUPTED = 130

Out = Annotated[Path | None, typer.Option(help="Run folder; by default runs/ and the configuration's name.")]
UnseenBatchNorm = Annotated[
    str | None,
    typer.Option(help="fedbn, silobn: what a center gets that took no part: mean, re-estimate or least-entropy."),
]

_PHANTOM = PhantomConfig()


def _knob(name: str) -> Any:
    """Return the option of a knob of the phantom, with its meaning as ``config.py`` has it."""
    meaning: str = PhantomConfig.__dataclass_fields__[name].metadata["meaning"]
    return typer.Option(help=f"{meaning[0].upper()}{meaning[1:]}.")


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Six centers learn wrist bones and rheumatoid erosions together, without pooling radiographs."""


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="TOML file, such as simulations/demo.toml.")],
    cohort: Annotated[Path | None, typer.Option(help="Folder of a cohort; by default the file's phantom.")] = None,
    out: Out = None,
    engine: Annotated[str | None, typer.Option(help="inline or ray.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that train centers at the same time.")] = None,
    set_: Setting = None,
    resume: Annotated[bool, typer.Option(help="Go on where a run was killed.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier run in the same folder.")] = False,
    plan: Annotated[bool, typer.Option(help="Say what the run would cost, from one measured step, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Federate the tasks of CONFIG over a cohort's centers."""
    from ramw_fed import api

    resolved = terminal.configure(config, set_, cohort=cohort, engine=engine, workers=workers)
    if plan:
        with progress(terminal.err) as watch:
            cost = api.plan(resolved, watch=watch)
        terminal.show(cost.as_dict(), cost.table(), as_json)
        return
    folder = out or Path(resolved.out or Path("runs") / config.stem)
    if resume and not (folder / "config.toml").exists():
        terminal.note([f"{folder} holds nothing to resume; a new run begins there"])
    with progress(terminal.err) as watch:
        finished = api.run(resolved, out=folder, resume=resume, overwrite=overwrite, watch=watch)
    terminal.show(finished.read_json("metrics.json"), api.tables(finished), as_json)
    terminal.note(api.remarks(finished))
    if not as_json:
        names = ("metrics.json", "models", "predictions", "overlays", "manifest.json", "report.html")
        there = [finished.path / name for name in names if (finished.path / name).exists()]
        left = ", ".join(path.name + "/" * path.is_dir() for path in there)
        terminal.out.print(Text.assemble((str(folder), "bold"), f": {left}"))


@app.command()
def pretrain(
    config: Annotated[Path, typer.Argument(help="TOML file, such as simulations/pretrain.toml.")],
    cohort: Annotated[Path | None, typer.Option(help="Folder of a phantom; by default the file's own.")] = None,
    out: Out = None,
    workers: Annotated[int | None, typer.Option(help="Processes that draw the phantom.")] = None,
    set_: Setting = None,
    resume: Annotated[bool, typer.Option(help="Go on where it was killed.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier run in the same folder.")] = False,
    as_json: Json = False,
) -> None:
    """Train on a synthetic cohort, which costs no patient's privacy; a run starts from it with start-from."""
    from ramw_fed import api

    resolved = terminal.configure(config, set_, cohort=cohort, workers=workers)
    folder = out or Path(resolved.out or Path("runs") / config.stem)
    with progress(terminal.err) as watch:
        finished = api.pretrain(resolved, out=folder, resume=resume, overwrite=overwrite, watch=watch)
    terminal.show(finished.read_json("metrics.json"), api.tables(finished), as_json)
    if not as_json:
        terminal.out.print(
            Text.assemble("start from it with --set ", (f"start-from={folder}", "bold")), highlight=False
        )


@app.command()
def study(
    config: Annotated[Path, typer.Argument(help="TOML file with a study's table, such as simulations/study.toml.")],
    cohort: Annotated[Path | None, typer.Option(help="Folder of a cohort; by default the file's phantom.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; by default runs/ and the file's name.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that train and measure at the same time.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what is left to train and how long, and stop.")] = False,
    power: Annotated[
        bool, typer.Option("--power", help="Say which differences can be found at all, and stop.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Study how the centers differ: many runs, one table, its statistics. After a kill, the same command goes on."""
    from ramw_fed import api
    from ramw_fed.report.study_console import power_table, study_tables
    from ramw_fed.studies.config import Study

    given = {"cohort": str(cohort.resolve()) if cohort else None, "workers": workers}
    tree = read_toml(config) | {name: value for name, value in given.items() if value is not None}
    asked, folder = Study.of(config.stem, tree), out or Path("runs") / config.stem
    with progress(terminal.err) as watch:
        if plan:
            cost = api.plan_study(asked, out=folder, watch=watch)
            terminal.show(cost.as_dict(), cost.table(), as_json)
        if power:
            rows = api.plan_power(asked, out=folder, watch=watch)
            terminal.show(rows, power_table(rows), as_json)
        if plan or power:
            return
        found = api.study(asked, out=folder, watch=watch)
    terminal.show(found, study_tables(found), as_json)
    if not as_json:
        terminal.out.print(
            Text.assemble(
                (str(folder), "bold"), ": table.csv, table.parquet, analysis.json, study.json, report.html, runs/"
            )
        )


@app.command()
def evaluate(
    context: typer.Context,
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort to measure on.")],
    run_folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Folder of a finished run.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="In place of RUN: folder of <stem>.npy and/or scores.csv (docs/comparing.md).")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    unseen_batch_norm: UnseenBatchNorm = None,
    grouped: Annotated[bool, typer.Option("--grouped", help="Predictions: the split grouped by patient.")] = False,
    threshold: Annotated[float, typer.Option(help="Predictions: probability from which a joint is eroded.")] = 0.5,
    tolerance_px: Annotated[float, typer.Option(help="Predictions: tolerance of NSD.")] = 2.0,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Predictions: count what is missing, in place of refusing it.")
    ] = False,
    quarantine: Annotated[float, typer.Option(help="Predictions: share of faulty radiographs to leave out.")] = 0.0,
    allow_leakage: Annotated[
        bool, typer.Option("--allow-leakage", help="Predictions: take a split with one patient on both sides.")
    ] = False,
    centers: Annotated[str, typer.Option(metavar="A,B", help="Predictions: measure these centers only.")] = "",
    out: Annotated[Path | None, typer.Option(help="New folder for metrics and predictions, as compare takes.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a trained model, or anyone's predictions, on a cohort, per center."""
    from ramw_fed import api

    if (run_folder is None) == (predictions is None):
        raise ConfigError("give either the folder of a run or --predictions, one of them")
    own: dict[str, Any] = {
        "grouped": grouped,
        "threshold": threshold,
        "tolerance_px": tolerance_px,
        "allow_missing": allow_missing,
        "quarantine": quarantine,
        "allow_leakage": allow_leakage,
        "centers": [name.strip() for name in centers.split(",") if name.strip()],
    }
    if run_folder is not None:
        _refuse_idle(context, own)
    if predictions is not None and unseen_batch_norm is not None:
        raise ConfigError("--unseen-batch-norm is for the models of a run; predictions have none")
    metrics: Mapping[str, Mapping[str, Any]]
    with progress(terminal.err) as watch:
        if run_folder is not None:
            metrics = api.evaluate(
                run_folder, cohort, split=split, unseen_batch_norm=unseen_batch_norm, out=out, watch=watch
            )
        elif predictions is not None:
            evaluation = api.evaluate_predictions(predictions, cohort, split=split, out=out, watch=watch, **own)
            metrics = evaluation.metrics
            terminal.note(evaluation.remarks)
    terminal.show(metrics, api.overview_tables(metrics, split), as_json)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of a run or of an evaluation.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one; differences are A less B.")],
    task: Annotated[list[str] | None, typer.Option(help="segmentation or erosion; repeatable.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Such as dsc or auroc; repeatable. One family.")] = None,
    as_json: Json = False,
) -> None:
    """Test two runs or evaluations against each other, paired by patient (docs/comparing.md)."""
    from ramw_fed import api

    found = api.compare(first, second, tasks=task or (), metrics=metric or ())
    terminal.note(found.remarks)
    terminal.show(found.as_dict(), found.table(), as_json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN|STUDY", help="Folder of a finished run or study.")],
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Also show radiographs of patients: for use where they may be seen.")
    ] = False,
) -> None:
    """Write one self-contained HTML page: what was found, how, and on whom."""
    from ramw_fed import api

    terminal.out.print(Text(str(api.report(folder, with_images=with_images)), "bold"))


@app.command()
def verify(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="report.html in the folder it was made from.")],
    quick: Annotated[bool, typer.Option("--quick", help="Only the seal and the hashes; recompute nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Recompute every number of a report and name what was altered; exit status 1 where something was."""
    from ramw_fed import api

    found = api.verify(report, quick=quick)
    terminal.note(found.remarks)
    terminal.show(found.as_dict(), found.lines(), as_json)
    if not found.is_intact:
        raise typer.Exit(1)


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(metavar="[RUN] IMAGE...", help="A run folder first, then images.")],
    out: Annotated[Path, typer.Option(help="Folder for masks, overlays, crops and scores.")],
    center: Annotated[str | None, typer.Option(help="Whose images; runs of fedbn and silobn want to know.")] = None,
    unseen_batch_norm: UnseenBatchNorm = None,
    side: Annotated[str | None, typer.Option(help="L or R; by default from the file's name, else by fit.")] = None,
    research: Annotated[bool, typer.Option(help="Give erosion scores of weights that only saw phantoms.")] = False,
    spacing_mm: Annotated[float | None, typer.Option(help="Side of a pixel, for joint spaces in mm.")] = None,
    as_json: Json = False,
) -> None:
    """Find the bones in radiographs; without RUN with the shipped weights, which only ever saw phantoms."""
    from ramw_fed import api

    folder, images = (paths[0], paths[1:]) if (paths[0] / "config.toml").exists() else (None, paths)
    with progress(terminal.err) as watch:
        result = api.predict(
            images,
            out=out,
            run=folder,
            center=center,
            unseen_batch_norm=unseen_batch_norm,
            side=side,
            research=research,
            spacing_mm=spacing_mm,
            watch=watch,
        )
    terminal.note(result.remarks)
    terminal.show(result.as_dict(), result.tables(), as_json)


@cohorts.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    patients: Annotated[int, _knob("patients")] = _PHANTOM.patients,
    seed: Annotated[int, _knob("seed")] = _PHANTOM.seed,
    size: Annotated[int | None, _knob("size")] = None,
    shift: Annotated[float, _knob("shift")] = _PHANTOM.shift,
    label_skew: Annotated[float, _knob("label_skew")] = _PHANTOM.label_skew,
    prevalence_skew: Annotated[float, _knob("prevalence_skew")] = _PHANTOM.prevalence_skew,
    quantity_skew: Annotated[float, _knob("quantity_skew")] = _PHANTOM.quantity_skew,
    prevalence: Annotated[float, _knob("prevalence")] = _PHANTOM.prevalence,
    field_of_view: Annotated[float, _knob("field_of_view")] = _PHANTOM.field_of_view,
    contrast: Annotated[float | None, _knob("contrast")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=256)] = 2,
) -> None:
    """Write a synthetic cohort of six centers in RAM-W600's own file tree."""
    from ramw_fed import api

    given = {name: value for name, value in locals().items() if name in PhantomConfig.__dataclass_fields__}
    config = PhantomConfig(**{name: value for name, value in given.items() if value is not None})
    with progress(terminal.err) as watch:
        api.write_phantom(config, out, workers=workers, watch=watch)
    terminal.out.print(f"{out}: {config.patients} patients at {config.centers} centers")


@cohorts.command()
def check(
    root: Annotated[Path, typer.Argument(help="Folder of the cohort.")],
    as_json: Json = False,
) -> None:
    """List counts, labels, leakage and every fault of a cohort; exit status 1 where there is an error."""
    from ramw_fed import api

    findings = api.check_cohort(root)
    terminal.show(findings.to_dict(), findings.text(), as_json)
    if not findings.is_usable:
        raise typer.Exit(1)


@cohorts.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Images, such as DICOM as a PACS exports it; only read.")],
    out: Annotated[Path, typer.Argument(help="New folder.")],
    center: Annotated[str, typer.Option(help="Name of the center that owns the images.")],
    inspected: Annotated[
        bool, typer.Option("--inspected", help="I looked at the images that may show text in their pixels: none does.")
    ] = False,
    mapping: Annotated[
        Path | None, typer.Option(help="Also write which patient and file became which: identity, outside OUT.")
    ] = None,
) -> None:
    """Convert images to 8-bit PNG with a manifest; patients get new numbers, and no tag comes along."""
    from ramw_fed import api

    done = api.import_folder(folder, out, center=center, is_inspected=inspected, mapping=mapping)
    for path in done.not_images:
        terminal.err.print(f"note: no image, left behind: {path}", style="yellow", highlight=False, markup=False)
    terminal.out.print(f"{out}: {done.num_images} images of {done.num_patients} patients")
    terminal.out.print(f"side unknown: {done.num_unsided}, pixel size unknown: {done.num_unspaced}")
    terminal.out.print(
        "Next: fill in manifest.csv and cohort.toml (docs/data.md), then `ramw-fed cohort check`", highlight=False
    )


@cohorts.command()
def part(
    root: Annotated[Path, typer.Argument(help="Folder of the cohort.")],
    out: Annotated[Path, typer.Argument(help="New folder.")],
) -> None:
    """Write one folder a center, with its own files and rows only: to practise a deployment on one machine."""
    from ramw_fed import api

    for center, folder in api.part_by_center(root, out).items():
        terminal.out.print(f"{folder}: {center}")


@cohorts.command()
def download(out: Annotated[Path, typer.Argument(help="New folder.")]) -> None:
    """Fetch RAM-W600 (4.7 GB, CC-BY-4.0) from Hugging Face."""
    from ramw_fed import api

    terminal.out.print(api.download_ramw600(out))


def main() -> None:
    """Run the command line; an error is one sentence on stderr and exit status 1, with --debug after its traceback."""
    debug = "--debug" in sys.argv
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != "--debug"]
    # What simulated centers say is always shown; where it happened only then.
    logging.getLogger("ramw_fed").setLevel(logging.DEBUG if debug else logging.NOTSET)
    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            terminal.err.print("stopped; `--resume` goes on with a run, the same command with a study", style="red")
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        terminal.err.print(_sentence(error), style="red", highlight=False, soft_wrap=True)
        sys.exit(1)


def _sentence(error: Exception) -> str:
    """Return what a user is told; of an unexpected error only its kind, because its text may hold anything."""
    if isinstance(error, RamwFedError):
        return f"{error.code}: {error}"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"E-SYSTEM: {place}{error.strerror}; mend that, or name another place"
    return (
        f"E-FAULT: {type(error).__name__}, which is a fault of ramw-fed's; please report it with the traceback that "
        "the same command prints with --debug"
    )


def _refuse_idle(context: typer.Context, names: Iterable[str]) -> None:
    given = [name for name in names if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"only --predictions takes {options}; a run is measured as its own configuration says")


if __name__ == "__main__":
    main()
