"""The `pipeline` command: rebuild everything, change the champion, ask a model, watch it, look for better recipes."""

import logging

import typer

from pipeline.cli.decide import history, promote, reproduce, rollback, trace
from pipeline.cli.improve import label_errors, sweep
from pipeline.cli.keys import keys
from pipeline.cli.rebuild import champion, check, repro, zoo
from pipeline.cli.use import monitor, predict, ready_made

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=__doc__,
    rich_markup_mode="markdown",
)
PANELS = {
    "Rebuild": (check, repro, champion, zoo),
    "Decide": (promote, rollback, history, trace, reproduce),
    "Improve": (sweep, label_errors),
    "Use": (predict, ready_made, monitor),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(keys, name="keys", rich_help_panel="Use")


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app()
