import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.gallery import (
    MISTAKES,
    MOST_MISTAKES,
    choose_answers,
    choose_mistakes,
    draw_answers,
    draw_mistakes,
)


def answers(*rows):
    """Return predictions: of each face the true label's id, the answer's, and its probability."""
    probabilities = []
    for _, predicted, confidence in rows:
        row = np.full(7, (1 - confidence) / 6, np.float32)
        row[predicted] = confidence
        probabilities.append(row.tolist())
    return pd.DataFrame({"label_id": [row[0] for row in rows], "probabilities": probabilities})


def test_of_each_label_the_middling_right_answer_comes_first_then_the_surest_mistakes():
    right = [(3, 3, 0.9), (3, 3, 0.5), (3, 3, 0.7), (0, 0, 0.6)]
    wrong = [(1, 2, 0.8), (4, 5, 0.95)]
    chosen = choose_answers(answers(*right, *wrong))
    assert chosen.index.tolist() == [3, 2, 5, 4]
    assert chosen.right.tolist() == [True, True, False, False]
    assert chosen.predicted.tolist() == [0, 3, 5, 2]
    assert chosen.confidence.tolist() == pytest.approx([0.6, 0.7, 0.95, 0.8])


def test_there_are_no_more_mistakes_than_can_be_looked_at():
    chosen = choose_answers(answers(*[(0, 1, 0.5 + 0.01 * number) for number in range(30)]))
    assert chosen.index.tolist() == list(range(29, 29 - MISTAKES, -1))


def picture_of(predictions, folder):
    chosen = choose_answers(predictions)
    grey = [cv2.imencode(".png", np.full((48, 40), 99, np.uint8))[1].tobytes()] * len(chosen)
    draw_answers(chosen, grey, "answers of v1", folder / "v1.png")
    return cv2.imread(str(folder / "v1.png"))


def test_picture_grows_with_the_rows_that_it_shows(tmp_path):
    one = picture_of(answers((0, 1, 0.5)), tmp_path)
    many = picture_of(answers(*[(0, 1, 0.5)] * MISTAKES), tmp_path)
    assert many.shape[0] > one.shape[0] + 100
    # Of the cells with a face of this grey there are as many as faces.
    assert (many == 99).all(2).sum() == pytest.approx(MISTAKES * (one == 99).all(2).sum(), rel=0.1)


def test_the_hundred_surest_mistakes_stand_alone(tmp_path):
    wrong = [(0, 1, 0.5 + 0.003 * number) for number in range(120)]
    chosen = choose_mistakes(answers(*wrong, (2, 2, 0.99)))
    assert chosen.index.tolist() == list(range(119, 119 - MOST_MISTAKES, -1))
    grey = cv2.imencode(".png", np.full((48, 40), 99, np.uint8))[1].tobytes()
    pictures = []
    for count in (10, 30):
        draw_mistakes(chosen[:count], [grey] * count, "mistakes of v1", tmp_path / "v1.png")
        pictures.append(cv2.imread(str(tmp_path / "v1.png")))
    few, many = ((image == 99).all(2).sum() for image in pictures)
    assert many == pytest.approx(3 * few, rel=0.1)


@pytest.mark.parametrize("rows", [[], [(0, 0, 0.9)], [(0, 1, 0.9)]], ids=["none", "all right", "all wrong"])
def test_there_is_a_picture_whatever_was_answered(tmp_path, rows):
    assert min(picture_of(answers(*rows), tmp_path).shape[:2]) > 300
