"""Faces of a table, decoded and resized, as a network wants them; a dataset for training and evaluation alike."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.labels import LABELS
from pipeline.transforms import Image, decode, resize

MOST_BYTES = 500_000_000  # of decoded faces in memory
FEW = 5000  # faces below which a second process costs more than it brings

Batch = tuple[Tensor, Tensor]


class Faces(Dataset[Batch]):
    """Faces of a table; each item is a uint8 tensor (side, side, 3), RGB, and its label's id."""

    def __init__(
        self, table: pd.DataFrame, image_size: int, augment: Callable[..., dict[str, Any]] | None = None
    ) -> None:
        """Keep the images of a table with columns `image` and `label_id`; `augment` changes each face at random.

        Few or small faces are kept as they are shown, decoded once; else each is decoded whenever it is asked for.
        """
        self.images = table.image.tolist()
        self.label_ids = table.label_id.to_numpy(np.int64)
        self.image_size = image_size
        self.augment = augment
        self._prepared: list[Image] | None = None
        if len(self.images) * image_size**2 * 3 <= MOST_BYTES:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                self._prepared = list(pool.map(self._prepare, self.images))

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        """Return one face and its label's id."""
        face = self._prepared[index] if self._prepared else self._prepare(self.images[index])
        if self.augment:
            face = self.augment(image=face)["image"]
        return torch.from_numpy(np.ascontiguousarray(face)), torch.tensor(self.label_ids[index])

    def _prepare(self, image: bytes) -> Image:
        return resize(decode(image), self.image_size)

    def class_counts(self) -> list[int]:
        """Return the number of faces of each label, in label order."""
        return np.bincount(self.label_ids, minlength=len(LABELS)).tolist()


def count_workers(workers: int | str, faces: int) -> int:
    """Return how many processes prepare faces: as told, or by `auto` one a core, none where there are few faces."""
    if isinstance(workers, int):
        return workers
    return 0 if faces < FEW else (os.cpu_count() or 1)
