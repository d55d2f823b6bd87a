"""Variants of an exported model that take less space, or less time: eight-bit integers, half precision, bfloat16."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from pipeline.errors import PipelineError
from pipeline.packaging.export import INPUT, halve

# What carries the sums, and what lies between them. Normalization and the softmax stay in full precision.
QUANTIZED = ["Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "AveragePool"]


def make_int8(model: Path, faces: Sequence[NDArray[np.uint8]]) -> onnx.ModelProto:
    """Return a model whose layers compute in eight-bit integers (static quantization; Jacob et al. 2018, CVPR).

    Weights have a scale a channel, and use seven of their eight bits: on CPUs without VNNI sums of eight would
    overflow, and what was measured on one CPU would not hold on another.

    Args:
        model: file of an exported model.
        faces: uint8 (n, size, size, 3) each, from which the ranges of the layers' outputs are taken.

    Raises:
        PipelineError: if ONNX Runtime can not quantize this network.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        try:
            quant_pre_process(model, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                quantized,
                _Faces(faces),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=QUANTIZED,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except Exception as error:  # onnxruntime's own kinds share no public base
            raise PipelineError(f"{model} can not be quantized: {str(error)[:200]}") from error
        made = onnx.load(quantized)
    del made.metadata_props[:]  # the tool's own; those of the model got lost on the way
    made.metadata_props.extend(onnx.load(model, load_external_data=False).metadata_props)
    return made


def make_fp16(model: Path, faces: Sequence[NDArray[np.uint8]] = ()) -> onnx.ModelProto:
    """Return a model with its weights in half precision: half the space, and the same time.

    ONNX Runtime's CPU provider has no kernels that compute in bfloat16, and none in half precision on x86, where it
    would turn every number back; so that is done once, on opening.

    Args:
        model: file of an exported model.
        faces: not needed.
    """
    return halve(onnx.load(model))


def make_bf16(model: Path, faces: Sequence[NDArray[np.uint8]] = ()) -> onnx.ModelProto:
    """Return a model with its weights in bfloat16: half the space, for OpenVINO, which also computes in it.

    Args:
        model: file of an exported model.
        faces: not needed.
    """
    return halve(onnx.load(model), ml_dtypes.bfloat16)


MAKERS = {"int8": make_int8, "fp16": make_fp16, "bf16": make_bf16}


class _Faces(CalibrationDataReader):
    def __init__(self, faces: Sequence[NDArray[np.uint8]]) -> None:
        self._feeds: Iterator[dict[str, NDArray[np.uint8]]] = ({INPUT: some} for some in faces)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._feeds, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice to its own developers out of the log; it goes to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
