"""The `pipeline` command: check the parameters, rebuild everything, name the champion, sweep over a recipe."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.command import as_sentence, speak_plainly
from pipeline.errors import PipelineError
from pipeline.params import NO_PATHS, Params, load_params

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=__doc__,
    rich_markup_mode="markdown",
)

RAW = Path("data/raw")  # where downloads go
PAGE = Path("reports/versions.html")
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
    from pipeline.outside import lost_stages, replaced_sources

    with as_sentence():
        params = load_params()
        _check(params)
        for dataset in replaced_sources(params, RAW):
            typer.echo(f"the source of {dataset} was replaced since it was downloaded")
            _dvc("repro", "--single-item", "--force", f"download@{dataset}")
        _dvc("repro")
        lost = lost_stages(Path("models/champion.json"), Path("metrics/package.json"))
        for stage in lost:
            typer.echo(f"what {stage} left in the registry or the Bento store is gone")
            _dvc("repro", "--single-item", "--force", stage)
        if lost:
            _dvc("repro", "compare")  # it marks the champion
        typer.echo(_champion())
        typer.echo(f"the versions side by side: {PAGE}")


@app.command()
def champion() -> None:
    """Name the champion, its macro-F1 and its Bento."""
    with as_sentence():
        typer.echo(_champion())


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
            run.data.tags if run else {},
        )
        scores, difference = facts["scores"], facts["largest_difference"]
        split = " and ".join(f"{name}'s {split}" for name, split in facts["split"].items())
        typer.echo(
            f"models/ready-made: {version}, {facts['bytes'] / 1e6:.1f} MB, accuracy {scores['accuracy']:.3f} on "
            f"{scores['n']} faces ({split}); probabilities differ by {difference:.1e} at most"
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

    decision, package = Path("metrics/promotion.json"), Path("metrics/package.json")
    if not decision.exists() or not package.exists():
        raise PipelineError("there is no champion yet; run `make repro` first")
    packaged = read_output(package, "package")
    decided = {entry["model"]: entry["champion"] for entry in read_output(decision, "promote")["decisions"]}
    mine = decided.get(packaged["model"])  # none, where a real champion stays, and all versions in `run` are drawn ones
    score = f" (recipe {mine['recipe']}), macro-F1 {mine['macro_f1']:.3f} on the test faces" if mine else ""
    return f"champion: {packaged['model']} version {packaged['version']}{score}; Bento {packaged['bento']}"


def _dvc(*arguments: str) -> None:
    # The stages' `python` is this one, also where its environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # Ctrl-C reaches DVC and its stage as well. They end in order, where one that is killed leaves DVC's locks behind.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    code = subprocess.run([sys.executable, "-m", "dvc", *arguments], env={**os.environ, "PATH": path}).returncode
    signal.signal(signal.SIGINT, before)
    if code:
        sys.exit(code)  # DVC has told what failed


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app()
