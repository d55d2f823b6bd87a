"""Offline class balancing: as many training faces of every label, filled up with changed copies of those there are."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.recipes import Balance
from pipeline.training.augment import build_augmentation, seed_augmentation
from pipeline.vision.transforms import Image

Rows = NDArray[np.intp]


class Balanced(NamedTuple):
    """Which faces stay, and of which of those that stay (numbers from 0) there are copies, in their order."""

    kept: Rows
    copied: Rows


def balance(class_ids: NDArray[np.int64], faces_per_class: int, seed: int) -> Balanced:
    """Choose faces so that every class that occurs has the same number of them.

    Args:
        class_ids: (n,) of all faces.
        faces_per_class: how many; of a class that has more, a random choice stays, and of one that has fewer, its faces
            are copied one after the other in random order, each as often as any other or once more.
        seed: of the choice.
    """
    random = np.random.default_rng(seed)
    chosen = {class_id: random.permutation(np.flatnonzero(class_ids == class_id)) for class_id in np.unique(class_ids)}
    kept = np.sort(np.concatenate([rows[:faces_per_class] for rows in chosen.values()]))
    missing = {class_id: max(0, faces_per_class - len(rows)) for class_id, rows in chosen.items()}
    copied = np.concatenate([np.resize(chosen[class_id], count) for class_id, count in missing.items()])
    return Balanced(kept, np.searchsorted(kept, copied))


class Copies:
    """Changes the copies of faces: the same copy in the same way, whenever it is asked for."""

    def __init__(self, rows: Rows, balance: Balance, image_size: int, seed: int) -> None:
        """Take which faces are copied, and what changes them.

        Args:
            rows: (copies,) numbers of the faces.
            balance: lists the changes.
            image_size: side of the faces in pixels, which the changes must keep.
            seed: of the changes.

        Raises:
            PipelineError: for changes that albumentations does not have, or that give faces of another size.
        """
        self.rows, self._seed = rows, seed
        self._change = build_augmentation(balance.augment, image_size=image_size)
        side = self(np.zeros((image_size, image_size, 3), np.uint8), 0).shape[:2]
        if side != (image_size, image_size):
            raise PipelineError(f"balance.augment gives faces of {side[0]}x{side[1]} pixels, not {image_size}")

    def __call__(self, face: Image, number: int) -> Image:
        """Return copy `number` of its face (side, side, 3)."""
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        seed_augmentation(self._change, seed)
        return self._change(image=face)["image"]
