"""What happens when a GPU runs out of memory: each batch is cut into twice as many parts, whose gradients add up."""

import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from pipeline.errors import PipelineError
from pipeline.files import written_whole
from pipeline.training import processes
from pipeline.training.batches import cut
from pipeline.training.data import RecipeData

logger = logging.getLogger(__name__)

AGAIN = os.EX_TEMPFAIL  # exit code of a process that is to be started again, and will then take smaller parts
GO_ON = "run it again, and it goes on behind its last whole epoch"  # what to do with a training that was cut short

T = TypeVar("T")


def within_memory(version: str, data: RecipeData, work: Path, train: Callable[[], T]) -> T:
    """Train; as often as the memory of a GPU is too small, go on from the last checkpoint with parts of half the size.

    A step has the faces and the loss that it would have in one go, so rates, schedules and the steps of an epoch stay;
    only batch norm sees less at once, and faces are changed by other random numbers, and mixed within their part. How
    many parts fit is kept beside the checkpoints, for when the training goes on. One process begins again by itself. Of
    several the others wait for what this one will not send, so all of them end, this one with the exit code AGAIN.

    Args:
        version: its name.
        data: its faces; is told the parts.
        work: the folder of the checkpoints.
        train: trains from the last checkpoint there, or from the start.

    Raises:
        PipelineError: if the smallest parts do not fit either.
    """
    while True:
        data.parts = read_parts(work)
        try:
            return train()
        except torch.OutOfMemoryError as error:
            _halve(version, data, work, error)
        # Here, and not above, nothing holds the error any more, and with it the frames that hold the tensors; but for
        # the data, which knows its trainer, and by it the model and its teachers.
        data.trainer = None
        gc.collect()
        torch.cuda.empty_cache()
        if processes.count() > 1:
            raise SystemExit(AGAIN)


def read_parts(work: Path) -> int:
    """Return into how many parts a batch is cut: 1, or what fitted when the training was interrupted."""
    file = work / "parts"
    return int(file.read_text()) if file.exists() else 1


def _halve(version: str, data: RecipeData, work: Path, error: Exception) -> None:
    at_once, fewer = (_largest_share(data, parts) for parts in (data.parts, 2 * data.parts))
    if fewer == at_once:
        raise PipelineError(
            f"{version} ran out of GPU memory with {at_once} face{'s' * (at_once > 1)} at once, and fewer make no "
            f"batch ({' '.join(str(error).split())[:120]}); set a smaller image_size or backbone in "
            f"recipes.{version}, or take a GPU with more memory"
        ) from error
    with written_whole(work / "parts") as file:
        file.write_text(str(2 * data.parts))
    logger.warning(
        "warning: %s ran out of GPU memory with %d faces at once; it goes on with %d, and accumulates the gradients of "
        "%d parts of a batch", version, at_once, fewer, 2 * data.parts,
    )  # fmt: skip


def _largest_share(data: RecipeData, parts: int) -> int:
    return len(cut(list(range(data.recipe.batch_size)), parts * processes.count(), data.least)[0])
