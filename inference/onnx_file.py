"""Read from model.onnx what decides whether it may be loaded, without the onnx package.

A protobuf message is a sequence of (field number, wire type, value); https://protobuf.dev/programming-guides/encoding/.
Only what is asked for is followed, so a graph with 100 MB of weights is read in well under a millisecond.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inference.errors import GraphRefused

FLOAT, INT64 = 1, 7  # TensorProto.DataType
ELEMENT_NAMES = {FLOAT: "float32", INT64: "int64"}
# What onnxruntime's own build carries; anything else needs a shared library.
KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
MAX_DEPTH = 16  # subgraphs within subgraphs; real graphs have one or two levels
MEND = "export the model again as the bundle contract says"

# name → (element type, rank)
INPUTS = {
    "history_BL": (INT64, 2),
    "age_days_BL": (FLOAT, 2),
    "segment_B": (INT64, 1),
    "extra_pool_P": (INT64, 1),
    "penalty_N1": (FLOAT, 1),
    "top_k_1": (INT64, 1),
}
OUTPUTS = {"article_index_BK": (INT64, 2), "score_BK": (FLOAT, 2), "contribution_BKG": (FLOAT, 3)}
OF_ONE_SIZE = frozenset({"penalty_N1", "top_k_1"})


@dataclass
class GraphFacts:
    """Inputs and outputs by name as (element type, dims; 0 for a dynamic one, None without a shape)."""

    inputs: dict[str, tuple[int, list[int] | None]] = field(default_factory=dict)
    outputs: dict[str, tuple[int, list[int] | None]] = field(default_factory=dict)
    external_files: set[str] = field(default_factory=set)
    op_domains: set[str] = field(default_factory=set)
    function_domains: set[str] = field(default_factory=set)


def check_graph(path: Path, bundle_files: set[str]) -> None:
    """Refuse a graph with other inputs or outputs, operators of third parties, or weights in files not listed."""
    facts = read_graph(path)
    foreign = facts.op_domains - KNOWN_DOMAINS - facts.function_domains
    if foreign:
        raise GraphRefused(
            f"operators of the domains {sorted(foreign)}, which need a library of their own",
            where=str(path),
            mend="export with standard operators only",
        )
    for name in sorted(facts.external_files - bundle_files):
        raise GraphRefused(
            f"weights in {name!r}, which is no file of this bundle",
            where=str(path),
            mend="keep all weights in model.onnx, or list their file in the manifest",
        )
    _check_values(path, "input", facts.inputs, INPUTS)
    _check_values(path, "output", facts.outputs, OUTPUTS)


def _check_values(
    path: Path, kind: str, found: dict[str, tuple[int, list[int] | None]], expected: dict[str, tuple[int, int]]
) -> None:
    if set(found) != set(expected):
        raise GraphRefused(f"{kind}s {sorted(found)}, expected {sorted(expected)}", where=str(path), mend=MEND)
    for name, (element_type, rank) in expected.items():
        found_type, dims = found[name]
        if found_type != element_type:
            wanted, got = ELEMENT_NAMES[element_type], ELEMENT_NAMES.get(found_type, f"ONNX type {found_type}")
            raise GraphRefused(f"{kind} {name} is {got}, expected {wanted}", where=str(path), mend=MEND)
        if dims is not None and len(dims) != rank:
            raise GraphRefused(f"{kind} {name} has {len(dims)} dimensions, expected {rank}", where=str(path), mend=MEND)
        if kind == "input" and name not in OF_ONE_SIZE and dims is not None and any(dims):
            raise GraphRefused(
                f"input {name} has the fixed dimensions {dims}", where=str(path), mend="export B and L as dynamic axes"
            )


def read_graph(path: Path) -> GraphFacts:
    """Collect the facts of a model file; GraphRefused when it is not ONNX at all."""
    facts = GraphFacts()
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # unmapped with its last view
        _read_model(memoryview(data), facts)
    except (ValueError, OSError) as error:
        raise GraphRefused(f"not an ONNX file ({error})", where=str(path), mend=MEND) from error
    if not facts.outputs:
        raise GraphRefused("no graph with outputs", where=str(path), mend=MEND)
    return facts


def _read_model(view: memoryview, facts: GraphFacts) -> None:
    for number, value in _fields(view):
        if number == 7:
            _read_graph(_message(value), facts, depth=0)
        elif number == 25:
            for inner, part in _fields(_message(value)):
                if inner == 10:
                    facts.function_domains.add(_text(part))
                elif inner == 7:
                    _read_node(_message(part), facts, depth=0)


def _read_graph(view: memoryview, facts: GraphFacts, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"graphs nested deeper than {MAX_DEPTH}")
    for number, value in _fields(view):
        if number == 1:
            _read_node(_message(value), facts, depth=depth)
        elif number == 5:
            _read_tensor(_message(value), facts)
        elif number == 15:
            _read_sparse(_message(value), facts)
        elif number in (11, 12) and depth == 0:
            name, element_type, dims = _read_value_info(_message(value))
            (facts.inputs if number == 11 else facts.outputs)[name] = (element_type, dims)


def _read_node(view: memoryview, facts: GraphFacts, *, depth: int) -> None:
    domain = ""
    for number, value in _fields(view):
        if number == 7:
            domain = _text(value)
        elif number == 5:
            for inner, part in _fields(_message(value)):
                if inner in (5, 10):
                    _read_tensor(_message(part), facts)
                elif inner in (6, 11):
                    _read_graph(_message(part), facts, depth=depth + 1)
                elif inner in (22, 23):
                    _read_sparse(_message(part), facts)
    facts.op_domains.add(domain)


def _read_sparse(view: memoryview, facts: GraphFacts) -> None:
    for number, value in _fields(view):
        if number in (1, 2):
            _read_tensor(_message(value), facts)


def _read_tensor(view: memoryview, facts: GraphFacts) -> None:
    for number, value in _fields(view):
        if number == 13:
            entry = {inner: _text(part) for inner, part in _fields(_message(value))}
            if entry.get(1) == "location":
                facts.external_files.add(entry.get(2, ""))


def _read_value_info(view: memoryview) -> tuple[str, int, list[int] | None]:
    name, element_type = "", 0
    dims: list[int] | None = None
    for number, value in _fields(view):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for kind, tensor in _fields(_message(value)):
                if kind != 1:  # a sequence, map or optional instead of a tensor
                    continue
                for inner, part in _fields(_message(tensor)):
                    if inner == 1 and isinstance(part, int):
                        element_type = part
                    elif inner == 2:
                        dims = [_read_dim(_message(dim)) for n, dim in _fields(_message(part)) if n == 1]
    return name, element_type, dims


def _read_dim(view: memoryview) -> int:
    return next((value for number, value in _fields(view) if number == 1 and isinstance(value, int)), 0)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode()


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    position, end = 0, len(view)
    while position < end:
        key, position = _varint(view, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(view, position)
            yield number, value
            continue
        if wire_type == 2:
            length, position = _varint(view, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + length > end:
            raise ValueError("it ends in the middle of a field")
        yield number, view[position : position + length]
        position += length


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(view) or shift > 63:
            raise ValueError("it ends in the middle of a number")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
