"""Pictures of results, for people: drawn with matplotlib, without a display."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay

from pipeline.files import written_whole
from pipeline.labels import LABELS


def draw_confusion(counts: NDArray[np.int64], title: str, file: Path, classes: Sequence[str] = LABELS) -> None:
    """Draw a confusion matrix as PNG: shares of each true label, with the counts in the cells.

    Args:
        counts: (classes, classes), rows are true labels.
        title: what it is of.
        file: where to.
        classes: their names.
    """
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    display = ConfusionMatrixDisplay(shares, display_labels=classes)
    display.plot(ax=axes, cmap="Blues", colorbar=False, include_values=False, xticks_rotation=45)
    display.im_.set_clim(0, 1)
    for (row, column), count in np.ndenumerate(counts):
        shade = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=shade)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    with written_whole(file) as partial:
        figure.savefig(partial, format="png", dpi=120)
