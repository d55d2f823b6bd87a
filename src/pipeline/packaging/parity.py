"""Proof that every format of a model answers like the checkpoint that it was made from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.datasets.images import iter_images
from pipeline.errors import PipelineError
from pipeline.inference.predictor import Predictor
from pipeline.labels import LABELS
from pipeline.networks.checkpoint import Checkpoint
from pipeline.packaging.formats import Format
from pipeline.vision.transforms import decode, resize

SAID = ("labels", "image_size", "mean", "std", "interpolation", "colour", "temperature")  # by every format


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
    checkpoint: Checkpoint,
    predictor: Predictor,
    formats: Mapping[str, Format],
    images: Sequence[bytes],
    tolerance: float,
) -> dict[str, Any]:
    """Compare every format with the checkpoint on the same faces, one at a time, as a request brings them.

    Args:
        checkpoint: the trained version.
        predictor: with the exported model, which prepares the faces for all formats as it does for a request.
        formats: by name; see `pipeline.packaging.formats.open_formats`.
        images: encoded faces.
        tolerance: the largest difference of a probability that is let through.

    Returns:
        `faces` compared, and by format the `largest_difference` of a probability.

    Raises:
        PipelineError: if a probability differs by more than the tolerance, or any label differs, or a format says other
            labels, another preprocessing or another temperature than the checkpoint.
    """
    size, facts = checkpoint.recipe.image_size, checkpoint.export_facts()["facts"]
    faces = np.stack([resize(decode(image), size) for image in images])
    with torch.inference_mode():
        expected = checkpoint.network()(torch.from_numpy(faces)).softmax(1).numpy()
    sent = [predictor.stack(predictor.faces(image, detect=False)) for image in images]
    differences = {}
    for name, model in formats.items():
        if wrong := [key for key in SAID if key in facts and model.facts.get(key) != facts[key]]:
            raise PipelineError(
                f"the {name} of {checkpoint.folder} says another {wrong[0]} than the checkpoint: "
                f"{model.facts.get(wrong[0])}, not {facts[wrong[0]]}; promote the version again"
            )
        found = np.concatenate([model.probabilities(face) for face in sent])
        differences[name] = float(np.abs(expected - found).max())
        others = int((expected.argmax(1) != found.argmax(1)).sum())
        if differences[name] > tolerance or others:
            raise PipelineError(
                f"the {name} is not the checkpoint {checkpoint.folder}: on {len(images)} faces {others} labels "
                f"differ, and probabilities by up to {differences[name]:.2g} (allowed: {tolerance:.2g})"
            )
    return {"faces": len(images), "largest_difference": differences}
