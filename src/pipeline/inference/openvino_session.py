"""An exported model that OpenVINO computes, used as one of ONNX Runtime is."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13

from pipeline.errors import PipelineError

ASKED = "explain"  # as `pipeline.packaging.export`, which takes torch to import, has it: an input that may be left out
# It is told, as OpenVINO chooses bfloat16 by itself where it can. Integers stay integers, whatever is between them.
PRECISIONS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}


class Output(NamedTuple):
    """An output of a model."""

    name: str


class OpenVinoSession:
    """A model on the CPU; safe among threads."""

    def __init__(self, model_file: Path, precision: str, threads: int) -> None:
        """Open a model that `pipeline.packaging.export` wrote.

        Args:
            model_file: the ONNX file.
            precision: fp32, int8 or bf16.
            threads: to compute with.

        Raises:
            PipelineError: if OpenVINO can not open it, or would compute in another precision.
        """
        self._file, self._core = model_file, openvino.Core()
        self._settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,  # the network answers one batch at a time
        }
        self._answering = self._open(explain=False)
        used = self._answering.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != PRECISIONS[precision]:
            raise PipelineError(f"OpenVINO computes {model_file} in {used} here, and not in {precision}")

    def get_outputs(self) -> Sequence[Output]:
        """Return the outputs that can be asked for."""
        return [Output(output.any_name) for output in self._answering.compiled.outputs]

    def run(self, asked: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return some of the outputs for inputs by name."""
        network = self._explaining if feeds.get(ASKED) else self._answering
        with network.request() as request:
            request.infer({name: value for name, value in feeds.items() if name != ASKED})
            return [np.array(request.get_tensor(name).data) for name in asked]

    @cached_property
    def _explaining(self) -> "_Network":
        return self._open(explain=True)  # a second network, as few need it

    def _open(self, *, explain: bool) -> "_Network":
        try:
            model = self._core.read_model(self._file)
            _answer(model, explain)
            return _Network(self._core.compile_model(model, "CPU", self._settings))
        except RuntimeError as error:
            raise PipelineError(f"{self._file} is no model that OpenVINO can open: {error}") from error


class _Network:
    """A compiled model with its requests, each of which one thread at a time may use."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self.compiled = compiled
        self._idle = [compiled.create_infer_request()]

    @contextmanager
    def request(self) -> Iterator[openvino.InferRequest]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.compiled.create_infer_request()
        try:
            yield request
        finally:
            self._idle.append(request)


def require_bfloat16() -> None:
    """Raise PipelineError where the CPU does not compute in bfloat16."""
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise PipelineError("this machine's CPU does not compute in bfloat16 (AVX512-BF16 or AMX)")


def _answer(model: openvino.Model, explain: bool) -> None:
    """Decide whether a model explains: OpenVINO takes the input that asks for it for a constant, always false."""
    for node in model.get_ordered_ops():
        if node.get_friendly_name() == ASKED:
            decided = opset13.constant(explain, openvino.Type.boolean)
            for use in node.output(0).get_target_inputs():
                use.replace_source_output(decided.output(0))
    model.validate_nodes_and_infer_types()
