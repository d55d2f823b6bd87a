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

from pipeline.datasets.tables import read_split
from pipeline.errors import PipelineError
from pipeline.recipes import Recipe
from pipeline.training import processes
from pipeline.training.augment import augmentation_of, seed_augmentation
from pipeline.training.balancing import Copies, balance
from pipeline.training.batches import EpochSampler, Shares
from pipeline.training.loading import Batch, Examples, Faces


class RecipeData(pl.LightningDataModule):
    """Batches for training and validation as a recipe wants them, this process's share of them.

    `parts` is into how many parts each batch is cut, and `least` the faces that a part must have.
    """

    def __init__(self, recipe: Recipe, train: Examples, validation: Examples, seed: int, workers: int | str) -> None:
        """Take what to learn from; the order is drawn from the seed. `workers`: see `Examples.count_workers`.

        Raises:
            PipelineError: if there is no validation face for some process.
        """
        super().__init__()
        if len(validation) < processes.count():
            raise PipelineError(
                f"{processes.count()} processes can not share {len(validation)} validation faces in "
                f"{', '.join(recipe.data)}; start fewer"
            )
        self.train_faces, self.validation_faces = train, validation
        self.recipe, self.seed = recipe, seed
        self.parts, self.least = 1, 1
        self._first_epoch = 0
        self.workers = train.count_workers(workers)
        if workers == "auto":
            self.workers = math.ceil(self.workers / processes.count_here())

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return batches of training faces, shuffled, or drawn so that every label is as frequent as any other."""
        sampler = EpochSampler(self.train_faces, balanced=self.recipe.sampler == "balanced", seed=self.seed)
        # Loading processes start, and draw the first batches, before Lightning tells anybody which epoch it is.
        sampler.set_epoch(self._first_epoch)
        self.seed_changes(self._first_epoch)
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

    def seed_changes(self, epoch: int) -> None:
        """Let the random changes to the training faces follow from the seed and the epoch's number alone."""
        augment: Any = self.train_faces.augment
        if augment:
            seed_augmentation(augment, processes.own_seed(processes.epoch_seed(self.seed, epoch)))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold: the epoch that comes next; it is written at the end of one."""
        assert self.trainer is not None  # it writes the checkpoint
        return {"epoch": self.trainer.current_epoch + 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin with the epoch that comes after the checkpoint."""
        self._first_epoch = state_dict["epoch"]

    def weigh_shares(self, label_weights: Tensor | None) -> list[tuple[float, int]] | None:
        """Return how each share of the epoch that begins counts (see `Shares.weigh`), or nothing if batches are whole.

        Args:
            label_weights: what a face of each class counts in the mean over a batch (classes,); nothing if all alike.
        """
        if self.parts * processes.count() == 1:
            return None
        labels = self.train_faces.label_ids
        weights = np.ones(len(labels), np.float32) if label_weights is None else label_weights.cpu().numpy()[labels]
        return self._shares.weigh(weights)


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
    augment = augmentation_of(recipe, seed)
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
        seed_augmentation(augment, int(np.random.SeedSequence([augment.seed, process]).generate_state(1)[0]))
