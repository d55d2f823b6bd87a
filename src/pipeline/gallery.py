"""Faces to look at, as a picture: those that a version knew, and those that it was most sure of and wrong."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from pipeline.files import written_whole
from pipeline.labels import LABELS
from pipeline.predictions import stack
from pipeline.transforms import decode, resize

MISTAKES = 14
COLUMNS = len(LABELS)
SIDE = 112  # of a face, in pixels
CELL = 1.35  # of the grid, in inches
RIGHT, WRONG = "#1a7f4b", "#b3261e"


class Cell(NamedTuple):
    """A face of a grid: its encoded image, what stands above it, and in which colour."""

    image: bytes
    caption: str
    colour: str


def choose_answers(predictions: pd.DataFrame) -> pd.DataFrame:
    """Choose of each label the right answer of middling confidence, and the most confident mistakes.

    Args:
        predictions: `label_id, probabilities` of the faces to choose from.

    Returns:
        rows of them with `predicted` (a label's id), `confidence` (0..1) and `right`: the right ones in label order,
        then up to 14 mistakes, the surest first.
    """
    probabilities = stack(predictions.probabilities)
    faces = predictions.assign(predicted=probabilities.argmax(1), confidence=probabilities.max(1, initial=0))
    faces = faces.assign(right=faces.predicted == faces.label_id).sort_values("confidence", kind="stable")
    known = faces[faces.right].groupby("label_id", group_keys=False)
    middling = [rows.iloc[[len(rows) // 2]] for _, rows in known]
    return pd.concat([*middling, faces[~faces.right].iloc[::-1][:MISTAKES]])


def draw_answers(
    answers: pd.DataFrame, images: list[bytes], title: str, file: Path, classes: Sequence[str] = LABELS
) -> None:
    """Draw chosen answers as PNG: each face with what it was taken for and how surely, and, if wrong, what it is.

    Args:
        answers: as `choose_answers` returns them.
        images: their encoded images, in the same order.
        title: whose answers they are.
        file: where to.
        classes: their names.
    """
    known, mistaken = [], []
    for face, image in zip(answers.itertuples(), images, strict=True):
        taken = f"{classes[face.predicted]} {face.confidence:.2f}"
        if face.right:
            known.append(Cell(image, taken, RIGHT))
        else:
            mistaken.append(Cell(image, f"{taken}\nis {classes[face.label_id]}", WRONG))
    draw_grid({"right, of middling confidence": known, "wrong, the surest first": mistaken}, title, file)


def draw_grid(parts: Mapping[str, Sequence[Cell]], title: str, file: Path, columns: int = COLUMNS) -> None:
    """Draw faces as PNG, so many in a row, in parts with a heading each; a part without faces says so."""
    rows = [max(1, math.ceil(len(cells) / columns)) for cells in parts.values()]
    figure = Figure(figsize=(columns * CELL, CELL * 1.25 * sum(rows) + 1), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    places: Any = figure.subfigures(len(parts), height_ratios=rows, squeeze=False)
    for place, count, (heading, cells) in zip(places.flat, rows, parts.items(), strict=True):
        place.suptitle(heading if cells else f"{heading}: none", fontsize="medium", color="grey")
        _fill(place, count, columns, cells)
    with written_whole(file) as partial:
        figure.savefig(partial, format="png", dpi=110)


def _fill(place: SubFigure, rows: int, columns: int, cells: Sequence[Cell]) -> None:
    grid = np.ravel(place.subplots(rows, columns))
    for axes in grid:
        axes.axis("off")
    for axes, cell in zip(grid, cells, strict=False):
        axes.imshow(resize(decode(cell.image), SIDE))
        axes.set_title(cell.caption, fontsize="small", color=cell.colour)
