"""Faces for training and evaluation: decoded, resized and changed on the way, in batches of uint8."""

import os
from collections.abc import Iterator
from pathlib import Path

import albumentations
import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, WeightedRandomSampler

from pipeline.augment import build_augmentation
from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.recipes import Recipe
from pipeline.tables import read_split
from pipeline.transforms import decode, resize

FEW = 5000  # faces below which a second process costs more than it brings

Batch = tuple[Tensor, Tensor]


class Faces(Dataset[Batch]):
    """Faces of a table; each item is a uint8 tensor (side, side, 3), RGB, and its label's id."""

    def __init__(self, table: pd.DataFrame, image_size: int, augment: albumentations.Compose | None = None) -> None:
        """Keep the encoded images of a table with columns `image` and `label_id`; `augment` changes each at random."""
        self.images = table.image.tolist()
        self.label_ids = table.label_id.to_numpy(np.int64)
        self.image_size = image_size
        self.augment = augment

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        """Return one face and its label's id."""
        face = resize(decode(self.images[index]), self.image_size)
        if self.augment:
            face = self.augment(image=face)["image"]
        return torch.from_numpy(np.ascontiguousarray(face)), torch.tensor(self.label_ids[index])

    def class_counts(self) -> list[int]:
        """Return the number of faces of each label, in label order."""
        return np.bincount(self.label_ids, minlength=len(LABELS)).tolist()


class FaceData(pl.LightningDataModule):
    """The training and validation faces of a recipe's datasets."""

    def __init__(self, recipe: Recipe, faces: Path, splits: Path, *, seed: int, workers: int | str = "auto") -> None:
        """Read the tables.

        Args:
            recipe: which datasets, at which size, how changed, drawn and batched.
            faces: folder with one Parquet file a dataset.
            splits: the table of the split stage.
            seed: of the order and the random changes.
            workers: processes that prepare faces; `auto` is one a core, or none for few faces.

        Raises:
            PipelineError: if a split that training needs is empty.
        """
        super().__init__()
        tables = {
            split: pd.concat([read_split(faces, splits, name, split) for name in recipe.data], ignore_index=True)
            for split in ("train", "validation")
        }
        for split, table in tables.items():
            if table.empty:
                raise PipelineError(f"there are no {split} faces in {', '.join(recipe.data)}")
        augment = build_augmentation(
            recipe.augment, image_size=recipe.image_size, share=recipe.augment_share, seed=seed
        )
        self.train_faces = Faces(tables["train"], recipe.image_size, augment)
        self.validation_faces = Faces(tables["validation"], recipe.image_size)
        self.recipe, self.seed = recipe, seed
        self.workers = count_workers(workers, len(self.train_faces))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return batches of training faces, shuffled, or drawn so that every label is as frequent as any other."""
        balanced = self.recipe.sampler == "balanced"
        return DataLoader(
            self.train_faces,
            batch_size=self.recipe.batch_size,
            sampler=EpochSampler(self.train_faces, balanced=balanced, seed=self.seed),
            # A last batch of one face has no batch-norm statistics.
            drop_last=len(self.train_faces) % self.recipe.batch_size == 1,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return batches of validation faces, in order."""
        return DataLoader(
            self.validation_faces,
            batch_size=4 * self.recipe.batch_size,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


class EpochSampler(Sampler[int]):
    """Draws the order of an epoch from the seed and the epoch's number alone, so that a resumed run has the same.

    Lightning tells it the epoch.
    """

    def __init__(self, faces: Faces, *, balanced: bool, seed: int) -> None:
        """Draw from these faces: each once, or, if `balanced`, with replacement and every label equally often."""
        weights = 1 / np.maximum(faces.class_counts(), 1)
        self._weights = torch.from_numpy(weights[faces.label_ids]) if balanced else None
        self._length, self._seed, self._epoch = len(faces), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the epoch that begins."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of draws in an epoch."""
        return self._length

    def __iter__(self) -> Iterator[int]:
        """Give the indices of the epoch's faces."""
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        if self._weights is None:
            yield from torch.randperm(self._length, generator=generator).tolist()
        else:
            yield from WeightedRandomSampler(self._weights, self._length, generator=generator)  # type: ignore[arg-type]


def count_workers(workers: int | str, faces: int) -> int:
    """Return how many processes prepare faces: as told, or by `auto` one a core, none where there are few faces."""
    if isinstance(workers, int):
        return workers
    return 0 if faces < FEW else (os.cpu_count() or 1)
