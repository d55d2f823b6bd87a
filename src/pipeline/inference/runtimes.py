"""What computes an exported model: ONNX Runtime, on a GPU where there is one for it, or OpenVINO."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import onnxruntime
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.inference.cores import count_threads
from pipeline.inference.variants import BF16, FULL, INT8

RUNTIME = "FER_RUNTIME"
RUNTIMES = ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
# A variant's macro-F1 is measured by one: from the same integers they get other sums, and only OpenVINO knows bfloat16.
MEASURED_BY = {INT8: ONNXRUNTIME, BF16: OPENVINO}
# By preference. TF32, in which ONNX Runtime multiplies by default there, is no full precision.
PROVIDERS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}, "CPUExecutionProvider": {}}
DEVICES = {"CUDAExecutionProvider": "cuda", "CPUExecutionProvider": "cpu"}


class Output(Protocol):
    """An output of a model."""

    @property
    def name(self) -> str:
        """What it is asked for by."""
        ...


class Session(Protocol):
    """An opened model, safe among threads: of ONNX Runtime's sessions what is used here."""

    def get_outputs(self) -> Sequence[Output]:
        """Return the outputs that can be asked for."""
        ...

    def run(self, asked: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return some of the outputs for inputs by name."""
        ...


@dataclass(frozen=True)
class Computation:
    """What a model is really computed by: `precision` is that of its sums, `device` is cpu or cuda."""

    runtime: str
    precision: str
    device: str
    threads: int


def choose_runtime(variant: str) -> str:
    """Return what shall compute a variant: the environment's `FER_RUNTIME`, or what it was measured by.

    That is ONNX Runtime, which is always there, for all but bf16.

    Raises:
        PipelineError: if there is no such runtime, or not here, or another one was measured.
    """
    measured_by = MEASURED_BY.get(variant)
    runtime = os.environ.get(RUNTIME) or measured_by or ONNXRUNTIME
    if runtime not in RUNTIMES:
        raise PipelineError(f"{RUNTIME} must be one of {', '.join(RUNTIMES)}, not {runtime[:20]!r}")
    if measured_by not in (None, runtime):
        raise PipelineError(f"the variant {variant} was measured by {measured_by}; unset {RUNTIME}={runtime}")
    require(runtime, variant)
    return runtime


def require(runtime: str, variant: str) -> None:
    """Raise PipelineError where a runtime is not installed, or the machine can not compute a variant."""
    if runtime == OPENVINO and find_spec(OPENVINO) is None:
        raise PipelineError("OpenVINO is not installed; run `pip install openvino`")
    if variant == BF16:
        from pipeline.inference.openvino_session import require_bfloat16  # takes 50 MB, which others need not hold

        require_bfloat16()


def open_session(
    model_file: Path, runtime: str = ONNXRUNTIME, variant: str = FULL, threads: int | None = None
) -> tuple[Session, Computation]:
    """Open an exported model, or a variant of it, and return what it is computed by as well.

    Args:
        model_file: the ONNX file.
        runtime: one of `RUNTIMES`, as `choose_runtime` returns it.
        variant: what the file says that it is.
        threads: to compute with on a CPU; by default as `count_threads` says.

    Raises:
        PipelineError: if it is no such model.
    """
    threads = threads or count_threads()
    # Half precision is how the weights of fp16 are kept, and not how they are multiplied.
    precision = variant if variant in (INT8, BF16) else "fp32"
    if runtime == OPENVINO:
        from pipeline.inference.openvino_session import OpenVinoSession

        return OpenVinoSession(model_file, precision, threads), Computation(runtime, precision, "cpu", threads)
    session = open_onnxruntime(model_file, choose_providers(onnxruntime.get_available_providers()), threads)
    return session, Computation(runtime, precision, DEVICES[session.get_providers()[0]], threads)


def choose_providers(available: Sequence[str]) -> list[str]:
    """Return which of ONNX Runtime's providers to compute with, the preferred one first: a GPU's, if it has one."""
    return [provider for provider in PROVIDERS if provider in available]


def open_onnxruntime(
    model_file: Path, providers: Sequence[str], threads: int, *, optimize: bool = True
) -> onnxruntime.InferenceSession:
    """Open a model with ONNX Runtime.

    Where the first provider can not start, as without a driver, ONNX Runtime goes on with the next:
    `get_providers` of what is returned says which are in use.

    Raises:
        PipelineError: if it can not.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Idle threads that spin would take the processor from decoding and detection.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; it warns of every input that may be left out
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        settings = [(provider, PROVIDERS[provider]) for provider in providers]
        return onnxruntime.InferenceSession(str(model_file), options, providers=settings)
    except Exception as error:  # onnxruntime's own kinds share no public base
        raise PipelineError(f"{model_file} is no model that ONNX Runtime can open: {error}") from error
