"""The ready-made model: a small version that learned from real faces, kept in the repository beside its card.

`make serve` serves it before anything was trained; see `pipeline.pointer.choose_model`.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.checkpoint import Checkpoint
from pipeline.errors import PipelineError
from pipeline.export import export_onnx
from pipeline.files import sha256_of, write_json
from pipeline.images import iter_images
from pipeline.params import EvaluateParams
from pipeline.pointer import READY_MADE, Pointer, write_pointer
from pipeline.predictions import judged, score_faces, stack
from pipeline.predictor import Predictor

MODEL_FILE, FACTS_FILE = "model.onnx", "model.json"
LARGEST = 12_000_000  # bytes: it is part of every clone
TOLERANCE = 0.002  # of accuracy that half precision may cost


def make_ready(
    checkpoint: Checkpoint, predictions: pd.DataFrame, faces: Path, models: Path, name: str, params: EvaluateParams
) -> dict[str, Any]:
    """Export a version in half precision as the ready-made model, prove it, and leave it with its facts and pointer.

    Args:
        checkpoint: the version.
        predictions: what it answered for its validation and test faces.
        faces: folder with one Parquet file a dataset.
        models: folder of the models; what there was in `ready-made` there is replaced, once the new one is proved.
        name: what the registry calls models of real faces.
        params: of the scores.

    Returns:
        `model.json`: what the version is, and the scores that the file itself has on the faces it is judged by.

    Raises:
        PipelineError: if the version learned from drawn faces, or the file is too large, or answers worse.
    """
    version = checkpoint.facts["version"]
    if checkpoint.facts["drawn"]:
        raise PipelineError(f"{version} learned from drawn faces; train it on real ones first")
    target = (models / READY_MADE).parent
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models) as folder:
        file = Path(folder) / MODEL_FILE
        export_onnx(checkpoint.network(), file, half=True, **checkpoint.export_facts())
        size = file.stat().st_size
        if size > LARGEST:
            raise PipelineError(
                f"{version} takes {size / 1e6:.1f} MB; a ready-made model takes {LARGEST / 1e6:.0f} at most"
            )
        mine = judged(predictions[predictions.dataset.isin(checkpoint.recipe.data)]).reset_index(drop=True)
        answered = mine.assign(probabilities=list(_answers(file, mine, faces)), tta=None)
        before, after = score_faces(mine, params), score_faces(answered, params)
        if after["accuracy"] < before["accuracy"] - TOLERANCE:
            raise PipelineError(
                f"in half precision the accuracy of {version} is {after['accuracy']:.4f}, not {before['accuracy']:.4f}"
            )
        facts = {
            **checkpoint.facts,
            "recipe": checkpoint.recipe.model_dump(exclude_defaults=True),
            "bytes": size,
            "split": mine.split.iloc[0],
            "scores": {**after, "tta": before["tta"]},
            "largest_difference": float(np.abs(stack(mine.probabilities) - stack(answered.probabilities)).max()),
        }
        file.replace(target / MODEL_FILE)
    write_json(target / FACTS_FILE, facts)
    sha256 = sha256_of(target / MODEL_FILE)
    write_pointer(models / READY_MADE, Pointer(name, f"ready-made {version}", MODEL_FILE, sha256))
    return facts


def _answers(file: Path, table: pd.DataFrame, faces: Path) -> np.ndarray:
    """Return the probabilities (n, 7) that an exported model answers for the faces of a table."""
    predictor = Predictor(file, name="candidate", version="0")
    answers = np.empty((len(table), len(predictor.facts["labels"])), np.float32)
    for images in iter_images(faces, table):
        found = [predictor.faces(image, detect=False)[0] for image in images]
        answers[images.index] = predictor.probabilities(predictor.stack(found))
    return answers
