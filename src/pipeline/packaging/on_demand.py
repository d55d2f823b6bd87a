"""Outputs of an ONNX graph that are computed only when they are asked for.

ONNX Runtime runs every node of a graph, also those that lead to no output that was asked for. What only an output on
demand needs is therefore moved into a branch.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def put_on_demand(model: onnx.ModelProto, output: str, asked_by: str) -> onnx.ModelProto:
    """Let a graph compute one of its outputs, float32 (batch, ...), only if a new input says so.

    Args:
        model: changed in place.
        output: what is computed on demand; the file's other outputs stay as they are.
        asked_by: name of the new input, a bool; false where it is not given, and the output has no rows then.
    """
    graph = model.graph
    needed = {value.name for value in graph.output if value.name != output}
    always: list[onnx.NodeProto] = []
    branch: list[onnx.NodeProto] = []
    for node in reversed(graph.node):  # in the order in which they run, so users come before makers
        chosen = always if needed & set(node.output) else branch
        chosen.insert(0, node)
        if chosen is always:
            needed |= set(node.input)
    shape = [dim.dim_value for dim in next(v for v in graph.output if v.name == output).type.tensor_type.shape.dim[1:]]
    for node in branch:
        for names in (node.input, node.output):
            names[:] = [f"{output}.asked" if name == output else name for name in names]
    none = helper.make_node(
        "Constant", [], [f"{output}.none"], value=numpy_helper.from_array(np.zeros((0, *shape), np.float32))
    )
    asked_for, not_asked_for = _value(f"{output}.asked", "batch", shape), _value(f"{output}.none", 0, shape)
    branches = {
        "then_branch": helper.make_graph(branch, f"{output} asked for", [], [asked_for]),
        "else_branch": helper.make_graph([none], f"{output} not asked for", [], [not_asked_for]),
    }
    nodes = [*always, helper.make_node("If", [asked_by], [output], **branches)]
    outputs = [_value(output, "asked", shape) if value.name == output else value for value in graph.output]
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.extend(outputs)
    graph.input.append(helper.make_tensor_value_info(asked_by, TensorProto.BOOL, []))
    graph.initializer.append(numpy_helper.from_array(np.array(False), asked_by))
    onnx.checker.check_model(model)
    return model


def _value(name: str, rows: str | int, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, *shape])
