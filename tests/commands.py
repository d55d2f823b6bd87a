"""Command lines of stages, run in this process: importing what a stage needs takes seconds."""

import signal
import sys
from collections.abc import Callable
from unittest.mock import patch

import pytest

from pipeline.command import run


def run_stage(main: Callable[..., None], *arguments: object) -> str | int | None:
    """Run a stage with the arguments of its command line, and return what it exits with: 0, or its sentence."""
    usual = signal.getsignal(signal.SIGINT)
    try:
        with patch.object(sys, "argv", ["stage", *map(str, arguments)]), pytest.raises(SystemExit) as ended:
            run(main)
    finally:
        signal.signal(signal.SIGINT, usual)
    return ended.value.code
