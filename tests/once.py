"""What takes long to make, made once in a session of tests for all of its workers."""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
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
    """Remove the folder, and end the processes that outlived a worker that was killed."""
    folder = Path(os.environ.pop(VARIABLE))
    for file in (folder / "processes").glob("*"):
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(int(file.name)).create_time() == float(file.read_text()):
                kill_all(int(file.name))
    shutil.rmtree(folder, ignore_errors=True)


def end_with_session(pid: int) -> None:
    """Let a process be killed at the end of the session, if it still runs then."""
    processes = session_folder() / "processes"
    processes.mkdir(exist_ok=True)
    (processes / str(pid)).write_text(repr(psutil.Process(pid).create_time()))


def kill_all(pid: int) -> None:
    """Kill a server and all that it started, each before it can notice: some have a process group of their own."""
    server = psutil.Process(pid)
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.kill()


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
