"""Reading logs of predictions, and the references they are compared with."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError
from pipeline.inference.answer_table import LABEL, REFERENCE, SCHEMA
from pipeline.inference.pointer import READY_MADE, read_pointer

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def read_log(place: Path, since: datetime | None = None, until: datetime | None = None) -> pd.DataFrame:
    """Read the answers of a log that were given from `since` on and before `until`, in the order of time.

    Args:
        place: the folder that `pipeline.serving.answer_log` writes, or a Parquet file of the same columns; those it has
            besides, such as `label`, are read too.
        since: in UTC, if the log is not to be read from its beginning.
        until: in UTC, if not to its end.

    Raises:
        PipelineError: if there is none, or a file is damaged or something else.
    """
    files = sorted(file for file in place.rglob("*.parquet") if not file.name.startswith("."))
    if not place.is_dir():
        files = [place]
    parts = [_read(file) for file in files]
    if not parts:
        raise PipelineError(f"there is no log in {place}: FER_PREDICTIONS_LOG names the folder that a service writes")
    table = pd.concat(parts, ignore_index=True).sort_values("time", kind="stable")
    inside = (table.time >= since if since else True) & (table.time < until if until else True)
    return table[inside & np.ones(len(table), bool)].reset_index(drop=True)


def find_reference(pointer_file: Path, log: pd.DataFrame) -> Path:
    """Return the reference beside the exported model of the version that answered last.

    Args:
        pointer_file: the champion's pointer; the ready-made model and the registry's are looked for beside it.
        log: as `read_log` returns it.

    Raises:
        PipelineError: if there is none.
    """
    if log.empty:
        raise PipelineError("the log has no answers in this window")
    name, version = log[["name", "version"]].iloc[-1]
    folders = {folder.resolve() for folder in (pointer_file.parent / "registry" / name).glob(f"{version}-*")}
    for file in (pointer_file, pointer_file.parent / READY_MADE):
        if file.exists() and (pointer := read_pointer(file)).name == name and pointer.version == version:
            folders = {(file.parent / pointer.location).parent.resolve()}  # the number may be another registry's too
    found = [folder / REFERENCE for folder in folders if (folder / REFERENCE).is_file()]
    if len(found) == 1:
        return found[0]
    why = f"{len(found)} folders in {pointer_file.parent} may be meant" if found else f"no {REFERENCE} is beside it"
    raise PipelineError(
        f"what {name} version {version} answered for validation faces is not known ({why}); name, with --reference, "
        "such a file, or the log of a time when all was well"
    )


def parse_time(said: str | None) -> datetime | None:
    """Return the time, in UTC, that an age (`30m`, `24h`, `7d`) or a date or time says.

    Raises:
        PipelineError: if it is neither.
    """
    if said is None:
        return None
    try:
        if age := re.fullmatch(r"(\d+)([mhd])", said):
            return datetime.now(UTC) - timedelta(**{UNITS[age[2]]: int(age[1])})
        time = datetime.fromisoformat(said)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise PipelineError(f"{said!r} is no time: say 24h, 7d, 2026-03-01 or 2026-03-01T12:00") from error


def _read(file: Path) -> pd.DataFrame:
    try:
        table = pq.read_table(file, partitioning=None)
        schema = SCHEMA.append(LABEL) if LABEL.name in table.column_names else SCHEMA
        return table.select(schema.names).cast(schema).to_pandas()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise PipelineError(f"{file} is missing, damaged, or no log of predictions ({error})") from error
