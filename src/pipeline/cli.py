"""The `pipeline` command: check the parameters, rebuild everything, change the champion, sweep over a recipe."""

import json
import logging
import os
import re
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer

from pipeline.command import as_sentence, speak_plainly
from pipeline.errors import PipelineError
from pipeline.params import NO_PATHS, Params, load_params
from pipeline.repro import run_dvc

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=__doc__,
    rich_markup_mode="markdown",
)

RAW = Path("data/raw")  # where downloads go
PAGE = Path("reports/versions.html")
POINTER = Path("models/champion.json")
CORRECTIONS = Path("data/corrections.csv")
PROMOTION, PACKAGE = Path("metrics/promotion.json"), Path("metrics/package.json")
Why = Annotated[str | None, typer.Option(help="the reason, which the registry keeps")]
ParamsFile = Annotated[Path, typer.Option("--params", help="the file of the parameters")]


@app.command()
def check(params: ParamsFile = Path("params.yaml")) -> None:
    """Check params.yaml: every key and value, the sources, and that each version in `run` can be built."""
    with as_sentence():
        _check(load_params(params))
        typer.echo(f"{params} is sound")


@app.command()
def repro() -> None:
    """Check params.yaml, run what is out of date (`dvc repro`), name the champion and the versions' page."""
    from pipeline.corrections import read_sheet
    from pipeline.outside import replaced_sources, stale_stages, versions_without_run

    with as_sentence():
        params = load_params()
        _check(params)
        read_sheet(CORRECTIONS)
        for dataset in replaced_sources(params, RAW):
            typer.echo(f"the source of {dataset} was replaced since it was downloaded")
            run_dvc("repro", "--single-item", "--force", f"download@{dataset}")
        if not POINTER.exists():  # as in a clone that pulled what others made: promote is up to date there
            run_dvc("repro", "promote")
            if not POINTER.exists():
                run_dvc("repro", "--single-item", "--force", "promote")
        run_dvc("repro")
        for version in versions_without_run(params, Path("models")):
            typer.echo(f"the tracking store has no run of {version} any more; its evaluation makes one")
            run_dvc("repro", "--single-item", "--force", f"evaluate@{version}")
        stale = stale_stages(POINTER, PROMOTION, PACKAGE)
        for stage in stale:
            typer.echo(f"what {stage} left in the registry or the Bento store is gone, or was changed")
            run_dvc("repro", "--single-item", "--force", stage)
        if stale:
            run_dvc("repro", "compare")  # it marks the champion
        typer.echo(_champion())
        typer.echo(f"the versions side by side: {PAGE}")


@app.command()
def promote(
    version: Annotated[str | None, typer.Argument(help="a version to promote whatever the gate says")] = None,
    force: Annotated[bool, typer.Option("--force", help="overrule the gate")] = False,
    why: Why = None,
) -> None:
    """Let the gate decide about all versions in `run`, or, with --force and --why, make one of them champion."""
    with as_sentence():
        if version is None and not force and not why:
            run_dvc("repro", "promote")
            return
        if not (version and force and why):
            raise PipelineError("only the gate promotes; to overrule it, name a version and give --force and --why")
        run_dvc("repro", "--single-item", "--force", "promote", FER_FORCE=version, FER_FORCE_WHY=why)
        typer.echo(f"{version} is the champion now; `make repro` packages it")


@app.command()
def rollback(
    why: Why = None,
    to: Annotated[str | None, typer.Option(metavar="NUMBER", help="of the version, if not the former champion")] = None,
) -> None:
    """Make the former champion champion again, for a reason, here and for every service that follows the pointer.

    The one that is left behind does not come back by itself; the gate may still find a third one better.
    """
    from pipeline.rollback import roll_back

    speak_plainly()
    with as_sentence():
        if not why:
            raise PipelineError("say with --why what is wrong with the champion; the registry keeps it")
        event = roll_back(POINTER, why, to)
        typer.echo(
            f"version {event.version} is the champion now, and version {event.previous} was; `make repro` packages it"
        )


@app.command()
def history() -> None:
    """List who was champion when, and why."""
    from pipeline import tracking
    from pipeline.history import read_history
    from pipeline.pointer import read_pointer

    with as_sentence():
        name = read_pointer(POINTER).name
        with tracking.answering():
            events = read_history(tracking.connect(), name)
        typer.echo(f"the champions of {name}:")
        for event in events:
            typer.echo(f"  {event.at}  version {event.version}, by {event.kind}: {event.why}")


