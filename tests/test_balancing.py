import numpy as np
import pytest
import torch
from tables import write_tables
from torch.utils.data import DataLoader

from pipeline.errors import PipelineError
from pipeline.recipes import Balance, Recipe
from pipeline.training.balancing import Copies, balance
from pipeline.training.data import FaceData

TURN = {"Rotate": {"limit": [20, 40], "p": 1.0}}


def recipe(**changes):
    settings = {"data": ["fer2013"], "backbone": "convnext_atto", "image_size": 32, "batch_size": 8, **changes}
    return Recipe.model_validate(settings)


def test_every_class_has_the_same_number_of_faces():
    class_ids = np.array([0] * 10 + [1] * 3 + [2] * 6)
    kept, copied = balance(class_ids, 6, seed=0)
    assert np.bincount(class_ids[kept]).tolist() == [6, 3, 6]
    assert sorted(class_ids[kept][copied]) == [1, 1, 1]
    assert len(set(copied)) == 3  # each face of the rare class once
    assert len(set(kept)) == len(kept)


def test_a_face_is_copied_as_often_as_any_other_or_once_more():
    _, copied = balance(np.array([0, 0, 0, 1]), 10, seed=0)
    assert sorted(np.bincount(copied)) == [2, 2, 3, 9]


def test_a_class_that_does_not_occur_is_not_made_up():
    kept, copied = balance(np.array([0, 0, 2]), 2, seed=0)
    assert len(kept) == 3
    assert copied.tolist() == [2]


@pytest.mark.parametrize("most_bytes", [500_000_000, 0], ids=["kept", "stored"])
def test_copies_are_changed_once_and_for_all(tmp_path, monkeypatch, most_bytes):
    monkeypatch.setattr("pipeline.training.loading.MOST_BYTES", most_bytes)
    data = FaceData(recipe(balance={"faces_per_class": 6, "augment": [TURN]}), *write_tables(tmp_path), seed=0)
    faces = data.train_faces
    assert faces.class_counts() == [6] * 7
    first, again = (torch.stack([faces[row][0] for row in rows]) for rows in (range(42), reversed(range(42))))
    assert torch.equal(first, again.flip(0))
    originals, copies = first[:28], first[28:]
    assert len({copy.numpy().tobytes() for copy in copies} - {face.numpy().tobytes() for face in originals}) == 14
    by_processes = torch.cat([batch for batch, _ in DataLoader(faces, 5, num_workers=2)])
    assert torch.equal(by_processes, first)


def test_each_change_of_a_copy_is_drawn_for_itself():
    flips = ({"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}})
    copies = Copies(np.arange(400), Balance(faces_per_class=1, augment=flips), 2, seed=0)
    face = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    first = [copies(face, number)[0, 0, 0] for number in range(400)]  # which of the four corners that was
    assert np.bincount(first)[[0, 3, 6, 9]] / 400 == pytest.approx([0.25] * 4, abs=0.08)


def test_a_seed_chooses_copies_and_changes(tmp_path):
    tables, said = write_tables(tmp_path), recipe(balance={"faces_per_class": 6, "augment": [TURN]})
    one, same, other = (FaceData(said, *tables, seed=seed).train_faces for seed in (0, 0, 1))
    assert torch.equal(one[40][0], same[40][0])
    assert not torch.equal(one[40][0], other[40][0])


def test_changes_that_give_faces_of_another_size_are_refused():
    crop = {"RandomCrop": {"height": 30, "width": 30, "p": 1.0}}
    balance = Balance.model_validate({"faces_per_class": 6, "augment": [crop]})
    with pytest.raises(PipelineError, match="balance.augment gives faces of 30x30 pixels, not 48"):
        Copies(np.array([0]), balance, 48, seed=0)
