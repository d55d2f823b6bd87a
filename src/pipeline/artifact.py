"""What is registered of a version, in one folder: its weights and facts, the exported model, the detector it needs."""

import shutil
import statistics
import time
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint import FACTS, WEIGHTS, Checkpoint
from pipeline.detectors import YuNet
from pipeline.errors import PipelineError
from pipeline.export import export_onnx
from pipeline.predictor import DETECTOR_FILE, Predictor
from pipeline.registry import MODEL_FILE
from pipeline.yunet_file import find_yunet

WARM_UP, TIMED = 3, 20  # runs


def write_artifact(checkpoint: Checkpoint, folder: Path, yunet: Path | Literal["fetch"] | None) -> Path:
    """Write a version into an empty folder as it is registered, and return the file of the exported model.

    Args:
        checkpoint: the version.
        folder: made here.
        yunet: where YuNet's file comes from, if the version's faces were found by it.

    Raises:
        PipelineError: if they were, and there is none.
    """
    folder.mkdir()
    for name in (WEIGHTS, FACTS):
        shutil.copy(checkpoint.folder / name, folder)
    export_onnx(checkpoint.network(), folder / MODEL_FILE, **checkpoint.export_facts())
    # Beside the model, so that whoever serves it finds faces as its data had them.
    if checkpoint.facts["detector"] in YuNet.NAMES:
        file = find_yunet(yunet)
        if file is None:
            raise PipelineError(
                f"{checkpoint.facts['version']} learned from faces that YuNet found; set `faces.yunet` to its file or "
                "to fetch, because it is served with the model"
            )
        shutil.copy(file, folder / DETECTOR_FILE)
    return folder / MODEL_FILE


def measure_milliseconds(predictor: Predictor, face: NDArray[np.uint8]) -> float:
    """Return what an exported model takes for one face (1, side, side, 3) on this machine's CPU, a median of runs."""
    seconds = []
    for _ in range(WARM_UP + TIMED):
        began = time.perf_counter()
        predictor.probabilities(face)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[WARM_UP:])
