"""Commands that make, list and revoke the keys of a service."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.command import as_sentence

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys of a service.")
File = Annotated[Path, typer.Option("--file", envvar="FER_KEYS", help="the file of the keys, of which it has hashes")]
FILE = Path("keys.json")


@keys.command()
def add(name: Annotated[str, typer.Argument(help="whose key it is, or what for")], file: File = FILE) -> None:
    """Make a key, and tell it once: only its hash is kept. A running service takes it at once."""
    from pipeline.serving.protection.keys import add_key

    with as_sentence():
        typer.echo(add_key(file, name))
        typer.echo(f"this is {name}'s key, and the only time that it is told; {file} keeps its hash", err=True)


@keys.command("list")
def list_keys(file: File = FILE) -> None:
    """List the names of the keys, and when they were made."""
    from pipeline.serving.protection.keys import read_keys

    with as_sentence():
        known = read_keys(file)
        for key in known:
            typer.echo(f"{key.name}  made {key.made}")
        if not known:
            typer.echo(f"{file} has no keys")


@keys.command()
def revoke(name: Annotated[str, typer.Argument(help="the key's name")], file: File = FILE) -> None:
    """Revoke a key: a running service refuses it from the next request on."""
    from pipeline.serving.protection.keys import revoke_key

    with as_sentence():
        revoke_key(file, name)
        typer.echo(f"{name}'s key is revoked")
