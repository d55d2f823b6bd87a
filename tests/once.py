"""What takes long to make, made once in a session of tests for all of its workers."""

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from filelock import FileLock

VARIABLE = "EXPRESSION_TESTS_FOLDER"


@cache
def session_folder() -> Path:
    """Return the folder that all workers share; the first process of the session makes it, and removes it."""
    return Path(os.environ[VARIABLE]) if VARIABLE in os.environ else begin_session()


def begin_session() -> Path:
    """Make the folder, and name it to the processes that are started from here."""
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix="expression-tests-")
    return Path(os.environ[VARIABLE])


def end_session() -> None:
    """Remove the folder."""
    shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` has filled: here, or in another worker, which is waited for.

    Tests read it, or copy it. What was left by a worker that was killed meanwhile is made anew.
    """
    folder, done = session_folder() / name, session_folder() / f"{name}.done"
    with FileLock(session_folder() / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
