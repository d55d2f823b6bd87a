"""Proof that an exported model answers like the checkpoint that it was made from, by the same road a request takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.checkpoint import Checkpoint
from pipeline.errors import PipelineError
from pipeline.images import iter_images
from pipeline.labels import LABELS
from pipeline.predictor import Predictor
from pipeline.transforms import decode, resize


def some_of(faces: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return as many faces of a table, drawn at random, but always the same: the first ones are all of one label."""
    return faces.sample(min(count, len(faces)), random_state=0)


def answer_all(predictor: Predictor, folder: Path, table: pd.DataFrame) -> NDArray[np.float32]:
    """Return the probabilities (n, 7) that an exported model answers for the faces of a table, in its order.

    Args:
        predictor: with the exported model.
        folder: with one Parquet file a dataset, where the images are.
        table: the faces, `face_id, dataset`, each once.
    """
    answers = np.empty((len(table), len(LABELS)), np.float32)
    for images in iter_images(folder, table):
        found = [predictor.faces(image, detect=False)[0] for image in images]
        answers[images.index] = predictor.probabilities(predictor.stack(found))
    return answers


def prove_parity(
    checkpoint: Checkpoint, predictor: Predictor, images: Sequence[bytes], tolerance: float
) -> dict[str, Any]:
    """Compare the two on the same faces.

    Args:
        checkpoint: the trained version.
        predictor: with the exported model.
        images: encoded faces.
        tolerance: the largest difference of a probability that is let through.

    Returns:
        `faces` compared, and `largest_difference` of a probability.

    Raises:
        PipelineError: if a probability differs by more than the tolerance, or any label differs.
    """
    size = checkpoint.recipe.image_size
    faces = np.stack([resize(decode(image), size) for image in images])
    with torch.inference_mode():
        expected = checkpoint.network()(torch.from_numpy(faces)).softmax(1).numpy()
    found = np.concatenate([predictor.probabilities(predictor.stack(predictor.faces(i, detect=False))) for i in images])
    difference = float(np.abs(expected - found).max())
    others = int((expected.argmax(1) != found.argmax(1)).sum())
    if difference > tolerance or others:
        raise PipelineError(
            f"the exported model is not the checkpoint {checkpoint.folder}: on {len(images)} faces {others} labels "
            f"differ, and probabilities by up to {difference:.2g} (allowed: {tolerance:.2g})"
        )
    return {"faces": len(images), "largest_difference": difference}
