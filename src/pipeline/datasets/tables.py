"""Reading the tables that flow between stages: faces (one Parquet file a dataset), clips and splits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError
from pipeline.recipes import CLIPS

SCHEMA = pa.schema(
    {
        "face_id": pa.string(),
        "image": pa.binary(),
        "label": pa.string(),
        "label_id": pa.int8(),
        "dataset": pa.string(),
        "native_split": pa.string(),
        "native_label": pa.string(),
        "corrected_from": pa.string(),  # what `native_label` means, where a person has given the face another label
        "native_path": pa.string(),
        "person": pa.string(),
        "file_sha256": pa.string(),
        "pixel_sha256": pa.string(),
        "phash": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "face_score": pa.float32(),
        "box": pa.list_(pa.field("element", pa.int32()), 4),
    }
)
CLIP_SCHEMA = pa.schema(
    {
        "clip_id": pa.string(),
        "person": pa.string(),
        "label": pa.string(),
        "label_id": pa.int8(),
        "split": pa.string(),
        "frames": pa.list_(pa.field("element", pa.binary())),
    }
)
SPLIT_COLUMNS = ("face_id", "dataset", "label", "group", "split", "leaked", "reason")
# Images, hashes and paths do not repeat, and as bounds of a row group they say nothing. Encoded images do not shrink
# either; written as they are, each can be read by itself (`pipeline.datasets.images`).
_UNIQUE = {"image", "face_id", "native_path", "file_sha256", "pixel_sha256", "phash"}
_REPEATED = [name for name in SCHEMA.names if name not in _UNIQUE]
STORAGE: dict[str, Any] = {
    "use_dictionary": _REPEATED,
    "write_statistics": _REPEATED,
    "compression": {name: "none" if name == "image" else "lz4" for name in SCHEMA.names},
}


def read_faces(folder: Path, dataset: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of a dataset's faces.

    Raises:
        PipelineError: if the table is missing or damaged.
    """
    with open_faces(folder, dataset) as file:
        return file.read(columns=list(columns)).to_pandas()


def iter_faces(folder: Path, dataset: str, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Give columns of a dataset's faces some thousand rows at a time, so that images need not fit into memory.

    Raises:
        PipelineError: if the table is missing or damaged.
    """
    with open_faces(folder, dataset) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=list(columns)).to_pandas()


@contextmanager
def open_faces(folder: Path, dataset: str) -> Iterator[pq.ParquetFile]:
    """Open a dataset's faces.

    Raises:
        PipelineError: if the table is missing or damaged, also where that shows later.
    """
    file = folder / f"{dataset}.parquet"
    try:
        with pq.ParquetFile(file) as opened:
            yield opened
    except (OSError, pa.ArrowException) as error:
        raise PipelineError(f"{file} is missing or damaged ({error}); run `dvc repro {_stage(dataset)}`") from error


def read_clips(folder: Path, split: str | None = None) -> pd.DataFrame:
    """Read the clips of a split, or all, from `clips.parquet` in a folder; `frames` are arrays of encoded images.

    Raises:
        PipelineError: if the table is missing, damaged or another one, or holds no such clips.
    """
    with open_faces(folder, CLIPS) as file:
        if set(CLIP_SCHEMA.names) - set(file.schema_arrow.names):
            raise PipelineError(f"{folder / CLIPS}.parquet has not the columns {', '.join(CLIP_SCHEMA.names)} of clips")
        table = file.read(columns=CLIP_SCHEMA.names).to_pandas()
    table = table if split is None else table[table.split == split].reset_index(drop=True)
    if table.empty:
        raise PipelineError(f"there are no {split or ''} clips in {folder / CLIPS}.parquet".replace("  ", " "))
    return table


def read_split(folder: Path, splits: Path, dataset: str, split: str) -> pd.DataFrame:
    """Read `face_id, label_id, native_label, dataset, leaked` of a dataset's faces that stand in a split.

    Raises:
        PipelineError: if a table is missing or damaged.
    """
    table = _read_splits(splits, columns=["face_id", "split", "leaked"], filters=[("split", "==", split)])
    faces = read_faces(folder, dataset, ("face_id", "label_id", "native_label", "dataset"))
    return faces.merge(table[["face_id", "leaked"]], on="face_id").reset_index(drop=True)


def read_all_splits(splits: Path) -> pd.DataFrame:
    """Read the table of splits whole.

    Raises:
        PipelineError: if it is missing or damaged, or another table.
    """
    return _read_splits(splits, columns=list(SPLIT_COLUMNS))


def _read_splits(splits: Path, **wanted: Any) -> pd.DataFrame:
    try:
        return pq.read_table(splits, **wanted).to_pandas()[wanted["columns"]]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise PipelineError(f"{splits} is missing or damaged ({error}); run `dvc repro split`") from error


def read_types(folder: Path, dataset: str) -> dict[str, str]:
    """Read the type of each column of a dataset's faces."""
    with open_faces(folder, dataset) as file:
        return {field.name: str(field.type) for field in file.schema_arrow}


class Origin(NamedTuple):
    """Whether a dataset's faces were drawn, and by which detector they were found, if by one."""

    drawn: bool
    detector: str | None


def read_origin(folder: Path, dataset: str) -> Origin:
    """Read where a dataset's faces come from, as `harmonize` wrote it beside them."""
    with open_faces(folder, dataset) as file:
        metadata = file.schema_arrow.metadata
    if not metadata or not {b"drawn", b"detector"} <= set(metadata):
        raise PipelineError(
            f"{folder / dataset}.parquet is no table of the pipeline's; run `dvc repro {_stage(dataset)}`"
        )
    detector = metadata[b"detector"].decode()
    return Origin(metadata[b"drawn"] == b"True", None if detector == "None" else detector)


def _stage(dataset: str) -> str:
    """Return the address of the stage that writes the table of a dataset, or of the clips."""
    return "clips" if dataset == CLIPS else f"harmonize@{dataset}"
