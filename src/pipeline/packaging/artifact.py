"""What is registered of a version, in one folder: its weights and facts, the exported model, and what goes with it."""

import shutil
from pathlib import Path
from typing import Literal

from pipeline.errors import PipelineError
from pipeline.inference.pointer import DETECTOR_FILE
from pipeline.networks.checkpoint import FACTS, WEIGHTS, Checkpoint
from pipeline.networks.embedding import Projection
from pipeline.packaging.export import export_onnx
from pipeline.packaging.signature import write_signature
from pipeline.packaging.torchscript import TORCHSCRIPT_FILE, export_torchscript
from pipeline.registry.registry import MODEL_FILE
from pipeline.vision.detectors import YuNet
from pipeline.vision.yunet_file import find_yunet


def write_artifact(
    checkpoint: Checkpoint, folder: Path, yunet: Path | Literal["fetch"] | None, projection: Projection | None = None
) -> Path:
    """Write a version into an empty folder as it is registered, and return the file of the model that is served.

    Args:
        checkpoint: the version.
        folder: made here.
        yunet: where YuNet's file comes from, if the version's faces were found by it.
        projection: by which the exported model summarizes the features of a face, if it shall.

    Raises:
        PipelineError: if they were, and there is none.
    """
    folder.mkdir()
    for name in (WEIGHTS, FACTS):
        shutil.copy(checkpoint.folder / name, folder)
    network, facts = checkpoint.network(), checkpoint.export_facts()
    export_onnx(network, folder / MODEL_FILE, projection=projection, **facts)
    export_torchscript(network, folder / TORCHSCRIPT_FILE, **facts)
    write_signature(folder / MODEL_FILE, checkpoint.recipe.image_size)
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
