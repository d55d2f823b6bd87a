"""Answers of a version to look at: faces that it knew, and those that it was most sure of and wrong."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from pipeline.files import written_whole
from pipeline.labels import LABELS
from pipeline.predictions import stack
from pipeline.transforms import Image, decode, resize

MISTAKES = 14
COLUMNS = len(LABELS)
SIDE = 112  # of a face, in pixels
CELL = 1.35  # of the grid, in inches


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
    shown = answers.assign(image=[resize(decode(image), SIDE) for image in images])
    parts = {"right, of middling confidence": shown[shown.right], "wrong, the surest first": shown[~shown.right]}
    rows = [max(1, math.ceil(len(part) / COLUMNS)) for part in parts.values()]
    height = CELL * 1.25 * sum(rows) + 1
    figure = Figure(figsize=(COLUMNS * CELL, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    places: Any = figure.subfigures(2, height_ratios=rows)
    for place, count, (heading, part) in zip(places, rows, parts.items(), strict=True):
        place.suptitle(heading if len(part) else f"{heading}: none", fontsize="medium", color="grey")
        _fill(place, count, part, classes)
    with written_whole(file) as partial:
        figure.savefig(partial, format="png", dpi=110)


def _fill(place: SubFigure, rows: int, answers: pd.DataFrame, classes: Sequence[str]) -> None:
    grid = np.ravel(place.subplots(rows, COLUMNS))
    for axes in grid:
        axes.axis("off")
    for axes, face in zip(grid, answers.itertuples(), strict=False):
        image: Image = face.image
        axes.imshow(image)
        taken, truth = classes[face.predicted], "" if face.right else f"\nis {classes[face.label_id]}"
        colour = "#1a7f4b" if face.right else "#b3261e"
        axes.set_title(f"{taken} {face.confidence:.2f}{truth}", fontsize="small", color=colour)
