"""Writing a trained network as one ONNX file that carries what is needed to use it rightly."""

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import PipelineError
from pipeline.files import written_whole
from pipeline.networks.embedding import Projection, features_of
from pipeline.packaging.class_maps import state_of, write_out_maps
from pipeline.packaging.on_demand import put_on_demand

log = logging.getLogger(__name__)

INPUT, OUTPUT, SUMMARY = "faces", "probabilities", "embedding"
ASKED, MAPS = "explain", "maps"  # an input that may be left out, and an output that is there only if it is true
SMALL = 1024  # weights that are kept as they are, such as biases


class Probabilities(torch.nn.Module):
    """A network with the softmax behind it, so that no reader of the file can leave it out or do it twice."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Map uint8 faces (batch, size, size, 3) to float32 probabilities (batch, 7)."""
        return torch.softmax(self.network(faces).float(), dim=1)


class _Summary(torch.nn.Module):
    """A few numbers that say where in feature space a face lies."""

    mean: torch.Tensor
    components: torch.Tensor

    def __init__(self, projection: Projection) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(projection.mean))
        self.register_buffer("components", torch.from_numpy(projection.components))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map pooled features (batch, width) to their norm and principal components (batch, 1 + components)."""
        norm = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        return torch.cat([norm, (features - self.mean) @ self.components.T], dim=1)


class _Answers(torch.nn.Module):
    """A network's probabilities, and beside them its summary, its class maps, or both, from one way through it."""

    def __init__(self, network: Any, projection: Projection | None, maps: torch.nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.summary = None if projection is None else _Summary(projection)
        self.maps = maps

    def forward(self, faces: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map uint8 faces (batch, size, size, 3) to probabilities (batch, 7) and what else is known of them."""
        network, beside = self.network, []
        places = None if self.maps is None else network.places(faces)
        if self.summary is None:
            logits = network.conclude(places)
        else:
            features = features_of(network, faces) if places is None else network.pool(places)
            logits = network.judge(features)
            beside.append(self.summary(features))
        if self.maps is not None:
            beside.append(self.maps(places, *state_of(network).values()).float())
        return torch.softmax(logits.float(), dim=1), *beside


def export_onnx(
    network: torch.nn.Module,
    file: Path,
    *,
    image_size: int,
    facts: dict[str, Any],
    half: bool = False,
    projection: Projection | None = None,
) -> None:
    """Write a network as an ONNX file: input `faces`, output `probabilities`, facts in the metadata.

    Where the network can be explained, and the input `explain` is true, there is the output `maps` as well, float32
    (batch, 7, height, width): see `pipeline.packaging.class_maps.class_maps`. A network that can not is logged.

    Args:
        network: maps uint8 RGB faces (batch, size, size, 3) to logits (batch, 7); it scales its input itself.
            It is left as it was.
        file: the result, one file whatever its size; a former one is replaced when the new one is whole.
        image_size: side of the square input in pixels.
        facts: what a service must know; each value becomes a JSON string under its key in the graph's metadata.
            `labels` and `image_size` are what `pipeline.inference.predictor` asks for.
        half: keep the weights in half precision, in half the space. They are turned back when the file is opened, so
            that it takes as long as otherwise, and needs no hardware for it.
        projection: if given, there is the output `embedding` as well (batch, 1 + components), float32: the norm of the
            features and their principal components. The network must be an `ExpressionNetwork` then.
    """
    properties = {key: json.dumps(value) for key, value in facts.items()}  # before anything that takes long
    # A copy, because tracing wants it on the CPU and in evaluation, and the caller may go on training.
    network = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    # Two faces, because a batch of one is taken for a constant.
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    outputs = [OUTPUT] if projection is None else [OUTPUT, SUMMARY]
    try:
        maps = write_out_maps(network, example)
        program = _trace(_Answers(network, projection, maps), example, [*outputs, MAPS])
    except (PipelineError, torch.onnx.OnnxExporterError) as error:
        log.warning("the exported model can not explain its answers: %s", str(error).splitlines()[0])
        maps = None
        model = Probabilities(network) if projection is None else _Answers(network, projection, None)
        program = _trace(model, example, outputs)
    program.model.metadata_props.update(properties)
    with written_whole(file) as partial:
        program.save(partial, external_data=False)
        if maps is not None:
            onnx.save(put_on_demand(onnx.load(partial), MAPS, asked_by=ASKED), partial)
        if half:
            onnx.save(halve(onnx.load(partial)), partial)


def _trace(model: torch.nn.Module, example: torch.Tensor, outputs: list[str]) -> torch.onnx.ONNXProgram:
    with _quiet():
        program = torch.onnx.export(
            model.eval(),
            (example,),
            input_names=[INPUT],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # traces of its stack, with paths of this machine
    return program


def halve(model: onnx.ModelProto, kind: Any = np.float16) -> onnx.ModelProto:
    """Store the weights of a model in two bytes, each with a cast behind it, which is done once, on opening.

    The model is changed in place, and returned. The kind is NumPy's: float16 as a rule, or ml_dtypes' bfloat16.
    """
    graph, casts = model.graph, []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size >= SMALL:
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(values.astype(kind), f"{name}.half"))
            casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]  # in the order in which they run
    del graph.node[:]
    graph.node.extend(nodes)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter about its own inner workings out of the log of a stage."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
