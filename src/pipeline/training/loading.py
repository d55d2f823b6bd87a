"""Faces of a table, decoded and resized, as a network wants them; a dataset for training and evaluation alike."""

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

from pipeline.datasets.images import StoredImages, iter_images
from pipeline.inference.cores import count_cores
from pipeline.labels import LABELS
from pipeline.training.balancing import Copies
from pipeline.vision.transforms import Image, decode, resize

MOST_BYTES = 500_000_000  # of decoded faces in memory
FEW = 5000  # faces below which a second process costs more than it brings

Batch = tuple[Tensor, Tensor]


class Examples(Dataset[Batch]):
    """What a network learns from, faces or clips of them, with the ids of their classes; `augment` changes them."""

    label_ids: NDArray[np.int64]
    classes: int
    augment: Callable[..., dict[str, Any]] | None
    in_memory: bool

    def __len__(self) -> int:
        """Return the number of faces, copies included."""
        return len(self.label_ids)

    def class_counts(self) -> list[int]:
        """Return the number of faces of each class, in their order."""
        return np.bincount(self.label_ids, minlength=self.classes).tolist()

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
            return count_cores()
        return 1 if self.augment else 0


class Faces(Examples):
    """Faces of a table, and changed copies; each item is a uint8 tensor (side, side, 3), RGB, and its class's id.

    Few or small faces are kept as they are shown, decoded once; else each is read and decoded when it is asked for.
    """

    def __init__(
        self,
        folder: Path,
        table: pd.DataFrame,
        image_size: int,
        augment: Callable[..., dict[str, Any]] | None = None,
        *,
        classes: int = len(LABELS),
        copies: Copies | None = None,
    ) -> None:
        """Take some faces.

        Args:
            folder: with one Parquet file a dataset, where the images are.
            table: the faces, `face_id, dataset, label_id` (or the id of what stands for it), each once.
            image_size: side in pixels.
            augment: changes each face at random.
            classes: how many classes there are.
            copies: of some of the faces; they follow behind the table's.

        Raises:
            PipelineError: if a dataset's file is missing or damaged.
        """
        self.image_size, self.augment, self.classes = image_size, augment, classes
        self._faces, self._copies = len(table), copies
        label_ids = table.label_id.to_numpy(np.int64)
        self.label_ids = label_ids if copies is None else np.append(label_ids, label_ids[copies.rows])
        self.in_memory = len(self) * image_size**2 * 3 <= MOST_BYTES
        self._images: StoredImages | NDArray[np.uint8]
        self._images = self._prepare_all(folder, table) if self.in_memory else StoredImages(folder, table)

    def __getitem__(self, index: int) -> Batch:
        """Return one face and its class's id."""
        face = self._images[index] if self.in_memory else self._prepare_one(index)
        if self.augment:
            face = self.augment(image=face)["image"]
        return torch.from_numpy(np.ascontiguousarray(face)), torch.tensor(self.label_ids[index])

    def _prepare(self, image: bytes) -> Image:
        return resize(decode(image), self.image_size)

    def _prepare_one(self, index: int) -> Image:
        if self._copies is None or index < self._faces:
            return self._prepare(self._images[index])
        number = index - self._faces
        return self._copies(self._prepare(self._images[self._copies.rows[number]]), number)

    def _prepare_all(self, folder: Path, table: pd.DataFrame) -> NDArray[np.uint8]:
        prepared = np.empty((len(self), self.image_size, self.image_size, 3), np.uint8)

        def put(row: int, image: bytes) -> None:
            prepared[row] = self._prepare(image)

        with ThreadPoolExecutor(count_cores()) as pool:
            for images in iter_images(folder, table):
                list(pool.map(put, images.index, images))  # raises what one of them raised
        if self._copies is not None:
            for number, row in enumerate(self._copies.rows):
                prepared[self._faces + number] = self._copies(prepared[row], number)
        return prepared
