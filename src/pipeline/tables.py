"""Reading the tables that flow between stages: faces (one Parquet file a dataset) and splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError


def read_faces(folder: Path, dataset: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of a dataset's faces.

    Raises:
        PipelineError: if the table is missing or damaged.
    """
    file = folder / f"{dataset}.parquet"
    try:
        return pq.read_table(file, columns=list(columns)).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise PipelineError(f"{file} is missing or damaged ({error}); run `dvc repro harmonize@{dataset}`") from error


def read_split(folder: Path, splits: Path, dataset: str, split: str) -> pd.DataFrame:
    """Read `face_id, image, label_id, dataset, leaked` of the faces of a dataset that stand in a split."""
    table = pd.read_parquet(splits, columns=["face_id", "split", "leaked"], filters=[("split", "==", split)])
    faces = read_faces(folder, dataset, ("face_id", "image", "label_id", "dataset"))
    return faces.merge(table[["face_id", "leaked"]], on="face_id").reset_index(drop=True)


class Origin(NamedTuple):
    """Whether a dataset's faces were drawn, and by which detector they were found, if by one."""

    drawn: bool
    detector: str | None


def read_origin(folder: Path, dataset: str) -> Origin:
    """Read where a dataset's faces come from, as `harmonize` wrote it beside them."""
    metadata = pq.read_schema(folder / f"{dataset}.parquet").metadata
    detector = metadata[b"detector"].decode()
    return Origin(metadata[b"drawn"] == b"True", None if detector == "None" else detector)