@app.command()
def trace(
    what: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/NUMBER, or the beginning of a commit or a hash")],
) -> None:
    """Tell what a registered version is made of, or which versions were made from a commit or some data."""
    from pipeline import tracking
    from pipeline.files import read_json
    from pipeline.trace import find, find_made_from, trace

    with as_sentence(), tracking.answering():
        client = tracking.connect()
        if not re.fullmatch(r"[0-9a-f]+(\.dir)?", what.lower()):
            version = find(client, what)
            packaged = read_json(PACKAGE) if PACKAGE.exists() else {}
            served = (packaged.get("model"), packaged.get("version")) == (version.name, str(version.version))
            typer.echo(trace(client, version, POINTER.parent, packaged["bento"] if served else None))
            return
        made = find_made_from(client, what)
        for version, matched in made:
            typer.echo(f"{version.name}/{version.version} ({version.tags['recipe']}): its {', '.join(matched)}")
        if not made:
            raise PipelineError(f"no registered version was made from {what}")


@app.command()
def reproduce(
    what: Annotated[str, typer.Argument(help="NAME@ALIAS or NAME/NUMBER")],
    tolerance: Annotated[float, typer.Option(min=0, help="by which a score may differ")] = 0.02,
) -> None:
    """Make a registered version again from its commit, parameters and data, and compare the scores.

    On the same machine they are the same; another processor or GPU rounds otherwise, which training makes larger. The
    registry keeps the outcome. An interrupted call goes on at the next one.
    """
    from pipeline import tracking
    from pipeline.reproduction import changed_packages, describe
    from pipeline.reproduction import reproduce as make_again
    from pipeline.trace import find

    with as_sentence(), tracking.answering():
        client = tracking.connect()
        version = find(client, what)
        for package in changed_packages(version, POINTER.parent):
            typer.echo(f"warning: here is {package}")
        if version.tags.get("git_dirty") != "false":
            typer.echo("warning: it was made with uncommitted changes; of these, only params.yaml is known")
        outcome = make_again(client, version, POINTER.parent)
        typer.echo(describe(outcome))
        if beyond := outcome.beyond(tolerance):
            raise PipelineError(f"{', '.join(beyond)} differ by more than {tolerance}")
        typer.echo(f"{version.name} version {version.version} can be reproduced: all scores agree within {tolerance}")


@app.command()
def champion() -> None:
    """Name the champion, its macro-F1 and its Bento."""
    with as_sentence():
        typer.echo(_champion())


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(help="pictures, videos, and folders of them")],
    server: Annotated[str | None, typer.Option(metavar="URL", help="ask this service; by default no service")] = None,
    detect: Annotated[bool, typer.Option(help="look for faces; else a whole picture is taken for one")] = True,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="of what is told")] = "table",
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="write it there instead")] = None,
    annotate: Annotated[Path | None, typer.Option(metavar="FOLDER", help="put pictures with boxes there")] = None,
) -> None:
    """Tell the expressions on pictures and videos, by the model that would be served here, or by a running service."""
    from pipeline.annotation import annotate as draw_on
    from pipeline.asking import as_table, ask_all, describe, find_pictures
    from pipeline.client import Client
    from pipeline.files import written_whole
    from pipeline.pointer import choose_model
    from pipeline.slots import Served
    from pipeline.transforms import decode, encode
    from pipeline.watching import Options, watch

    with as_sentence():
        pictures = find_pictures(paths)
        below = os.path.commonpath([file.resolve().parent for file in pictures])
        model = Client(server) if server else Served.of(*choose_model(POINTER)).open()

        def ask_video(video: BinaryIO) -> dict[str, Any]:
            if isinstance(model, Client):
                return model.predict_video(video, detect=detect)
            return watch(model, video, Options(detect=detect))

        asked = []
        for one in ask_all(lambda image: model.predict(image, detect), ask_video, pictures):
            asked.append(one)
            if annotate and one.answer and "faces" in one.answer:
                with written_whole(annotate / f"{os.path.relpath(one.file, below)}.png") as file:
                    file.write_bytes(encode(draw_on(decode(one.file.read_bytes()), one.answer["faces"])))
        table = as_table(asked)
        told = {
            "table": lambda: describe(table),
            "csv": lambda: table.to_csv(index=False).rstrip(),
            "json": lambda: json.dumps([one.as_json() for one in asked], indent=2),
        }[form]()
        if to:
            with written_whole(to) as file:
                file.write_text(told + "\n", encoding="utf-8")
        else:
            typer.echo(told)
        if failed := [one for one in asked if one.answer is None]:
            raise PipelineError(
                f"{len(failed)} of {len(asked)} pictures have no answer: {failed[0].file}: {failed[0].error}"
            )


