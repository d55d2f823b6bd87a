"""Faces to look at, as a picture: those that a version knew, and those that it was most sure of and wrong."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.evaluation.predictions import stack
from pipeline.files import written_whole
from pipeline.labels import LABELS
from pipeline.vision.transforms import decode, resize

MISTAKES = 14  # beside what it knew
MOST_MISTAKES, MISTAKE_COLUMNS = 100, 10  # alone
COLUMNS = len(LABELS)
SUREST = "wrong, the surest first"
SIDE = 112  # of a face, in pixels
CELL = 1.35  # of the grid, in inches: its width
HIGH, GAP = 1.3, 0.03  # its height and the gap around a face, as shares of that
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
    faces = _answered(predictions)
    known = faces[faces.right].groupby("label_id", group_keys=False)
    middling = [rows.iloc[[len(rows) // 2]] for _, rows in known]
    return pd.concat([*middling, faces[~faces.right].iloc[::-1][:MISTAKES]])


def choose_mistakes(predictions: pd.DataFrame) -> pd.DataFrame:
    """Choose the hundred most confident mistakes, the surest first; see `choose_answers`."""
    faces = _answered(predictions)
    return faces[~faces.right].iloc[::-1][:MOST_MISTAKES]


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
    cells = _cells(answers, images, classes)
    parts = {"right, of middling confidence": [cell for cell in cells if cell.colour == RIGHT]}
    draw_grid(parts | {SUREST: [cell for cell in cells if cell.colour == WRONG]}, title, file)


def draw_mistakes(
    mistakes: pd.DataFrame, images: list[bytes], title: str, file: Path, classes: Sequence[str] = LABELS
) -> None:
    """Draw what `choose_mistakes` returns as PNG, ten a row; see `draw_answers`."""
    draw_grid({SUREST: _cells(mistakes, images, classes)}, title, file, MISTAKE_COLUMNS)


def draw_grid(parts: Mapping[str, Sequence[Cell]], title: str, file: Path, columns: int = COLUMNS) -> None:
    """Draw faces as PNG, so many in a row, in parts with a heading each; a part without faces says so."""
    rows = [max(1, math.ceil(len(cells) / columns)) for cells in parts.values()]
    figure = Figure(figsize=(columns * CELL, CELL * HIGH * sum(rows) + 1), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    places: Any = figure.subplots(len(parts), height_ratios=rows, squeeze=False)
    for axes, count, (heading, cells) in zip(places.flat, rows, parts.items(), strict=True):
        axes.set_title(heading if cells else f"{heading}: none", fontsize="medium", color="grey")
        _fill(axes, count, columns, cells)
    with written_whole(file) as partial:
        figure.savefig(partial, format="png", dpi=110)


def _answered(predictions: pd.DataFrame) -> pd.DataFrame:
    """Add what was predicted, how surely, and whether that is right, the least sure first."""
    probabilities = stack(predictions.probabilities)
    faces = predictions.assign(predicted=probabilities.argmax(1), confidence=probabilities.max(1, initial=0))
    return faces.assign(right=faces.predicted == faces.label_id).sort_values("confidence", kind="stable")


def _cells(answers: pd.DataFrame, images: list[bytes], classes: Sequence[str]) -> list[Cell]:
    cells = []
    for face, image in zip(answers.itertuples(), images, strict=True):
        taken = f"{classes[face.predicted]} {face.confidence:.2f}"
        wrong = f"{taken}\nis {classes[face.label_id]}"
        cells.append(Cell(image, taken, RIGHT) if face.right else Cell(image, wrong, WRONG))
    return cells


def _fill(axes: Axes, rows: int, columns: int, cells: Sequence[Cell]) -> None:
    """Put faces into a grid. They share one pair of axes: a pair a face takes seconds."""
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        top = HIGH * (rows - row) - (HIGH - 1)  # of the face, below its words
        extent = (column + GAP, column + 1 - GAP, top - 1 + GAP, top - GAP)
        axes.imshow(resize(decode(cell.image), SIDE), extent=extent)
        axes.text(column + 0.5, top, cell.caption, ha="center", va="bottom", fontsize="small", color=cell.colour)
    axes.set(xlim=(0, columns), ylim=(0, HIGH * rows), aspect="equal")
    axes.axis("off")
