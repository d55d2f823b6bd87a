"""The sheet in which a person decides about labels that are probably wrong, and a picture of the faces in question."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.datasets.corrections import COLUMNS, Row, Sheet, read_sheet
from pipeline.datasets.images import read_images
from pipeline.datasets.tables import read_faces
from pipeline.errors import PipelineError
from pipeline.evaluation.gallery import WRONG, Cell, draw_grid
from pipeline.evaluation.label_errors import suspect
from pipeline.files import written_whole
from pipeline.labels import LABELS

SHOWN, ACROSS = 100, 10  # faces of a picture, and of a row of it
FACE_COLUMNS = ("face_id", "dataset", "label_id", "pixel_sha256", "native_path")


class Review(NamedTuple):
    """How many faces were looked at, how many labels are probably wrong, and the sheet's rows: decided, and listed."""

    faces: int
    suspects: int
    decided: int
    listed: int


def review_labels(version: str, predictions: pd.DataFrame, folder: Path, most: int, sheet: Path) -> Review:
    """Write the labels that are probably wrong, by the answers of a version, into a sheet, and draw their faces.

    What a person filled in stays: rows with a decision, or with something in a column of the person's own. The others
    give way to the likeliest errors of now. A picture with several copies is listed once.

    Args:
        version: whose answers they are.
        predictions: its answers for faces that it did not learn from, `face_id, dataset, split, probabilities`.
        folder: with one Parquet file a dataset, where the faces and their present labels are.
        most: rows that wait for a decision.
        sheet: the CSV file to write, or to write anew; the picture goes beside it, as PNG, with the lines of the sheet.

    Raises:
        PipelineError: if the version tells fewer than the seven labels apart, none of its faces is there any more, or
            the sheet that is there can not be understood; then it is left as it is.
    """
    picture = sheet.with_suffix(".png")
    if picture == sheet:
        raise PipelineError(f"{sheet} is where the picture goes; give the sheet another name, such as decisions.csv")
    before = read_sheet(sheet) if sheet.exists() else Sheet(COLUMNS, {})
    columns = (*COLUMNS, *(name for name in before.columns if name not in COLUMNS))
    own = columns[len(COLUMNS) :]
    filled_in = [row for row in before.rows.values() if row["decision"] or any(row[name] for name in own)]
    faces = _join(version, predictions, folder)
    suspects = suspect(faces).drop_duplicates(["dataset", "pixel_sha256"])
    known = {(row["dataset"], row["pixel_sha256"]) for row in filled_in}
    pairs = zip(suspects.dataset, suspects.pixel_sha256, strict=True)
    listed = suspects[np.array([pair not in known for pair in pairs], bool)][:most]
    rows = [*filled_in, *(_row(face) for face in listed.itertuples())]
    _write(sheet, columns, rows)
    _draw(version, listed[:SHOWN], len(filled_in) + 2, folder, picture)  # line 1 is the header
    return Review(len(faces), len(suspects), len(filled_in), len(listed))


def _join(version: str, predictions: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return the faces that were answered and are still there, with the labels that they have now."""
    if not predictions.probabilities.map(len).eq(len(LABELS)).all():
        raise PipelineError(f"{version} does not tell the seven labels apart, so it can not doubt them")
    tables = [read_faces(folder, name, FACE_COLUMNS) for name in predictions.dataset.unique()]
    faces = pd.concat(tables or [pd.DataFrame(columns=FACE_COLUMNS)], ignore_index=True)
    faces = faces.merge(predictions[["face_id", "split", "probabilities"]], on="face_id")
    if faces.empty:
        raise PipelineError(f"{version} answered no face that {folder} has; run `dvc repro evaluate@{version}`")
    return faces


def _row(face: Any) -> Row:
    return {
        "dataset": face.dataset,
        "face_id": face.face_id,
        "pixel_sha256": face.pixel_sha256,
        "native_path": face.native_path,
        "label": LABELS[face.label_id],
        "suggested": LABELS[face.suggested],
        "quality": f"{face.quality:.4f}",
        "decision": "",
    }


def _write(sheet: Path, columns: tuple[str, ...], rows: list[Row]) -> None:
    with written_whole(sheet) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _draw(version: str, listed: pd.DataFrame, first: int, folder: Path, picture: Path) -> None:
    """Draw listed faces, each with its line in the sheet, of which the first is given, and what is suggested."""
    cells = [
        Cell(image, f"{line}: {LABELS[face.suggested]}?\nlabelled {LABELS[face.label_id]}", WRONG)
        for line, (face, image) in enumerate(zip(listed.itertuples(), read_images(folder, listed), strict=True), first)
    ]
    heading = "the likeliest errors first, by their line in the sheet"
    draw_grid({heading: cells}, f"labels that {version} doubts", picture, ACROSS)
