import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score
from tables import write_tables

from pipeline.errors import PipelineError
from pipeline.evaluation.slices import check_columns, describe, score_slices
from pipeline.params import EvaluateParams

RANDOM = np.random.default_rng(0)


def answered(count=90, **columns):
    """Return faces, half of which were answered rightly, with columns to tell them apart by."""
    label_ids = RANDOM.integers(0, 7, count)
    given = np.where(RANDOM.random(count) < 0.5, label_ids, RANDOM.integers(0, 7, count))
    return pd.DataFrame({"label_id": label_ids, "probabilities": list(np.eye(7)[given]), **columns})


def sliced(faces, *names):
    return score_slices(faces, EvaluateParams(bootstrap=100, slice_by=names))


def test_thirds_are_scored_like_faces_that_stand_alone():
    faces = answered(brightness=RANDOM.permutation(90).astype(float))
    parts = sliced(faces, "brightness")["brightness"]
    assert {name: (part["from"], part["to"], part["n"]) for name, part in parts.items()} == {
        "low": (0, 29, 30),
        "middle": (30, 59, 30),
        "high": (60, 89, 30),
    }
    dark = faces[faces.brightness < 30]
    predicted = np.stack(dark.probabilities).argmax(1)
    assert parts["low"]["accuracy"] == pytest.approx(accuracy_score(dark.label_id, predicted))
    macro_f1 = f1_score(dark.label_id, predicted, average="macro", zero_division=0)
    assert parts["low"]["macro_f1"] == pytest.approx(macro_f1)
    low, high = parts["low"]["ci95"]["macro_f1"]
    assert low < macro_f1 < high


def test_equal_faces_stay_together():
    sizes = [48] * 40 + [100] * 50
    parts = sliced(answered(size=sizes), "size")["size"]
    assert {name: part["n"] for name, part in parts.items()} == {"low": 40, "high": 50}
    sizes = [48] * 28 + [100] * 28 + [224] * 27 + list(range(230, 237))
    parts = sliced(answered(size=sizes), "size")["size"]
    assert {name: (part["from"], part["to"]) for name, part in parts.items()} == {
        "low": (48, 48),
        "middle": (100, 100),
        "high": (224, 236),
    }


def test_what_does_not_tell_faces_apart_is_left_out():
    assert sliced(answered(size=48, dataset="rafdb"), "size", "dataset") == {}
    assert sliced(answered(0, size=[], dataset=[]), "size", "dataset") == {}


def test_any_column_of_words_gives_a_part_a_value_but_for_faces_where_it_is_unknown():
    faces = answered(age=["young", "old", None] * 30)
    assert {name: part["n"] for name, part in sliced(faces, "age")["age"].items()} == {"old": 30, "young": 30}


def test_faces_are_described_in_their_order(tmp_path):
    folder, _ = write_tables(tmp_path, ("fer2013", "rafdb"))
    file = folder / "rafdb.parquet"
    pd.read_parquet(file).assign(width=90, height=70).to_parquet(file)
    rows = [("rafdb", "happy"), ("fer2013", "surprise"), ("fer2013", "angry")]
    faces = pd.DataFrame([(name, f"{name}-test-{label}-0") for name, label in rows], columns=["dataset", "face_id"])
    faces = faces.set_index(pd.Index([7, 3, 5]))
    described = describe(folder, faces, ("brightness", "size", "dataset", "native_label"))
    assert described["size"].tolist() == [70, 48, 48]
    assert described.native_label.tolist() == ["happy", "surprise", "angry"]
    first = pd.read_parquet(file).set_index("face_id").image["rafdb-test-happy-0"]
    grey = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert described.brightness.tolist() == pytest.approx([grey.mean(), 230, 20], abs=4)


def test_a_column_that_faces_do_not_have_is_refused_by_name():
    check_columns(("brightness", "person", "face_score"))
    with pytest.raises(PipelineError, match=r"slice_by: faces have no 'brightnes' \(did you mean brightness\?\)"):
        check_columns(("brightnes",))
