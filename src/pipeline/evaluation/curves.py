"""The curves of a training, one row an epoch, as the stage `train` leaves them."""

from pathlib import Path

import pandas as pd

from pipeline.errors import PipelineError

LOSSES = ("train/loss", "validation/loss")
SCORE = "validation/macro_f1"  # that the best epoch is best in
COLUMNS = {"epoch", *LOSSES, SCORE, "validation/accuracy"}  # and a rate, by the optimizer's name


def read_curves(file: Path) -> pd.DataFrame:
    """Read the curves of a version: `epoch` (from 1), losses, validation scores, and a rate each parameter group.

    Raises:
        PipelineError: if they are missing or damaged.
    """
    try:
        curves = pd.read_csv(file)
        missing = sorted(COLUMNS - set(curves)) or ["rates"] * (not rates(curves)) or ["rows"] * curves.empty
        if missing:
            raise ValueError(f"without {', '.join(missing)}")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise PipelineError(f"{file} is missing or damaged ({error}); run `dvc repro train@{file.stem}`") from error
    return curves.assign(epoch=curves.epoch + 1)


def rates(curves: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the learning rate of each epoch by what learns at it: `head`, `backbone`, or `all` where they are one."""
    found = {name.partition("/")[2]: curves[name] for name in curves if name.startswith("lr-")}
    same = len({tuple(rate) for rate in found.values()}) == 1
    return {"all": next(iter(found.values()))} if same else found


def best_row(curves: pd.DataFrame) -> int:
    """Return the number of the row, from 0, with the best validation macro-F1; the first of equals."""
    return int(curves[SCORE].to_numpy().argmax())
