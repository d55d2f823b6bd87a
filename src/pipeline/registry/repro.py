"""Running DVC as a person would, with this Python for its stages, and in order when it is interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def run_dvc(*arguments: str, folder: Path | None = None, **variables: str) -> None:
    """Run `dvc` in a folder, by default here, with some environment variables more; exit as it does where it fails."""
    # The stages' `python` is this one, also where its environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # Ctrl-C reaches DVC and its stage as well. They end in order, where one that is killed leaves DVC's locks behind.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    code = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, env={**os.environ, "PATH": path, **variables}
    ).returncode
    signal.signal(signal.SIGINT, before)
    if code:
        sys.exit(code)  # DVC has told what failed


def cache_folder() -> Path:
    """Return the folder of DVC's cache."""
    said = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    return Path(said.stdout.strip()).resolve()
