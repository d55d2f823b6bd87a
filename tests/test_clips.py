"""The stage that draws clips, and what training sees of them."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from clip_tables import write_clips

from pipeline.datasets.tables import read_clips, read_origin
from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.params import ClipsParams
from pipeline.recipes import Recipe
from pipeline.stages.clips import clips
from pipeline.training.clips import ClipData, Clips
from pipeline.vision.transforms import decode


def recipe(frames=4, **changes):
    settings = {"data": ["clips"], "backbone": "resnet18", "image_size": 32, "batch_size": 4, "promote": False}
    return Recipe.model_validate({**settings, **changes, "recurrent": {"frames": frames}})


def test_the_stage_writes_a_row_a_clip_and_that_they_are_drawn(tmp_path):
    assert clips(tmp_path / "clips.parquet", ClipsParams(people=3, frames=2)) == 21
    table = read_clips(tmp_path)
    assert list(table.columns) == ["clip_id", "person", "label", "label_id", "split", "frames"]
    assert table.clip_id.is_unique
    assert (table.label == table.label_id.map(dict(enumerate(LABELS)))).all()
    assert (table.groupby("person").split.nunique() == 1).all()
    assert decode(table.frames[0][1]).shape == (64, 64, 3)
    assert read_origin(tmp_path, "clips").drawn


def test_batches_are_of_whole_clips(tmp_path):
    data = ClipData(recipe(), write_clips(tmp_path), seed=0)
    assert data.train_faces.class_counts() == [3] * 7
    batch, label_ids = next(iter(data.train_dataloader()))
    assert (batch.shape, batch.dtype) == ((4, 4, 32, 32, 3), torch.uint8)
    brightness = batch[:, -1].float().mean((1, 2, 3))
    torch.testing.assert_close(brightness, 20 + 35 * label_ids.float(), atol=2, rtol=0)


@pytest.mark.parametrize(("frames", "places"), [(1, [5]), (2, [0, 5]), (3, [0, 2, 5]), (6, [0, 1, 2, 3, 4, 5])])
def test_frames_are_evenly_spaced_and_the_last_is_always_there(tmp_path, frames, places):
    table = read_clips(write_clips(tmp_path, frames=6), "test")
    whole, chosen = Clips(table, 6, 32), Clips(table, frames, 32)
    assert torch.equal(chosen[0][0], whole[0][0][places])


@pytest.mark.parametrize(
    "step",
    [
        {"HorizontalFlip": {"p": 0.5}},
        {"Affine": {"rotate": [-40, 40], "p": 1.0}},
        {"RandomBrightnessContrast": {"p": 1.0}},
        {"CoarseDropout": {"p": 1.0}},
        {"RandomCrop": {"height": 24, "width": 24, "p": 1.0}},
    ],
)
def test_a_random_change_is_the_same_for_all_frames_and_another_for_the_next_clip(tmp_path, step):
    table = read_clips(write_clips(tmp_path), "train")
    still = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)[:1].repeat(4, 0)
    data = ClipData(recipe(augment=[step]), tmp_path, seed=0)
    data.train_faces._decoded = [still] * len(table)
    seen = [data.train_faces[index][0] for index in range(8)]
    assert all(torch.equal(frame, clip[0]) for clip in seen for frame in clip)
    assert len({clip.numpy().tobytes() for clip in seen}) > 1


def test_clips_that_are_decoded_one_by_one_are_the_same(tmp_path, monkeypatch):
    table = read_clips(write_clips(tmp_path), "train")
    kept = Clips(table, 4, 24)
    monkeypatch.setattr("pipeline.training.clips.MOST_BYTES", 0)
    read = Clips(table, 4, 24)
    assert (kept.in_memory, read.in_memory) == (True, False)
    for index in range(len(table)):
        assert torch.equal(read[index][0], kept[index][0])


def test_more_frames_than_there_are_is_refused(tmp_path):
    with pytest.raises(PipelineError, match=r"recurrent\.frames is 9, but clip train-0-angry has 4; set 4"):
        ClipData(recipe(frames=9), write_clips(tmp_path), seed=0)


def test_tables_that_hold_no_clips_are_named(tmp_path):
    with pytest.raises(PipelineError, match=r"clips\.parquet is missing .*run `dvc repro clips`"):
        read_clips(tmp_path)
    pd.DataFrame({"face_id": ["a"]}).to_parquet(tmp_path / "clips.parquet")
    with pytest.raises(PipelineError, match="has not the columns clip_id, .* of clips"):
        read_clips(tmp_path)
    write_clips(tmp_path, {"train": 1})
    with pytest.raises(PipelineError, match="there are no validation clips in " + re.escape(str(tmp_path))):
        ClipData(recipe(), tmp_path, seed=0)
