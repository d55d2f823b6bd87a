import os

import numpy as np
import pandas as pd
import pytest
import torch
from tables import write_tables
from torch.utils.data import DataLoader

from pipeline.datasets.images import read_images
from pipeline.datasets.tables import read_split
from pipeline.training.augment import build_augmentation
from pipeline.training.loading import Faces
from pipeline.vision.transforms import decode, resize

DATASETS = ("rafdb", "fer2013")


@pytest.fixture
def folder(tmp_path):
    return write_tables(tmp_path, DATASETS)[0]


def table(folder):
    """Return the test faces of two datasets."""
    splits = folder.parent / "splits.parquet"
    return pd.concat([read_split(folder, splits, name, "test") for name in DATASETS], ignore_index=True)


@pytest.fixture(params=[500_000_000, 0], ids=["kept", "stored"])
def most_bytes(request, monkeypatch):
    """Let faces be kept in memory, or each be read when it is asked for."""
    monkeypatch.setattr("pipeline.training.loading.MOST_BYTES", request.param)
    return request.param


def test_faces_are_prepared_as_the_service_prepares_them(folder, most_bytes):
    rows = table(folder).iloc[::-3]
    faces = Faces(folder, rows, 32)
    assert faces.in_memory == (most_bytes > 0)
    for (face, label_id), image, expected in zip(faces, read_images(folder, rows), rows.label_id, strict=True):
        np.testing.assert_array_equal(face.numpy(), resize(decode(image), 32))
        assert label_id == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_kept_and_stored_faces_are_changed_alike(folder, monkeypatch, workers):
    def epoch():
        steps = [{"Rotate": {"limit": 15}}, {"RandomResizedCrop": {"p": 1.0}}, {"ColorJitter": {}}]
        faces = Faces(folder, table(folder), 32, build_augmentation(steps, image_size=32, seed=3))
        return torch.cat([batch for batch, _ in DataLoader(faces, 5, num_workers=workers)])

    kept = epoch()
    monkeypatch.setattr("pipeline.training.loading.MOST_BYTES", 0)
    assert torch.equal(epoch(), kept)
    assert len({face.numpy().tobytes() for face in kept}) == len(kept) == 28


def test_processes_prepare_faces_only_where_it_saves_time(folder, monkeypatch):
    monkeypatch.setattr("pipeline.training.loading.FEW", 5)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    rows = table(folder)
    assert Faces(folder, rows, 32).count_workers("auto") == 0
    assert Faces(folder, rows, 32, augment=dict).count_workers("auto") == 1
    assert Faces(folder, rows, 32).count_workers(3) == 3
    monkeypatch.setattr("pipeline.training.loading.MOST_BYTES", 0)
    assert Faces(folder, rows, 32).count_workers("auto") == os.cpu_count()
    assert Faces(folder, rows[:4], 32).count_workers("auto") == 0
