"""Diagrams of what a version's answers are worth: how sure they are, in which order, and what damage does to them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from pipeline.evaluation.metrics import Ids, Probabilities, confusion
from pipeline.evaluation.pictures import blank, draw_confusion, save
from pipeline.labels import LABELS

RIGHT, SURE = "#4c78a8", "#e45756"


def draw_diagrams(
    label_ids: Ids,
    probabilities: Probabilities,
    metrics: Mapping[str, Any],
    title: str,
    folder: Path,
    classes: Sequence[str] = LABELS,
) -> None:
    """Draw all that can be drawn of a version's answers and metrics.

    Args:
        label_ids: (n,) true classes.
        probabilities: (n, classes).
        metrics: with `calibration`, and with `robustness` where that was measured.
        title: which version, on what.
        folder: for `confusion`, `reliability`, `roc`, `precision_recall` and `robustness`, as PNG.
        classes: their names.
    """
    counts = confusion(label_ids, probabilities.argmax(1), len(classes))
    draw_confusion(counts, title, folder / "confusion.png", classes)
    draw_reliability(metrics["calibration"], f"calibration of {title}", folder / "reliability.png")
    draw_roc(label_ids, probabilities, f"ROC of {title}", folder / "roc.png", classes)
    recall = f"precision and recall of {title}"
    draw_precision_recall(label_ids, probabilities, recall, folder / "precision_recall.png", classes)
    if metrics.get("robustness"):
        draw_robustness(metrics["robustness"], f"robustness of {title}", folder / "robustness.png")


def draw_reliability(calibration: Mapping[str, Any], title: str, file: Path) -> None:
    """Draw a reliability diagram as PNG, before and after the temperature: accuracy by confidence, and the counts.

    Args:
        calibration: as `pipeline.evaluation.reliability.measure_calibration` returns it.
        title: whose it is.
        file: where to.
    """
    figure = blank(9, 5.4)
    axes: Any = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    sides = {
        f"before, ECE {calibration['ece_uncalibrated']:.3f}": calibration["bins_uncalibrated"],
        f"temperature {calibration['temperature']:.2f}, ECE {calibration['ece']:.3f}": calibration["bins"],
    }
    for (upper, lower), (name, bins) in zip(axes.T, sides.items(), strict=True):
        filled = [part for part in bins if part["n"]]
        left, width = [part["from"] for part in filled], [part["to"] - part["from"] for part in filled]
        upper.bar(left, [part["accuracy"] for part in filled], width, align="edge", color=RIGHT, edgecolor="white")
        upper.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
        points = [part["confidence"] for part in filled], [part["accuracy"] for part in filled]
        upper.plot(*points, color=SURE, marker="o", markersize=4, linestyle="", label="at the bin's mean confidence")
        upper.set(title=name, xlim=(0, 1), ylim=(0, 1))
        lower.bar(left, [part["n"] for part in filled], width, align="edge", color="lightgrey", edgecolor="white")
        lower.set(xlabel="confidence")
    axes[0, 0].set(ylabel="accuracy")
    axes[0, 0].legend(frameon=False, fontsize="small", loc="upper left")
    axes[1, 0].set(ylabel="faces")
    figure.suptitle(title)
    save(figure, file)


def draw_roc(
    label_ids: Ids, probabilities: Probabilities, title: str, file: Path, classes: Sequence[str] = LABELS
) -> None:
    """Draw the ROC curve of each class against the rest as PNG, with its AUC.

    Args:
        label_ids: (n,) true classes.
        probabilities: (n, classes).
        title: whose they are.
        file: where to.
        classes: their names; one without faces, or without others, has no curve.
    """
    names = {"title": title, "xlabel": "false positive rate", "ylabel": "true positive rate"}
    _draw_by_class(RocCurveDisplay.from_predictions, label_ids, probabilities, classes, file, names)


def draw_precision_recall(
    label_ids: Ids, probabilities: Probabilities, title: str, file: Path, classes: Sequence[str] = LABELS
) -> None:
    """Draw the precision-recall curve of each class against the rest as PNG, with average precision; see `draw_roc`."""
    names = {"title": title, "xlabel": "recall", "ylabel": "precision"}
    _draw_by_class(PrecisionRecallDisplay.from_predictions, label_ids, probabilities, classes, file, names)


def draw_robustness(robustness: Mapping[str, Any], title: str, file: Path) -> None:
    """Draw the scores of damaged faces by grade as PNG, and that of the same faces as they are.

    Args:
        robustness: as `pipeline.evaluation.robustness.measure_robustness` returns it.
        title: whose it is.
        file: where to.
    """
    figure = blank(10, 4)
    panels: Any = figure.subplots(1, 2, sharey=True)
    for axes, (key, name) in zip(panels, {"macro_f1": "macro-F1", "accuracy": "accuracy"}.items(), strict=True):
        clean = robustness["clean"][key]
        axes.axhline(clean, color="black", linestyle="--", linewidth=1, label="clean")
        for corruption, grades in robustness["corruptions"].items():
            values = [clean, *(scores[key] for scores in grades.values())]
            axes.plot(["0", *grades], values, marker="o", markersize=4, label=corruption)
        axes.set(title=f"{name}, clean {clean:.3f}", xlabel="grade of damage", ylim=(0, 1))
        axes.grid(alpha=0.25)
    panels[1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"{title}, {robustness['n']} faces")
    save(figure, file)


def _draw_by_class(
    draw: Callable[..., Any],
    label_ids: Ids,
    probabilities: Probabilities,
    classes: Sequence[str],
    file: Path,
    names: Mapping[str, str],
) -> None:
    figure = blank(6, 5.4)
    axes: Axes = figure.add_subplot()
    for index, name in enumerate(classes):
        own = label_ids == index
        if own.any() and not own.all():
            draw(own, probabilities[:, index], name=name, ax=axes)
    axes.set(**names, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(alpha=0.25)
    if axes.get_legend():
        axes.legend(frameon=False, fontsize="small")
    save(figure, file)
