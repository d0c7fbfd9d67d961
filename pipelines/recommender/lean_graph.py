"""Make the exported graph cheaper without changing what it answers: the same numbers, to the bit.

What torch's exporter writes for `table[index]` is GatherND, which copies element by element behind a call each; Gather
copies whole rows. And it works out the sizes that a tensor is reshaped to, in several nodes, where Reshape can take
them from the tensor itself; a node that does nothing much still costs half a microsecond.
"""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

Dims = list[int | str]


def cut_ranking(graph: onnx.GraphProto, ranking: str, top_k: str) -> None:
    """Let the TopK that answers `ranking` stop after the input `top_k`; who asks for more gets all that there are."""
    for position, node in enumerate(graph.node):
        if node.op_type == "TopK" and node.output[0] == ranking:
            graph.node.insert(position, helper.make_node("Min", [top_k, node.input[1]], ["lean_top_k_1"]))
            graph.node[position + 1].input[1] = "lean_top_k_1"
            break


def lighten(graph: onnx.GraphProto) -> None:
    """Replace nodes in place; reads the shapes that the exporter noted in value_info."""
    _read_rows_directly(graph)
    _reshape_directly(graph)
    _drop_unread(graph)


def _read_rows_directly(graph: onnx.GraphProto) -> None:
    producer = {output: node for node in graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "GatherND" or any(a.name == "batch_dims" and a.i for a in node.attribute):
            continue
        unsqueeze = producer.get(node.input[1])
        if unsqueeze is None or unsqueeze.op_type != "Unsqueeze" or unsqueeze.input[1] not in tensors:
            continue
        if numpy_helper.to_array(tensors[unsqueeze.input[1]]).tolist() == [-1]:
            row, table = unsqueeze.input[0], node.input[0]
            node.CopyFrom(helper.make_node("Gather", [table, row], node.output, node.name, axis=0))


def _reshape_directly(graph: onnx.GraphProto) -> None:
    shapes = {value.name: _dims(value) for value in (*graph.value_info, *graph.input)}
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] in constants:
            continue
        before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
        if before is None or after is None:
            continue
        # To Reshape, 0 is the size that the tensor has there, and -1 what is left.
        sizes = [
            dim if isinstance(dim, int) else 0 if at < len(before) and before[at] == dim else -1
            for at, dim in enumerate(after)
        ]
        if sizes.count(-1) <= 1:
            name = f"{node.output[0]}_sizes"
            graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.INT64, [len(sizes)], sizes))
            node.CopyFrom(helper.make_node("Reshape", [node.input[0], name], node.output, node.name))


def _dims(value: onnx.ValueInfoProto) -> Dims:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):  # they come after what they read
        if read.intersection(node.output):
            nodes.append(node)
            read.update(node.input)
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(tensors)
