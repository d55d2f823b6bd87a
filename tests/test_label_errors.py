from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from pipeline.evaluation.label_errors import find_label_errors, suspect


@cache
def digits(share):
    """Return the true and the given classes of seven digits, a share of them wrong, and out-of-sample probabilities."""
    pixels, truth = load_digits(n_class=7, return_X_y=True)
    random = np.random.default_rng(0)
    wrong = random.random(len(truth)) < share
    given = np.where(wrong, (truth + random.integers(1, 7, len(truth))) % 7, truth)
    learner = LogisticRegression(max_iter=500)
    return truth, given, cross_val_predict(learner, pixels / 16, given, cv=3, method="predict_proba")


@pytest.mark.parametrize(("share", "precision", "recall"), [(0.02, 0.85, 0.8), (0.05, 0.8, 0.7), (0.2, 0.9, 0.9)])
def test_planted_errors_are_found_and_their_true_labels_suggested(share, precision, recall):
    truth, given, probabilities = digits(share)
    found = find_label_errors(given, probabilities)
    wrong = truth != given
    assert wrong[found.face].mean() >= precision
    assert wrong[found.face].sum() / wrong.sum() >= recall
    planted = found[wrong[found.face]]
    assert (planted.suggested == truth[planted.face]).mean() >= 0.95


def test_the_likeliest_errors_come_first():
    truth, given, probabilities = digits(0.05)
    found = find_label_errors(given, probabilities)
    assert found.quality.is_monotonic_increasing
    assert found.quality.between(0, 0.5).all()  # above, the label given is the likeliest
    assert (truth != given)[found.face[:20]].all()


def test_a_class_of_which_a_version_is_never_sure_is_no_heap_of_errors():
    random = np.random.default_rng(0)
    given = np.repeat([0, 1], 500)
    own = np.where(given == 0, random.uniform(0.8, 1, 1000), random.uniform(0.3, 0.6, 1000))
    probabilities = np.where(np.arange(2) == given[:, None], own[:, None], 1 - own[:, None])
    most_likely_otherwise = (probabilities.argmax(1) != given).sum()
    assert len(find_label_errors(given, probabilities)) < most_likely_otherwise / 10


@pytest.mark.parametrize("given", [[], [3], [3, 3, 3], [3, 4], [0, 1, 2, 3, 4, 5, 6]])
def test_few_faces_or_a_single_class_are_no_reason_to_fail(given, recwarn):
    probabilities = np.full((len(given), 7), 1 / 7, np.float32)
    found = find_label_errors(np.array(given, int), probabilities)
    assert (found.columns.tolist(), len(found)) == (["face", "suggested", "quality"], 0)
    assert not recwarn.list


def predictions():
    truth, given, probabilities = digits(0.05)
    return truth, pd.DataFrame({"label_id": given, "probabilities": list(probabilities.astype(np.float32))})


def test_faces_that_a_version_learned_are_not_looked_at():
    truth, faces = predictions()
    split = np.resize(["train", "validation", "test"], len(faces))
    found = suspect(faces.assign(dataset="fer2013", split=split))
    assert set(found.split) == {"validation", "test"}
    assert (truth[found.index] != found.label_id).mean() > 0.8


def test_each_dataset_is_compared_with_itself():
    _, faces = predictions()
    alone = suspect(faces.assign(dataset="fer2013", split="test"))
    # In another dataset nearly every label is wrong, by another numbering perhaps: that says nothing about this one.
    numbered = faces.assign(dataset="rafdb", split="test", label_id=(faces.label_id + 1) % 7)
    both = suspect(pd.concat([faces.assign(dataset="fer2013", split="test"), numbered], ignore_index=True))
    mine = both[both.dataset == "fer2013"]
    assert mine.index.tolist() == alone.index.tolist()
    assert both.quality.is_monotonic_increasing
