"""Proof that an exported model answers like the checkpoint that it was made from, by the same road a request takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipeline.checkpoint import Checkpoint
from pipeline.errors import PipelineError
from pipeline.predictor import Predictor
from pipeline.transforms import decode, resize


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
