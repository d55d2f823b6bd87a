"""Faces of a table, decoded and resized, as a network wants them; a dataset for training and evaluation alike."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.images import StoredImages, iter_images
from pipeline.labels import LABELS
from pipeline.transforms import Image, decode, resize

MOST_BYTES = 500_000_000  # of decoded faces in memory
FEW = 5000  # faces below which a second process costs more than it brings

Batch = tuple[Tensor, Tensor]


class Examples(Dataset[Batch]):
    """What a network learns from, faces or clips of them, with the ids of their labels; `augment` changes them."""

    label_ids: NDArray[np.int64]
    augment: Callable[..., dict[str, Any]] | None
    in_memory: bool

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.label_ids)

    def class_counts(self) -> list[int]:
        """Return the number of faces of each label, in label order."""
        return np.bincount(self.label_ids, minlength=len(LABELS)).tolist()

    def count_workers(self, workers: int | str) -> int:
        """Return how many processes shall prepare these faces: as told, or by `auto` as many as it takes.

        That is none where there are few faces; and where they lie in memory and training needs the cores itself, one
        if they are changed, so that training does not wait for it, else none.
        """
        if isinstance(workers, int):
            return workers
        if len(self) < FEW:
            return 0
        if torch.cuda.is_available() or not self.in_memory:
            return os.cpu_count() or 1
        return 1 if self.augment else 0


class Faces(Examples):
    """Faces of a table; each item is a uint8 tensor (side, side, 3), RGB, and its label's id.

    Few or small faces are kept as they are shown, decoded once; else each is read and decoded when it is asked for.
    """

    def __init__(
        self,
        folder: Path,
        table: pd.DataFrame,
        image_size: int,
        augment: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        """Take some faces.

        Args:
            folder: with one Parquet file a dataset, where the images are.
            table: the faces, `face_id, dataset, label_id`, each once.
            image_size: side in pixels.
            augment: changes each face at random.

        Raises:
            PipelineError: if a dataset's file is missing or damaged.
        """
        self.label_ids = table.label_id.to_numpy(np.int64)
        self.image_size = image_size
        self.augment = augment
        self.in_memory = len(table) * image_size**2 * 3 <= MOST_BYTES
        self._images: StoredImages | NDArray[np.uint8]
        self._images = self._prepare_all(folder, table) if self.in_memory else StoredImages(folder, table)

    def __getitem__(self, index: int) -> Batch:
        """Return one face and its label's id."""
        image = self._images[index]
        face = self._prepare(image) if isinstance(image, bytes) else image
        if self.augment:
            face = self.augment(image=face)["image"]
        return torch.from_numpy(np.ascontiguousarray(face)), torch.tensor(self.label_ids[index])

    def _prepare(self, image: bytes) -> Image:
        return resize(decode(image), self.image_size)

    def _prepare_all(self, folder: Path, table: pd.DataFrame) -> NDArray[np.uint8]:
        prepared = np.empty((len(self), self.image_size, self.image_size, 3), np.uint8)

        def put(row: int, image: bytes) -> None:
            prepared[row] = self._prepare(image)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for images in iter_images(folder, table):
                list(pool.map(put, images.index, images))  # raises what one of them raised
        return prepared
