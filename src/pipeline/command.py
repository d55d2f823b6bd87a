"""Commands that say what a person can mend in one sentence on stderr, with exit code 1."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from pipeline.errors import PipelineError

CHATTY = ("alembic", "great_expectations", "lightning", "matplotlib", "mlflow", "optuna", "pytorch_lightning")


def run(main: Callable[..., None]) -> None:
    """Run a stage's `main` with the arguments of the command line, read by its signature (`--help` shows them)."""
    speak_plainly()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    with as_sentence():
        app()


def speak_plainly() -> None:
    """Log a line as it is, what libraries say only where it is a warning, and end at Ctrl-C without a traceback.

    Some libraries choose their own level when they are imported: to be called after that.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(*_: object) -> None:
    """Take the first Ctrl-C, which typer ends with exit code 130; another one ends the process at once and quietly."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


@contextmanager
def as_sentence() -> Iterator[None]:
    """Turn a `PipelineError` into its sentence and exit code 1."""
    try:
        yield
    except PipelineError as error:
        sys.exit(f"error: {error}")
