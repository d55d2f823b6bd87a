"""Commands that use a model: ask it, ship it, watch what it answers."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer

from pipeline.cli.places import POINTER, ParamsFile
from pipeline.command import as_sentence
from pipeline.errors import PipelineError
from pipeline.params import load_params


def predict(
    paths: Annotated[list[Path], typer.Argument(help="pictures, videos, and folders of them")],
    server: Annotated[str | None, typer.Option(metavar="URL", help="ask this service; by default no service")] = None,
    key: Annotated[str | None, typer.Option(envvar="FER_KEY", help="for a service that asks for one")] = None,
    detect: Annotated[bool, typer.Option(help="look for faces; else a whole picture is taken for one")] = True,
    top: Annotated[int | None, typer.Option(min=1, max=7, help="list so many of the likeliest labels")] = None,
    tta: Annotated[bool, typer.Option(help="answer with the mean over each face and its mirror image")] = False,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="of the output")] = "table",
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="write to this file instead of the terminal")] = None,
    annotate: Annotated[Path | None, typer.Option(metavar="FOLDER", help="put pictures with boxes there")] = None,
) -> None:
    """Tell the expressions on pictures and videos, by the model that would be served here, or by a running service."""
    from pipeline.cli.annotation import annotate as draw_on
    from pipeline.cli.asking import as_table, ask_all, describe, find_files
    from pipeline.client import Client
    from pipeline.files import written_whole
    from pipeline.inference.options import TOP, VideoOptions
    from pipeline.inference.pointer import choose_model
    from pipeline.inference.watching import watch
    from pipeline.serving.slots import Served
    from pipeline.vision.transforms import decode, encode

    with as_sentence():
        files = find_files(paths)
        below = os.path.commonpath([file.resolve().parent for file in files])
        model = Client(server, key=key) if server else Served.of(*choose_model(POINTER)).open()

        def ask_video(video: BinaryIO) -> dict[str, Any]:
            if isinstance(model, Client):
                return model.predict_video(video, detect=detect, tta=tta)
            return watch(model, video, VideoOptions(detect=detect, tta=tta))

        asked = []
        for one in ask_all(lambda image: model.predict(image, detect, top or TOP, tta), ask_video, files):
            asked.append(one)
            if annotate and one.answer and "faces" in one.answer:
                with written_whole(annotate / f"{os.path.relpath(one.file, below)}.png") as file:
                    file.write_bytes(encode(draw_on(decode(one.file.read_bytes()), one.answer["faces"])))
        table = as_table(asked)
        told = {
            "table": lambda: describe(table, top),
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


def ready_made(
    versions: Annotated[list[str], typer.Argument(help="what was trained and evaluated on real faces")],
) -> None:
    """Export a version in half precision as the model that `make serve` serves before anything was trained.

    Several versions answer together, by the mean of their probabilities. It takes the place of the model in
    models/ready-made, which is part of the repository.
    """
    from pipeline.evaluation.predictions import read_predictions
    from pipeline.networks.checkpoint import load_checkpoint
    from pipeline.packaging.ready_made import make_ready
    from pipeline.packaging.together import Evaluated
    from pipeline.registry import tracking
    from pipeline.registry.registry import MODEL

    with as_sentence():
        params = load_params()
        evaluated = []
        for version in versions:
            checkpoint = load_checkpoint(Path("models") / version)
            predictions = read_predictions(Path("predictions") / f"{version}.parquet")
            with tracking.answering():
                run = tracking.find_run(tracking.connect(), version, checkpoint.sha256())
            evaluated.append(Evaluated(checkpoint, predictions, run.data.tags if run else {}))
        facts = make_ready(evaluated, Path("data/faces"), Path("data/splits.parquet"), Path("models"), MODEL, params)
        scores, difference = facts["scores"], facts["largest_difference"]
        split = " and ".join(f"{name}'s {split}" for name, split in facts["split"].items())
        typer.echo(
            f"models/ready-made: {facts['version']}, {facts['bytes'] / 1e6:.1f} MB, accuracy {scores['accuracy']:.3f} "
            f"on {scores['n']} faces ({split}); probabilities differ by {difference:.1e} at most"
        )


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
    from pipeline.monitoring.logbook import find_reference, parse_time, read_log
    from pipeline.monitoring.monitor import compare, summarize
    from pipeline.monitoring.monitor_page import write_page

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
