"""The formats in which a registered version lies in its folder, and what each answers: the same, as is to be proved."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.networks.checkpoint import Checkpoint, load_checkpoint
from pipeline.packaging.torchscript import TORCHSCRIPT_FILE, TorchScriptModel


class Format(Protocol):
    """A model with what its file says of itself: `labels`, `temperature`, and how faces are prepared."""

    facts: dict[str, Any]

    def probabilities(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classify faces: uint8 RGB (n, size, size, 3) to float32 (n, 7)."""
        ...


class SafetensorsModel:
    """Weights in a network that is built anew by the recipe beside them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Read the weights."""
        self._network = checkpoint.network()
        # Older files of weights say nothing of themselves; `model.json` beside them does.
        self.facts = checkpoint.weights_facts() or checkpoint.export_facts()["facts"]

    def probabilities(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classify faces: uint8 RGB (n, size, size, 3) to float32 (n, 7)."""
        with torch.inference_mode():
            return self._network(torch.from_numpy(faces)).softmax(1).numpy()


def open_formats(folder: Path, predictor: Format) -> dict[str, Format]:
    """Open what lies in the folder of a version; one that was registered earlier may lack TorchScript.

    Args:
        folder: as `pipeline.packaging.artifact.write_artifact` leaves it.
        predictor: with the ONNX file, as it is served.
    """
    formats: dict[str, Format] = {"onnx": predictor, "safetensors": SafetensorsModel(load_checkpoint(folder))}
    if (file := folder / TORCHSCRIPT_FILE).exists():
        formats["torchscript"] = TorchScriptModel(file)
    return formats
