"""DVC as a person would run it, with this Python for its stages, and ended in order when it is interrupted."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipeline.files import written_whole


def run_dvc(*arguments: str, folder: Path | None = None, **variables: str) -> None:
    """Run `dvc` in a folder, by default here, with some environment variables more; exit as it does where it fails."""
    # Ctrl-C reaches DVC and its stage as well. They end in order, where one that is killed leaves DVC's locks behind.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    code = start_dvc(*arguments, folder=folder, **variables).wait()
    signal.signal(signal.SIGINT, before)
    if code:
        sys.exit(code)  # DVC has told what failed


def start_dvc(*arguments: str, folder: Path | None = None, **variables: str) -> subprocess.Popen[bytes]:
    """Start `dvc` as `run_dvc` does, and return its process."""
    # The stages' `python` is this one, also where its environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "PATH": path, **variables})


def cache_folder() -> Path:
    """Return the folder of DVC's cache."""
    said = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    return Path(said.stdout.strip()).resolve()


@contextmanager
def changed_params(file: Path = Path("params.yaml"), **changes: Any) -> Iterator[None]:
    """Change top-level keys of the parameters for as long as DVC runs, and then restore the file as it was."""
    before = file.read_bytes()
    with written_whole(file) as partial:
        content = yaml.safe_load(before)
        partial.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False), encoding="utf-8")
    try:
        yield
    finally:
        with written_whole(file) as partial:
            partial.write_bytes(before)
