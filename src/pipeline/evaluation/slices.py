"""Scores of a version on parts of its faces: the dark and the bright, the blurred, the small, those of a dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from pipeline.datasets.images import iter_images
from pipeline.datasets.quality import look_at
from pipeline.datasets.tables import SCHEMA, read_faces
from pipeline.errors import PipelineError, did_you_mean
from pipeline.evaluation.metrics import score
from pipeline.evaluation.predictions import stack
from pipeline.params import EvaluateParams

MEASURED = ("brightness", "sharpness", "size")
THIRDS = {2: ("low", "high"), 3: ("low", "middle", "high")}
MOST_GROUPS = 20


def check_columns(names: Sequence[str]) -> None:
    """Raise PipelineError if faces can not be told apart by one of these: it is neither measured nor a column."""
    known = {*MEASURED, *SCHEMA.names} - {"face_id", "image", "box"}
    for name in names:
        if name not in known:
            raise PipelineError(
                f"evaluate.slice_by: faces have no {name!r}{did_you_mean(name, known)}; it takes "
                f"{', '.join(MEASURED)}, and columns of the tables of faces"
            )


def describe(folder: Path, faces: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Add to some faces what tells them apart.

    Args:
        folder: with one Parquet file a dataset.
        faces: `face_id, dataset` and more, each once.
        names: columns of the tables of faces, and of what is measured: `brightness` (0..255) and `sharpness` (see
            `pipeline.datasets.quality`), `size` (the shorter side of the face in pixels, as the dataset brings it).

    Returns:
        the faces in their order, with these columns.

    Raises:
        PipelineError: if a table is missing or damaged.
    """
    faces = faces.reset_index(drop=True)
    wanted = [name for name in names if name not in MEASURED and name not in faces]
    columns = ("face_id", "width", "height", *wanted)
    read = pd.concat([read_faces(folder, str(name), columns) for name in faces.dataset.unique()])
    found = read.set_index("face_id").loc[faces.face_id].reset_index(drop=True)
    added = found[wanted].assign(size=found[["width", "height"]].min(axis=1))
    if {"brightness", "sharpness"} & set(names):
        looks = pd.concat([look_at(images.to_frame("image")) for images in iter_images(folder, faces)])
        added = added.join(looks)
    return faces.assign(**{name: added[name] for name in names if name in added})


def score_slices(faces: pd.DataFrame, params: EvaluateParams) -> dict[str, dict[str, Any]]:
    """Score parts of the faces.

    Of what is a number (brightness, say) the parts are thirds of the faces; equal faces stay together, so that there
    may be two parts. Any other column gives a part a value, the 20 largest: today `dataset`, and what a dataset says of
    each face (`native_label`, `person`). No dataset in use brings an attribute of people, such as age or skin tone; one
    that does is named in `evaluate.slice_by` like these, once its adapter fills a column of the table of faces.

    Args:
        faces: `label_id, probabilities`, and the columns to tell them apart by, as `describe` adds them; faces for
            which one is unknown are in none of its parts.
        params: the columns, resamples and seed.

    Returns:
        by column and part: `n, accuracy, macro_f1, ci95`; of numbers also where the part begins and ends, `from` and
        `to`. A column that does not tell the faces apart is left out.
    """
    return {name: parts for name in params.slice_by if len(parts := _score_parts(faces, name, params)) > 1}


def _score_parts(faces: pd.DataFrame, name: str, params: EvaluateParams) -> dict[str, Any]:
    known = faces[faces[name].notna()]
    if not is_numeric_dtype(known[name]):
        largest = sorted(known[name].value_counts().index[:MOST_GROUPS])
        return {str(value): _score(known[known[name] == value], params) for value in largest}
    third = _thirds(known[name])
    names = THIRDS.get(third.nunique())
    if names is None:
        return {}
    return {
        part: {"from": float(rows[name].min()), "to": float(rows[name].max()), **_score(rows, params)}
        for part, (_, rows) in zip(names, known.groupby(third), strict=True)
    }


def _thirds(values: pd.Series) -> pd.Series:
    """Return the number of the third, 0 to 2, that each value stands in; equal ones stand where their middle does."""
    return (3 * (values.rank() - 0.5) // len(values)).astype(int)


def _score(faces: pd.DataFrame, params: EvaluateParams) -> dict[str, Any]:
    scores = score(faces.label_id.to_numpy(), stack(faces.probabilities), params)
    return {key: scores[key] for key in ("n", "accuracy", "macro_f1", "ci95")}
