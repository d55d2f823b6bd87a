import numpy as np
import pandas as pd
import pytest
import torch
from tables import write_tables

from pipeline.datasets.tables import read_split
from pipeline.errors import PipelineError
from pipeline.recipes import Recipe
from pipeline.training.data import FaceData
from pipeline.training.loading import Faces


def recipe(**changes):
    settings = {"data": ["fer2013"], "backbone": "convnext_atto", "image_size": 32, "batch_size": 8, **changes}
    return Recipe.model_validate(settings)


def test_training_and_validation_faces_are_apart(tmp_path):
    data = FaceData(recipe(), *write_tables(tmp_path), seed=0)
    assert (len(data.train_faces), len(data.validation_faces)) == (28, 14)
    assert data.train_faces.class_counts() == [4] * 7


def test_seed_and_epoch_decide_about_the_order(tmp_path):
    faces, splits = write_tables(tmp_path)

    def order(seed, epoch):
        loader = FaceData(recipe(), faces, splits, seed=seed).train_dataloader()
        loader.batch_sampler.sampler.set_epoch(epoch)
        return [int(label) for _, labels in loader for label in labels]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(5, 0)


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_faces_that_are_read_one_by_one_make_the_same_batches(tmp_path, monkeypatch, sampler):
    tables = write_tables(tmp_path)
    changed = recipe(sampler=sampler, augment=[{"Rotate": {"limit": 15}}, {"ColorJitter": {}}])

    def epoch():
        loader = FaceData(changed, *tables, seed=3).train_dataloader()
        loader.batch_sampler.sampler.set_epoch(2)
        return list(loader)

    kept = epoch()
    monkeypatch.setattr("pipeline.training.loading.MOST_BYTES", 0)
    for (faces, labels), (kept_faces, kept_labels) in zip(epoch(), kept, strict=True):
        assert torch.equal(faces, kept_faces)
        assert torch.equal(labels, kept_labels)


def test_processes_that_load_draw_changes_of_their_own_and_the_same_ones_again(tmp_path):
    changed = recipe(batch_size=4, augment=[{"Rotate": {"limit": 90, "p": 1.0}}])
    data = FaceData(changed, *write_tables(tmp_path), seed=3, workers=2)
    data.train_faces._images[:] = data.train_faces._images[0]  # one face, again and again
    first, second, *rest = [faces for faces, _ in data.train_dataloader()]
    assert not torch.equal(first, second)  # the first batches of the two processes
    for faces, again in zip([first, second, *rest], data.train_dataloader(), strict=True):
        assert torch.equal(faces, again[0])


def test_the_balanced_sampler_makes_every_label_as_frequent(tmp_path):
    data = FaceData(recipe(sampler="balanced"), *write_tables(tmp_path), seed=0)
    faces, splits = tmp_path / "data" / "faces", tmp_path / "data" / "splits.parquet"
    table = read_split(faces, splits, "fer2013", "train")
    data.train_faces = Faces(faces, table.drop(table.index[table.label_id == 0][1:]), 32)  # one face of four is left
    loader = data.train_dataloader()
    drawn = []
    for epoch in range(60):
        loader.batch_sampler.sampler.set_epoch(epoch)
        drawn += [int(label) for _, labels in loader for label in labels]
    shares = np.bincount(drawn, minlength=7) / len(drawn)
    np.testing.assert_allclose(shares, 1 / 7, atol=0.03)


def test_a_last_batch_of_one_face_is_left_out(tmp_path):
    loader = FaceData(recipe(batch_size=9), *write_tables(tmp_path), seed=0).train_dataloader()
    assert [len(labels) for _, labels in loader] == [9, 9, 9]


def test_a_dataset_without_training_faces_is_named(tmp_path):
    faces, splits = write_tables(tmp_path)
    pd.read_parquet(splits).query("split != 'train'").to_parquet(splits)
    with pytest.raises(PipelineError, match="no train faces in fer2013"):
        FaceData(recipe(), faces, splits, seed=0)
