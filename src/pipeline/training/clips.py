"""Clips of faces: the dataset that a network sees, and the training and validation clips of a recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.datasets.tables import read_clips
from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.recipes import Recipe
from pipeline.training.augment import augmentation_of
from pipeline.training.data import FaceData, RecipeData
from pipeline.training.loading import MOST_BYTES, Batch, Examples
from pipeline.vision.transforms import Image, decode, resize


class Clips(Examples):
    """Clips of a table; each item is a uint8 tensor (frames, side, side, 3), RGB, and its label's id.

    A few are decoded once; else each is decoded when it is asked for.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        frames: int,
        image_size: int,
        augment: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        """Take some clips.

        Args:
            table: `clip_id, label_id, frames`, as `read_clips` gives it.
            frames: of each clip, evenly spaced and up to the last one; a single one is the last.
            image_size: side in pixels.
            augment: changes each clip at random, all of its frames alike.

        Raises:
            PipelineError: if a clip has fewer frames.
        """
        self.label_ids = table.label_id.to_numpy(np.int64)
        self.image_size, self.augment, self.classes = image_size, augment, len(LABELS)
        self._encoded = [_choose(*row, frames) for row in zip(table.clip_id, table.frames, strict=True)]
        self.in_memory = len(table) * frames * image_size**2 * 3 <= MOST_BYTES
        self._decoded = [self._decode(index) for index in range(len(table))] if self.in_memory else None

    def __getitem__(self, index: int) -> Batch:
        """Return one clip and its label's id."""
        clip = self._decoded[index] if self._decoded else self._decode(index)
        if self.augment:
            clip = self.augment(images=clip)["images"]
        return torch.from_numpy(np.ascontiguousarray(clip)), torch.tensor(self.label_ids[index])

    def _decode(self, index: int) -> Image:
        return np.stack([resize(decode(frame), self.image_size) for frame in self._encoded[index]])


def _choose(clip_id: str, encoded: Any, frames: int) -> list[bytes]:
    if len(encoded) < frames:
        raise PipelineError(f"recurrent.frames is {frames}, but clip {clip_id} has {len(encoded)}; set {len(encoded)}")
    # From the end on, so that one frame is the last.
    return [encoded[place] for place in np.linspace(len(encoded) - 1, 0, frames).round().astype(int)[::-1]]


class ClipData(RecipeData):
    """The training and validation clips of a recipe."""

    def __init__(self, recipe: Recipe, folder: Path, *, seed: int, workers: int | str = "auto") -> None:
        """Read the table.

        Args:
            recipe: which frames, at which size, how changed, drawn and batched.
            folder: with `clips.parquet`.
            seed: of the order and the random changes.
            workers: processes that prepare clips; see `Examples.count_workers`.

        Raises:
            PipelineError: if a split that training needs is empty, or clips have fewer frames than the recipe takes.
        """
        assert recipe.recurrent  # without, a recipe reads faces
        frames, side = recipe.recurrent.frames, recipe.image_size
        augment = augmentation_of(recipe, seed)
        train = Clips(read_clips(folder, "train"), frames, side, augment)
        super().__init__(recipe, train, Clips(read_clips(folder, "validation"), frames, side), seed, workers)


def open_data(recipe: Recipe, faces: Path, splits: Path, *, seed: int, workers: int | str = "auto") -> RecipeData:
    """Open the faces of a recipe by the table of splits, or its clips, which lie in the same folder."""
    if recipe.recurrent:
        return ClipData(recipe, faces, seed=seed, workers=workers)
    return FaceData(recipe, faces, splits, seed=seed, workers=workers)
