"""Commands that a signal ends in the middle of a training: for tests that start them in processes of their own.

    python dying.py SIGNAL EPOCHS train|pipeline ARGUMENTS...

The signal comes when that many epochs are over, however busy the machine is.
"""

import itertools
import signal
import sys
from unittest.mock import patch

from pipeline.registry.progress import EpochLines


def dying(command: str, *arguments: str, epochs: int, by: signal.Signals = signal.SIGKILL) -> list[str]:
    """Return the command line."""
    return [sys.executable, __file__, by.name, str(epochs), command, *arguments]


def main(command: str) -> None:
    """Run a command with the arguments of the command line."""
    if command == "train":
        from pipeline.command import run
        from pipeline.stages import train

        run(train.main)
    else:
        from pipeline import cli

        cli.main()


if __name__ == "__main__":
    _, name, epochs, command, *arguments = sys.argv
    sys.argv = [command, *arguments]
    begin, begun = EpochLines.on_train_epoch_start, itertools.count()

    def die(self, *given):
        if next(begun) == int(epochs):
            signal.raise_signal(signal.Signals[name])
        begin(self, *given)

    with patch.object(EpochLines, "on_train_epoch_start", die):
        main(command)