@app.command()
def ready_made(
    version: Annotated[str, typer.Argument(help="a version that was trained and evaluated on real faces")],
) -> None:
    """Export a version in half precision as the model that `make serve` serves before anything was trained."""
    from pipeline import tracking
    from pipeline.checkpoint import load_checkpoint
    from pipeline.predictions import read_predictions
    from pipeline.ready_made import make_ready
    from pipeline.registry import MODEL

    with as_sentence():
        params = load_params()
        checkpoint = load_checkpoint(Path("models") / version)
        predictions = read_predictions(Path("predictions") / f"{version}.parquet")
        with tracking.answering():
            run = tracking.find_run(tracking.connect(), version, checkpoint.sha256())
        facts = make_ready(
            checkpoint,
            predictions,
            Path("data/faces"),
            Path("data/splits.parquet"),
            Path("models"),
            MODEL,
            params.evaluate,
            params.card,
            run.data.tags if run else {},
        )
        scores, difference = facts["scores"], facts["largest_difference"]
        split = " and ".join(f"{name}'s {split}" for name, split in facts["split"].items())
        typer.echo(
            f"models/ready-made: {version}, {facts['bytes'] / 1e6:.1f} MB, accuracy {scores['accuracy']:.3f} on "
            f"{scores['n']} faces ({split}); probabilities differ by {difference:.1e} at most"
        )


@app.command()
def label_errors(
    version: Annotated[str, typer.Argument(help="a version that was evaluated")],
    to: Annotated[
        Path, typer.Option(metavar="FILE", help="the sheet; `harmonize` applies the one that stands here by itself")
    ] = CORRECTIONS,
    most: Annotated[int, typer.Option(min=1, help="faces that wait for a decision")] = 100,
) -> None:
    """List the faces whose label is probably wrong by the answers of VERSION, for a person to decide.

    Looks at validation and test faces of the datasets that it learned from, never at those that it learned. In the
    column `decision` of the sheet, write a label, drop or keep; a row without a decision changes nothing. A later call
    keeps the decisions, and lists others.
    """
    from pipeline.checkpoint import load_checkpoint
    from pipeline.predictions import read_predictions
    from pipeline.review import review_labels

    with as_sentence():
        predictions = read_predictions(Path("predictions") / f"{version}.parquet")
        learned = load_checkpoint(Path("models") / version).recipe.data
        mine = predictions[predictions.dataset.isin(learned)]
        review = review_labels(version, mine, Path("data/faces"), most, to)
        typer.echo(
            f"of {review.faces} faces, {version} doubts the labels of {review.suspects}; {review.listed} stand in {to} "
            f"without a decision, after {review.decided} with one; see {to.with_suffix('.png')}"
        )


@app.command()
def sweep(
    version: str,
    vary: Annotated[list[str], typer.Option(metavar="KEY=VALUES", help="what to vary; again for each key")] = [],  # noqa: B006
    trials: Annotated[int | None, typer.Option(min=1, help="how many in all, those of earlier calls counted")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="of each training, where not the recipe's own")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="trainings a trial, of which the mean counts")] = None,
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="of the sweep; by itself made from what it asks")
    ] = None,
) -> None:
    """Look for better values of VERSION's recipe, by validation macro-F1.

    KEY is a dotted key of the recipe, such as optimizer.lr, ema.decay or schedule.0.warm_up. VALUES are a range,
    low..high; one over orders of magnitude, log:low..high; or a list, [64, 128, 256]. What is not said here is taken
    from `sweep` in params.yaml.

    The first trial is the recipe as it is, if it lies in the space. Trials are child runs in MLflow's experiment
    expression-sweeps; hopeless ones are pruned. The same command goes on where it was interrupted; given in several
    terminals at once, they share the trials. For example:

        pipeline sweep v8 --vary optimizer.lr=log:1e-3..3e-1 --vary mixup=0..0.4 --vary 'ema.decay=[0.99, 0.999]'
    """
    from pipeline.sweep.plan import make_plan
    from pipeline.sweep.report import describe
    from pipeline.sweep.run import run_sweep
    from pipeline.sweep.space import parse_vary

    speak_plainly()
    with as_sentence():
        params = load_params()
        given = {"trials": trials, "epochs": epochs, "seeds": seeds}
        settings = params.sweep.model_copy(update={key: value for key, value in given.items() if value is not None})
        plan = make_plan(params, version, parse_vary(vary) or params.sweep.vary, settings, study)
        typer.echo(describe(run_sweep(plan), plan))


