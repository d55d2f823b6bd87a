"""Commands about the champion: change it, look into its history, make it again."""

from typing import Annotated

import typer

from pipeline.cli.places import PACKAGE, POINTER
from pipeline.command import as_sentence, speak_plainly
from pipeline.errors import PipelineError
from pipeline.registry.repro import run_dvc

Why = Annotated[str | None, typer.Option(help="the reason, which the registry keeps")]


def promote(
    version: Annotated[str | None, typer.Argument(help="a version to promote whatever the gate says")] = None,
    force: Annotated[bool, typer.Option("--force", help="overrule the gate")] = False,
    why: Why = None,
) -> None:
    """Let the gate decide about all versions in `run`, or, with --force and --why, make one of them champion.

    Without a version it is `dvc repro promote`, and decides nothing anew where nothing has changed.
    """
    with as_sentence():
        if version is None and not force and not why:
            run_dvc("repro", "promote")
            return
        if not (version and force and why):
            raise PipelineError("only the gate promotes; to overrule it, name a version and give --force and --why")
        run_dvc("repro", "--single-item", "--force", "promote", FER_FORCE=version, FER_FORCE_WHY=why)
        typer.echo(f"{version} is the champion now; `make repro` packages it")


def rollback(
    why: Why = None,
    to: Annotated[str | None, typer.Option(metavar="NUMBER", help="of the version, if not the former champion")] = None,
) -> None:
    """Make the former champion champion again, here and for every service that follows the pointer; --why is needed.

    The one that is left behind does not come back by itself; the gate may still find a third one better.
    """
    from pipeline.registry.rollback import roll_back

    speak_plainly()
    with as_sentence():
        if not why:
            raise PipelineError("say with --why what is wrong with the champion; the registry keeps it")
        event = roll_back(POINTER, why, to)
        typer.echo(
            f"version {event.version} is the champion now, and version {event.previous} was; `make repro` packages it"
        )


def history() -> None:
    """List who was champion when, and why."""
    from pipeline.inference.pointer import read_pointer
    from pipeline.registry import tracking
    from pipeline.registry.history import read_history

    speak_plainly()
    with as_sentence():
        name = read_pointer(POINTER).name
        with tracking.answering():
            events = read_history(tracking.connect(), name)
        typer.echo(f"the champions of {name}:")
        for event in events:
            typer.echo(f"  {event.at}  version {event.version}, by {event.kind}: {event.why}")


def trace(
    what: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/NUMBER, or the beginning of a commit or a hash")],
) -> None:
    """Tell what a registered version is made of, or which versions were made from a commit or some data."""
    from pipeline.files import read_json
    from pipeline.registry import tracking
    from pipeline.registry.trace import find, find_made_from, is_hash, trace

    speak_plainly()
    with as_sentence(), tracking.answering():
        by_hash = is_hash(what)  # before anybody is asked
        client = tracking.connect()
        if not by_hash:
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


def reproduce(
    what: Annotated[str, typer.Argument(help="NAME@ALIAS or NAME/NUMBER")],
    tolerance: Annotated[float, typer.Option(min=0, help="by which a score may differ")] = 0.02,
) -> None:
    """Make a registered version again from its commit, parameters and data, and compare the scores.

    On the same machine they are the same; another processor or GPU rounds otherwise, which training makes larger. The
    registry keeps the outcome. An interrupted call goes on at the next one.
    """
    from pipeline.registry import tracking
    from pipeline.registry.reproduction import changed_packages, describe
    from pipeline.registry.reproduction import reproduce as make_again
    from pipeline.registry.trace import find

    speak_plainly()
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
