"""Pictures of results, for people: drawn with matplotlib, without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay

from pipeline.evaluation.curves import LOSSES, SCORE, best_row, rates
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
    figure = blank(6.4, 5.6)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    display = ConfusionMatrixDisplay(shares, display_labels=classes)
    display.plot(ax=axes, cmap="Blues", colorbar=False, include_values=False, xticks_rotation=45)
    display.im_.set_clim(0, 1)
    for (row, column), count in np.ndenumerate(counts):
        shade = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=shade)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    save(figure, file)


def draw_curves(curves: pd.DataFrame, title: str, file: Path) -> None:
    """Draw the curves of a training as PNG: losses, validation scores, learning rates; the best epoch is marked.

    Args:
        curves: as `read_curves` returns them.
        title: whose they are.
        file: where to.
    """
    figure = blank(12, 3.4)
    losses, scores, speeds = figure.subplots(1, 3)
    best = curves.iloc[best_row(curves)]
    panels: dict[Axes, Mapping[str, pd.Series]] = {
        losses: {name: curves[name] for name in LOSSES},
        scores: {name: curves[name] for name in (SCORE, "validation/accuracy")},
        speeds: rates(curves),
    }
    for axes, lines in panels.items():
        for label, values in lines.items():
            axes.plot(curves.epoch, values, label=label, marker="." if len(curves) == 1 else "")  # a point is no line
        axes.axvline(best.epoch, color="grey", linestyle=":", linewidth=1)
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize="small")
    losses.set(title="loss", ylim=(0, None))
    scores.set(title=f"best macro-F1 {best[SCORE]:.3f}, epoch {best.epoch:.0f}", ylim=(0, 1))
    speeds.set(title="learning rate", ylim=(0, None))
    figure.suptitle(title)
    save(figure, file)


def blank(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a figure as PNG."""
    with written_whole(file) as partial:
        figure.savefig(partial, format="png", dpi=120)
