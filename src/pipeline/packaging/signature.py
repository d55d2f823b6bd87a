"""What MLflow shows and knows of a registered version: its signature, an input example, and how it is loaded."""

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from pipeline.labels import LABELS
from pipeline.packaging.export import INPUT, OUTPUT

PACKAGES = ("numpy", "onnx", "onnxruntime")


def write_signature(model: Path, image_size: int) -> None:
    """Write MLflow's own files about an exported model beside it, `MLmodel` and others that it names.

    By them the registry's page shows the schema, and `mlflow.pyfunc.load_model` opens the model: uint8 faces in,
    float32 probabilities out.

    Args:
        model: the ONNX file, in the folder that is registered.
        image_size: side of a face in pixels.
    """
    faces = (image_size, image_size, 3)
    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, *faces), INPUT)])
    outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, len(LABELS)), OUTPUT)])
    with tempfile.TemporaryDirectory() as partial:
        mlflow.onnx.save_model(
            onnx.load(model),
            Path(partial) / "model",
            signature=ModelSignature(inputs, outputs),
            input_example={INPUT: np.full((1, *faces), 128, np.uint8)},  # grey, because faces are people's
            pip_requirements=[f"{name}=={version(name)}" for name in PACKAGES],
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
        )
        for file in (Path(partial) / "model").iterdir():
            if file.name != model.name:  # which is written anew there, and need not be the same to the byte
                shutil.copy(file, model.parent)
