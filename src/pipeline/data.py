"""The training and validation faces of a recipe, changed at random and drawn in the order that it says."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from pipeline import processes
from pipeline.augment import build_augmentation
from pipeline.batches import EpochSampler, Shares
from pipeline.errors import PipelineError
from pipeline.loading import Batch, Faces
from pipeline.recipes import Recipe
from pipeline.tables import read_split


class FaceData(pl.LightningDataModule):
    """The training and validation faces of a recipe's datasets, this process's share of them.

    `parts` is into how many parts each batch is cut, and `least` the faces that a part must have.
    """

    def __init__(self, recipe: Recipe, faces: Path, splits: Path, *, seed: int, workers: int | str = "auto") -> None:
        """Read the tables.

        Args:
            recipe: which datasets, at which size, how changed, drawn and batched.
            faces: folder with one Parquet file a dataset.
            splits: the table of the split stage.
            seed: of the order and the random changes.
            workers: processes that prepare faces; see `Faces.count_workers`.

        Raises:
            PipelineError: if a split that training needs is empty, or has no validation face for some process.
        """
        super().__init__()
        tables = {
            split: pd.concat([read_split(faces, splits, name, split) for name in recipe.data], ignore_index=True)
            for split in ("train", "validation")
        }
        for split, table in tables.items():
            if table.empty:
                raise PipelineError(f"there are no {split} faces in {', '.join(recipe.data)}")
        if len(tables["validation"]) < processes.count():
            raise PipelineError(
                f"{processes.count()} processes can not share the {len(tables['validation'])} validation faces in "
                f"{', '.join(recipe.data)}; start fewer"
            )
        augment = build_augmentation(
            recipe.augment, image_size=recipe.image_size, share=recipe.augment_share, seed=seed
        )
        self.train_faces = Faces(faces, tables["train"], recipe.image_size, augment)
        self.validation_faces = Faces(faces, tables["validation"], recipe.image_size)
        self.recipe, self.seed = recipe, seed
        self.parts, self.least = 1, 1
        self.workers = self.train_faces.count_workers(workers)
        if workers == "auto":
            self.workers = math.ceil(self.workers / processes.count_here())

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return batches of training faces, shuffled, or drawn so that every label is as frequent as any other."""
        sampler = EpochSampler(self.train_faces, balanced=self.recipe.sampler == "balanced", seed=self.seed)
        self._shares = Shares(
            sampler, self.recipe.batch_size, parts=self.parts, least=self.least,
            rank=processes.rank(), count=processes.count(),
        )  # fmt: skip
        return DataLoader(
            self.train_faces,
            batch_sampler=self._shares,
            num_workers=self.workers,
            worker_init_fn=_draw_its_own_changes,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return batches of validation faces, in order; each face is in one process."""
        shares = self.parts * processes.count()
        return DataLoader(
            self.validation_faces,
            batch_size=math.ceil(4 * self.recipe.batch_size / shares),
            sampler=range(processes.rank(), len(self.validation_faces), processes.count()),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def weigh_shares(self, label_weights: Tensor | None) -> list[tuple[float, int]] | None:
        """Return how each share of the epoch that begins counts (see `Shares.weigh`), or nothing if batches are whole.

        Args:
            label_weights: what a face of each label counts in the mean over a batch (7,), or nothing for all alike.
        """
        if self.parts * processes.count() == 1:
            return None
        labels = self.train_faces.label_ids
        weights = np.ones(len(labels), np.float32) if label_weights is None else label_weights.cpu().numpy()[labels]
        return self._shares.weigh(weights)


def _draw_its_own_changes(process: int) -> None:
    """Seed the random changes of a loading process: each begins as a copy, and all would draw the same."""
    info: Any = get_worker_info()  # there is one: this is such a process
    if augment := info.dataset.augment:
        augment.set_random_seed(int(np.random.SeedSequence([augment.seed, process]).generate_state(1)[0]))
