"""Commands that look for better recipes and for wrong labels."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.places import CORRECTIONS
from pipeline.command import as_sentence, speak_plainly
from pipeline.params import load_params


def sweep(
    version: Annotated[str, typer.Argument(help="a version in `recipes`")],
    vary: Annotated[list[str], typer.Option(metavar="KEY=VALUES", help="what to vary; again for each key")] = [],  # noqa: B006
    trials: Annotated[int | None, typer.Option(min=1, help="how many in all, those of earlier calls counted")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="of each training, where not the recipe's own")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="trainings a trial, of which the mean counts")] = None,
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="of the sweep; by default made from its settings")
    ] = None,
) -> None:
    """Look for better values of VERSION's recipe, by validation macro-F1.

    KEY is a dotted key of the recipe, such as optimizer.lr, ema.decay or schedule.0.warm_up. VALUES are a range,
    low..high; one over orders of magnitude, log:low..high; or a list, [64, 128, 256]. What is not said here is taken
    from `sweep` in params.yaml.

    The first trial is the recipe as it is, if it lies in the space. Trials are child runs in MLflow's experiment
    expression-sweeps; hopeless ones are pruned. The same command goes on where it was interrupted; given in several
    terminals at once, they share the trials. For example:

        pipeline sweep v8 --vary optimizer.lr=log:3e-4..3e-2 --vary mixup=0..0.4 --vary 'ema.decay=[0.99, 0.999]'
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


def label_errors(
    version: Annotated[str, typer.Argument(help="a version that was evaluated")],
    to: Annotated[
        Path, typer.Option(metavar="FILE", help="the sheet; `harmonize` applies the one that stands here by itself")
    ] = CORRECTIONS,
    most: Annotated[int, typer.Option(min=1, help="list at most so many faces without a decision")] = 100,
) -> None:
    """List the faces whose label is probably wrong by the answers of VERSION, for a person to decide.

    Looks at validation and test faces of the datasets that it learned from, never at those that it learned. In the
    column `decision` of the sheet, write a label, drop or keep; a row without a decision changes nothing. A later call
    keeps the decisions, and lists others.
    """
    from pipeline.evaluation.predictions import read_predictions
    from pipeline.evaluation.review import review_labels
    from pipeline.networks.checkpoint import load_checkpoint

    with as_sentence():
        predictions = read_predictions(Path("predictions") / f"{version}.parquet")
        learned = load_checkpoint(Path("models") / version).recipe.data
        mine = predictions[predictions.dataset.isin(learned)]
        review = review_labels(version, mine, Path("data/faces"), most, to)
        typer.echo(
            f"of {review.faces} faces, {version} doubts the labels of {review.suspects}; {review.listed} stand in {to} "
            f"without a decision, after {review.decided} with one; see {to.with_suffix('.png')}"
        )
