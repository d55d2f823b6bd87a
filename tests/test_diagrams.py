import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.evaluation import diagrams
from pipeline.evaluation.diagrams import (
    draw_diagrams,
    draw_precision_recall,
    draw_reliability,
    draw_robustness,
    draw_roc,
)
from pipeline.evaluation.reliability import measure_calibration
from pipeline.evaluation.robustness import CORRUPTIONS
from pipeline.labels import LABELS

RANDOM = np.random.default_rng(0)
LABEL_IDS = np.arange(140) % 7
PROBABILITIES = softmax(RANDOM.normal(size=(140, 7)) + 2 * np.eye(7)[LABEL_IDS], axis=1)
CALIBRATION = measure_calibration(LABEL_IDS, PROBABILITIES, 1.5, 10)
PART = {"accuracy": 0.8, "macro_f1": 0.75}
ROBUSTNESS = {
    "n": 140,
    "clean": PART,
    "mean": PART,
    "corruptions": {name: {str(grade): {"accuracy": 0.5, "macro_f1": 0.7 / grade} for grade in (1, 2, 3)}
                    for name in CORRUPTIONS},
}  # fmt: skip


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn into the figures that were saved, one a call."""
    figures: list[Figure] = []
    save = diagrams.save
    monkeypatch.setattr(diagrams, "save", lambda figure, file: (figures.append(figure), save(figure, file)))
    return figures


@pytest.mark.parametrize(
    ("draw", "score", "word"),
    [(draw_roc, roc_auc_score, "AUC"), (draw_precision_recall, average_precision_score, "AP")],
)
def test_legend_says_what_scikit_learn_says_of_each_class(drawn, tmp_path, draw, score, word):
    draw(LABEL_IDS, PROBABILITIES, "v1", tmp_path / "v1.png")
    (axes,) = drawn[0].axes
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    scores = [score(index == LABEL_IDS, PROBABILITIES[:, index]) for index in range(7)]
    assert said == [f"{label} ({word} = {value:.2f})" for label, value in zip(LABELS, scores, strict=True)]


@pytest.mark.parametrize("draw", [draw_roc, draw_precision_recall])
def test_a_class_without_faces_has_no_curve(drawn, tmp_path, draw):
    some = LABEL_IDS < 3
    draw(LABEL_IDS[some], PROBABILITIES[some], "v1", tmp_path / "v1.png")
    assert len(drawn[0].axes[0].lines) == 3
    draw(LABEL_IDS[:1], PROBABILITIES[:1], "v1", tmp_path / "v1.png")
    assert len(drawn[1].axes[0].lines) == 0


def test_reliability_shows_accuracy_and_counts_of_each_bin_before_and_after(drawn, tmp_path):
    draw_reliability(CALIBRATION, "v1", tmp_path / "v1.png")
    before, after, counts_before, counts_after = drawn[0].axes
    for axes, counts, key in ((before, counts_before, "bins_uncalibrated"), (after, counts_after, "bins")):
        filled = [part for part in CALIBRATION[key] if part["n"]]
        assert [bar.get_height() for bar in axes.patches] == [part["accuracy"] for part in filled]
        assert [bar.get_height() for bar in counts.patches] == [part["n"] for part in filled]
    assert f"{CALIBRATION['ece_uncalibrated']:.3f}" in before.get_title()
    assert "1.50" in after.get_title()


def test_robustness_has_a_line_a_corruption_that_begins_at_the_clean_score(drawn, tmp_path):
    draw_robustness(ROBUSTNESS, "v1", tmp_path / "v1.png")
    axes = drawn[0].axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert set(lines) == {"clean", *CORRUPTIONS}
    assert lines["clean"] == [0.75, 0.75]
    assert lines["blur"] == [0.75, *(0.7 / grade for grade in (1, 2, 3))]


def test_what_was_not_measured_is_not_drawn(tmp_path):
    draw_diagrams(LABEL_IDS, PROBABILITIES, {"calibration": CALIBRATION, "robustness": None}, "v1", tmp_path)
    assert {file.stem for file in tmp_path.iterdir()} == {"confusion", "reliability", "roc", "precision_recall"}
    for file in tmp_path.iterdir():
        assert min(cv2.imread(str(file)).shape[:2]) > 300