@app.command()
def monitor(
    log: Annotated[Path, typer.Argument(help="the folder that FER_PREDICTIONS_LOG names")],
    reference: Annotated[
        Path | None, typer.Option(help="what to compare with; by itself what the version answered for validation faces")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="where the window begins: an age or a date")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="where it ends")] = None,
    to: Annotated[Path, typer.Option(help="the page; a JSON file is written beside it")] = Path("reports/monitor.html"),
    params: ParamsFile = Path("params.yaml"),
) -> None:
    """Tell whether what a service answers differs from what its model answered for validation faces.

    TIME is an age (30m, 24h, 7d) or a date or time (2026-03-01, 2026-03-01T12:00, UTC unless it says otherwise).
    REFERENCE is a Parquet file, or the log of a time when all was well: the log has a folder a day.

    Ends with exit code 0 where nothing changed, 1 where something did, and 2 where that can not be told. For example:

        pipeline monitor log --since 24h
        pipeline monitor log/2026-03-08 --reference log/2026-03-01 --to week.html
    """
    from pipeline.logbook import find_reference, parse_time, read_log
    from pipeline.monitor import compare, summarize
    from pipeline.monitor_page import write_page

    try:
        settings = load_params(params).monitor
        window = read_log(log, parse_time(since), parse_time(until))
        source = reference or find_reference(POINTER, window)
        watched = compare(window, read_log(source), str(source), settings)
        write_page(to, watched, settings)
    except PipelineError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error  # 1 is an answer here
    typer.echo("\n".join([*summarize(watched), f"the page: {to}"]))
    raise typer.Exit(bool(watched.drifted))


def _check(params: Params) -> None:
    from pipeline.archive import check_source
    from pipeline.augment import build_augmentation
    from pipeline.detectors import load_detector
    from pipeline.networks import check_backbone
    from pipeline.sources import SOURCES
    from pipeline.yunet_file import find_yunet

    for name in params.use:
        source = params.dataset(name).source
        if source not in NO_PATHS:
            if RAW.resolve() in (Path(source).resolve() / "any").parents:
                raise PipelineError(f"datasets.{name}.from: {source} lies in {RAW}, which is emptied; move it")
            try:
                check_source(Path(source))
            except PipelineError as error:
                raise PipelineError(f"datasets.{name}.from: {error}") from error
    if not all(SOURCES[name].cropped for name in params.use):
        load_detector(find_yunet(params.faces.yunet))
    for version in params.run:
        recipe = params.recipe(version)
        if recipe.recurrent:
            raise PipelineError(f"recipes.{version} reads clips, which only the zoo has; put it into zoo/params.yaml")
        try:
            check_backbone(recipe.backbone)
            build_augmentation(recipe.augment, image_size=recipe.image_size, share=recipe.augment_share)
            if recipe.balance:
                build_augmentation(recipe.balance.augment, image_size=recipe.image_size)
        except PipelineError as error:
            raise PipelineError(f"recipes.{version}: {error}") from error


def _champion() -> str:
    from pipeline.files import read_output

    if not PROMOTION.exists() or not PACKAGE.exists():
        raise PipelineError("there is no champion yet; run `make repro` first")
    packaged = read_output(PACKAGE, "package")
    decided = {entry["model"]: entry["champion"] for entry in read_output(PROMOTION, "promote")["decisions"]}
    mine = decided.get(packaged["model"])  # none, where a real champion stays, and all versions in `run` are drawn ones
    score = f" (recipe {mine['recipe']}), macro-F1 {mine['macro_f1']:.3f} on the test faces" if mine else ""
    return f"champion: {packaged['model']} version {packaged['version']}{score}; Bento {packaged['bento']}"


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app()
