"""The training and validation faces of a recipe, changed at random and drawn in the order that it says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Sampler, WeightedRandomSampler, get_worker_info

from pipeline.augment import build_augmentation
from pipeline.balancing import Copies, balance
from pipeline.errors import PipelineError
from pipeline.loading import Batch, Examples, Faces
from pipeline.recipes import Recipe
from pipeline.tables import read_split


class RecipeData(pl.LightningDataModule):
    """Batches for training and validation as a recipe wants them."""

    def __init__(self, recipe: Recipe, train: Examples, validation: Examples, seed: int, workers: int | str) -> None:
        """Take what to learn from; the order is drawn from the seed. `workers`: see `Examples.count_workers`."""
        super().__init__()
        self.train_faces, self.validation_faces = train, validation
        self.recipe, self.seed = recipe, seed
        self.workers = train.count_workers(workers)

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
            worker_init_fn=_draw_its_own_changes,
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


class FaceData(RecipeData):
    """The training and validation faces of a recipe's datasets."""

    def __init__(self, recipe: Recipe, faces: Path, splits: Path, *, seed: int, workers: int | str = "auto") -> None:
        """Read the tables.

        Args:
            recipe: which datasets, at which size, how changed, drawn and batched.
            faces: folder with one Parquet file a dataset.
            splits: the table of the split stage.
            seed: of the order and the random changes.
            workers: processes that prepare faces; see `Examples.count_workers`.

        Raises:
            PipelineError: if a split that training needs is empty.
        """
        tables = {split: _read(faces, splits, recipe, split) for split in ("train", "validation")}
        for split, table in tables.items():
            if table.empty:
                raise PipelineError(f"there are no {split} faces in {', '.join(recipe.data)}")
        train = _training(recipe, faces, tables["train"], seed)
        validation = Faces(faces, tables["validation"], recipe.image_size, classes=len(recipe.classes))
        super().__init__(recipe, train, validation, seed, workers)


def _training(recipe: Recipe, faces: Path, table: pd.DataFrame, seed: int) -> Faces:
    copies = None
    augment = build_augmentation(recipe.augment, image_size=recipe.image_size, share=recipe.augment_share, seed=seed)
    if recipe.balance:
        kept, copied = balance(table.label_id.to_numpy(), recipe.balance.faces_per_class, seed)
        table = table.iloc[kept]
        copies = Copies(copied, recipe.balance, recipe.image_size, seed)
    return Faces(faces, table, recipe.image_size, augment, classes=len(recipe.classes), copies=copies)


def _read(faces: Path, splits: Path, recipe: Recipe, split: str) -> pd.DataFrame:
    """Read the faces of a split that a recipe learns from or is judged by, with its classes for the labels."""
    table = pd.concat([read_split(faces, splits, name, split) for name in recipe.data], ignore_index=True)
    table = table.assign(label_id=recipe.class_ids(table.label_id.to_numpy()))
    return table[table.label_id >= 0].reset_index(drop=True)


def _draw_its_own_changes(process: int) -> None:
    """Seed the random changes of a loading process: each begins as a copy, and all would draw the same."""
    info: Any = get_worker_info()  # there is one: this is such a process
    if augment := info.dataset.augment:
        augment.set_random_seed(int(np.random.SeedSequence([augment.seed, process]).generate_state(1)[0]))


class EpochSampler(Sampler[int]):
    """Draws the order of an epoch from the seed and the epoch's number alone, so that a resumed run has the same.

    Lightning tells it the epoch.
    """

    def __init__(self, faces: Examples, *, balanced: bool, seed: int) -> None:
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
