"""Make the exported graph cheaper without changing what it answers: the same numbers, to the bit.

What torch's exporter writes for `table[index]` is GatherND, which copies element by element behind a call each. Of a
table of rows, Gather copies whole rows; of a table of numbers, GatherElements reads them in one typed loop. And a
ranking of which only the first top_k are asked need not be sorted to its end. Together a quarter of an answer's cost
(`python -m benchmarks.serving`).
"""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

FLAT = "lean_flat_1"


def lighten(graph: onnx.GraphProto, ranking: str, top_k: str) -> None:
    """Replace nodes in place; `ranking` is the scores that the last TopK answers, `top_k` the input with its size."""
    _read_tables_directly(graph)
    for position, node in enumerate(graph.node):
        if node.op_type == "TopK" and node.output[0] == ranking:
            # Who asks for more than there are candidates gets them all.
            graph.node.insert(position, helper.make_node("Min", [top_k, node.input[1]], ["lean_top_k_1"]))
            graph.node[position + 1].input[1] = "lean_top_k_1"
            break


def _read_tables_directly(graph: onnx.GraphProto) -> None:
    producer = {output: node for node in graph.node for output in node.output}
    rank = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    rank |= {value.name: len(value.type.tensor_type.shape.dim) for value in graph.input}
    axes = {
        tensor.name: numpy_helper.to_array(tensor).tolist()
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) == 1
    }
    nodes: list[onnx.NodeProto] = []
    flattened: dict[str, str] = {}
    for node in graph.node:
        if node.op_type != "GatherND" or any(a.name == "batch_dims" and a.i for a in node.attribute):
            nodes.append(node)
            continue
        table, indices = node.input
        unsqueeze = producer.get(indices)
        if unsqueeze is None or unsqueeze.op_type != "Unsqueeze" or table not in rank:
            nodes.append(node)
            continue
        if axes.get(unsqueeze.input[1]) != [-1]:
            nodes.append(node)
            continue
        index = unsqueeze.input[0]
        if rank[table] > 1:
            nodes.append(helper.make_node("Gather", [table, index], node.output, node.name, axis=0))
            continue
        if index not in flattened:
            flattened[index] = f"{index}_flat"
            nodes.append(helper.make_node("Shape", [index], [f"{index}_shape"]))
            nodes.append(helper.make_node("Reshape", [index, FLAT], [flattened[index]]))
        found = f"{node.output[0]}_found"
        nodes.append(helper.make_node("GatherElements", [table, flattened[index]], [found], node.name, axis=0))
        nodes.append(helper.make_node("Reshape", [found, f"{index}_shape"], node.output))
    if flattened:
        graph.initializer.append(helper.make_tensor(FLAT, onnx.TensorProto.INT64, [1], [-1]))
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    del graph.node[:]
    graph.node.extend(node for node in nodes if used.intersection(node.output))
