"""In which order an epoch's faces come, and how each batch is cut into shares."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, Sampler, WeightedRandomSampler

from pipeline.training.loading import Examples
from pipeline.training.processes import epoch_seed


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
        generator = torch.Generator().manual_seed(epoch_seed(self._seed, self._epoch))
        if self._weights is None:
            yield from torch.randperm(self._length, generator=generator).tolist()
        else:
            yield from WeightedRandomSampler(self._weights, self._length, generator=generator)  # type: ignore[arg-type]


class Shares(Sampler[list[int]]):
    """Cuts each batch of an order into parts, one after the other, and each part into shares, one a process.

    So a step sees the faces that it would see in one process with memory for all of them, and every process counts as
    many batches. A last batch may have fewer faces than there are shares: the share without any borrows some of the
    batch, which count nothing in the loss (see `weigh`), though in the statistics of a shared batch norm.
    """

    def __init__(
        self, sampler: EpochSampler, batch_size: int, *, parts: int = 1, least: int = 1, rank: int = 0, count: int = 1
    ) -> None:
        """Cut batches of this size.

        Args:
            sampler: the order.
            batch_size: faces of a whole batch.
            parts: of a batch, which come one after the other.
            least: faces that a share must have.
            rank: number of the process whose shares these are, from 0.
            count: processes.
        """
        self.sampler = sampler
        # A last batch of one face has no batch-norm statistics.
        self._batches = BatchSampler(sampler, batch_size, drop_last=len(sampler) % batch_size == 1)
        self._parts, self._least, self._rank, self._count = parts, least, rank, count

    def __len__(self) -> int:
        """Return the shares of this process in an epoch."""
        return len(self._batches) * self._parts

    def __iter__(self) -> Iterator[list[int]]:
        """Give the indices of each share's faces."""
        for batch in self._batches:
            for share in self._own(cut(batch, self._parts * self._count, self._least)):
                yield share or batch[: self._least]

    def weigh(self, face_weights: NDArray[np.float32]) -> list[tuple[float, int]]:
        """Return the factor of each share's loss in the epoch, with which the mean over all shares is the batch's loss.

        Args:
            face_weights: what each face counts in the mean over a batch (faces,).

        Returns:
            the factor, and the faces of the whole batch, for each share of this process.
        """
        weighed = []
        for batch in self._batches:
            shares = cut(batch, self._parts * self._count, self._least)
            unit = face_weights[batch].sum() / len(shares)
            weighed += [(float(face_weights[share].sum() / unit), len(batch)) for share in self._own(shares)]
        return weighed

    def _own(self, shares: list[list[int]]) -> list[list[int]]:
        return shares[self._rank :: self._count]


def cut(batch: list[int], count: int, least: int = 1) -> list[list[int]]:
    """Cut a batch into shares that differ by at most one face; where there are not enough faces, the last are empty."""
    filled = max(1, min(count, len(batch) // least))
    return [batch[share::filled] for share in range(filled)] + [[]] * (count - filled)
