"""Bundles that somebody damaged or made up: each is refused, and says why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from inference.bundle import (
    ArrayInvalid,
    BundleError,
    FileDamaged,
    GraphRefused,
    ManifestInvalid,
    load_bundle,
    seal_bundle,
    verify_bundle,
)
from inference.engine import Engine
from tests.inference.tiny_bundle import MAX_HISTORY, PARITY, write_bundle

FACTS = {
    "version": "v1",
    "cutoff_date": "2020-09-16",
    "trained_through": "2020-09-22",
    "max_history": MAX_HISTORY,
    "parity": PARITY,
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def edit_model(folder: Path, change: Callable[[onnx.ModelProto], Any]) -> None:
    model = onnx.load(folder / "model.onnx")
    change(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def flip_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


def test_names_that_end_before_their_offsets_are_refused(bundle: Path) -> None:
    names = bundle / "articles.jsonl"
    names.write_bytes(names.read_bytes()[:-9])
    with pytest.raises(ArrayInvalid, match=r"ends at [\d,]+, articles\.jsonl at [\d,]+ bytes"):
        seal_bundle(bundle, FACTS)


def test_a_changed_byte_in_any_file_is_refused(bundle: Path) -> None:
    for path in sorted(bundle.iterdir()):
        if path.name != "manifest.json":
            flip_byte(path, -1)
            with pytest.raises(
                FileDamaged, match=rf"{path.name}: sha256 .* the manifest says .*; copy the bundle again"
            ):
                verify_bundle(bundle)
            flip_byte(path, -1)
    verify_bundle(bundle)


def test_a_truncated_file_is_refused(bundle: Path) -> None:
    path = bundle / "model.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FileDamaged, match=r"model.onnx: [\d,]+ bytes, the manifest says"):
        verify_bundle(bundle)


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / "is_live.npy").unlink()
    with pytest.raises(FileDamaged, match=r"is_live.npy: the file is missing"):
        verify_bundle(bundle)


def test_a_file_that_the_manifest_leaves_out_is_refused(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest["files"].pop("model.onnx"))
    with pytest.raises(ManifestInvalid, match=r"files does not name model.onnx"):
        verify_bundle(bundle)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b", "..", ".hidden", "", "a\x00b", "a" * 200])
def test_a_name_that_leaves_the_folder_is_refused(bundle: Path, name: str) -> None:
    edit_manifest(bundle, lambda manifest: manifest["files"].update({name: {"sha256": "0" * 64, "size_bytes": 1}}))
    with pytest.raises(ManifestInvalid, match="not a plain file name"):
        verify_bundle(bundle)


def test_a_link_out_of_the_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "golden.json").rename(tmp_path / "golden.json")
    (bundle / "golden.json").symlink_to(tmp_path / "golden.json")
    with pytest.raises(FileDamaged, match=r"golden.json: a link out of the folder"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "a JSON list, expected an object"),
        ("[" * 100_000, "not JSON"),
        ("{}", "format_version None, this server reads 2"),
        ('{"format_version": 1}', "format_version 1, this server reads 2; serve it with the release that made it"),
        ('{"format_version": 2}', "version: Field required.*files: Field required"),
        (" " * (2 << 20), "2,097,152 bytes, at most 1,048,576"),
    ],
)
def test_a_manifest_that_is_none_is_refused(bundle: Path, text: str, message: str) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(ManifestInvalid, match=message):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", "../v1", "version: String should match"),
        ("n_articles", 10**15, "n_articles: Input should be less than"),
        ("n_articles", 41, "article_ids.npy: has 40 entries, expected 41"),
        ("n_live", 50, "n_live 50 exceeds n_articles 40"),
        ("n_live", 29, "is_live.npy: marks 30 articles, the manifest says 29"),
        ("max_history", 0, "max_history: Input should be greater"),
        ("trained_through", "yesterday", "trained_through: Input should be a valid date"),
    ],
)
def test_a_manifest_that_says_what_cannot_be_is_refused(bundle: Path, field: str, value: Any, message: str) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update({field: value}))
    with pytest.raises(BundleError, match=message):
        verify_bundle(bundle)


@pytest.mark.parametrize("shape", ["(99999999999999,)", "(-1,)", "(9999999999999999999999,)", "('a',)"])
def test_absurd_dimensions_in_an_array_are_refused_without_allocating(bundle: Path, shape: str) -> None:
    header = f"{{'descr': '|b1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    (bundle / "is_live.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(BundleError, match=r"is_live.npy: not a readable .npy file"):
        seal_bundle(bundle, FACTS)


def test_a_pickle_in_the_place_of_an_array_is_refused(bundle: Path) -> None:
    np.save(bundle / "is_live.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BundleError, match=r"is_live.npy"):
        seal_bundle(bundle, FACTS)


def test_a_graph_with_operators_of_third_parties_is_refused(bundle: Path) -> None:
    edit_model(bundle, lambda model: setattr(model.graph.node[0], "domain", "evil.ops"))
    with pytest.raises(GraphRefused, match=r"operators of the domains \['evil.ops'\]"):
        seal_bundle(bundle, FACTS)


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret.bin", "weights.bin"])
def test_a_graph_with_weights_in_a_file_not_listed_is_refused(bundle: Path, location: str) -> None:
    def move_out(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    edit_model(bundle, move_out)
    with pytest.raises(GraphRefused, match=rf"weights in '{location}', which is no file of this bundle"):
        seal_bundle(bundle, FACTS)


def test_weights_outside_hidden_in_a_subgraph_are_refused(bundle: Path) -> None:
    def hide(model: onnx.ModelProto) -> None:
        tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="/etc/shadow")
        inner = helper.make_graph([helper.make_node("Constant", [], ["w"], value=tensor)], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["c"], ["w"], then_branch=inner, else_branch=inner))

    edit_model(bundle, hide)
    with pytest.raises(GraphRefused, match="weights in '/etc/shadow'"):
        seal_bundle(bundle, FACTS)


def test_a_graph_with_other_inputs_types_or_ranks_is_refused(bundle: Path) -> None:
    original = (bundle / "model.onnx").read_bytes()
    for change, message in (
        (lambda m: setattr(m.graph.input[0], "name", "clicks"), r"inputs \['age_days_BL', 'clicks'"),
        (
            lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 6),
            "input history_BL is ONNX type 6, expected int64",
        ),
        (lambda m: m.graph.output[1].type.tensor_type.shape.dim.add(), "output score_BK has 3 dimensions, expected 2"),
        (
            lambda m: setattr(m.graph.input[1].type.tensor_type.shape.dim[0], "dim_value", 1),
            r"input age_days_BL has the fixed dimensions \[1, 0\]",
        ),
    ):
        (bundle / "model.onnx").write_bytes(original)
        edit_model(bundle, change)
        with pytest.raises(GraphRefused, match=message):
            seal_bundle(bundle, FACTS)


@pytest.mark.parametrize(
    "content", [b"", b"hello, I am not a graph", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 100, b"\x80" * 50]
)
def test_what_is_not_onnx_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "model.onnx").write_bytes(content)
    with pytest.raises(GraphRefused, match=r"not an ONNX file|no graph with outputs"):
        seal_bundle(bundle, FACTS)


def test_graphs_nested_without_end_are_refused(bundle: Path) -> None:
    inner = helper.make_graph([], "leaf", [], [])
    for _ in range(20):
        inner = helper.make_graph([helper.make_node("If", ["c"], [], then_branch=inner)], "nest", [], [])
    edit_model(bundle, lambda model: model.graph.node.append(inner.node[0]))
    with pytest.raises(GraphRefused, match="graphs nested deeper than 16"):
        seal_bundle(bundle, FACTS)


def replace_weights(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    def replace(model: onnx.ModelProto) -> None:
        weights = model.graph.initializer[0]
        weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights).copy()), weights.name))

    edit_model(folder, replace)
    seal_bundle(folder, FACTS)
    verify_bundle(folder)


def test_a_graph_that_scores_nan_is_refused_when_loaded(bundle: Path) -> None:
    replace_weights(bundle, lambda weights: weights * np.float32(np.nan))
    with pytest.raises(GraphRefused, match="answers scores that are not finite"):
        Engine(load_bundle(bundle))


def test_a_graph_that_recommends_articles_that_are_not_live_is_refused_when_loaded(bundle: Path) -> None:
    replace_weights(bundle, np.zeros_like)  # the mask went with the weights
    live_last = np.load(bundle / "is_live.npy")[::-1].copy()
    np.save(bundle / "is_live.npy", live_last)
    np.save(bundle / "live_articles.npy", np.flatnonzero(live_last).astype(np.int32))
    seal_bundle(bundle, FACTS)
    with pytest.raises(GraphRefused, match="answers articles that are not live"):
        Engine(load_bundle(bundle))


def test_a_graph_of_other_weights_fails_its_golden_requests(bundle: Path) -> None:
    replace_weights(bundle, lambda weights: np.where(weights > -1, 2 - weights, weights).astype(np.float32))
    engine = Engine(load_bundle(bundle))
    with pytest.raises(GraphRefused, match=r"golden.json: answers share \d+.\d% of the recorded ones"):
        engine.certify()


def test_an_operator_that_onnxruntime_does_not_have_is_refused_when_loaded(bundle: Path) -> None:
    edit_model(bundle, lambda model: setattr(model.graph.node[0], "op_type", "NoSuchOperator"))
    seal_bundle(bundle, FACTS)
    with pytest.raises(GraphRefused, match="onnxruntime refuses it"):
        Engine(load_bundle(bundle))


PROVE_NOTHING = [(text, "proves nothing") for text in ("[]", '[{"request": {"top": 3}, "recommendations": []}]')]


def test_golden_requests_that_are_none_are_refused(bundle: Path) -> None:
    no_lists = [(text, "not a list") for text in ("{", '[{"request": {}}]', "[1]")]
    for text, message in (*no_lists, *PROVE_NOTHING):
        (bundle / "golden.json").write_text(text)
        seal_bundle(bundle, FACTS)
        with pytest.raises(ManifestInvalid, match=message):
            Engine(load_bundle(bundle)).certify()
    case = '[{"request": {"top": 3, "customer_id": "c0ffee"}, "recommendations": ["0000000001"]}]'
    (bundle / "golden.json").write_text(case)
    seal_bundle(bundle, FACTS)
    with pytest.raises(GraphRefused, match=r"golden.json: the request of case 0 fails") as refused:
        Engine(load_bundle(bundle)).certify()
    assert "c0ffee" not in str(refused.value)


def test_a_segment_that_the_graph_does_not_know_is_refused(bundle: Path) -> None:
    np.save(bundle / "customer_segments.npy", np.array([1, 200], np.uint8))
    with pytest.raises(BundleError, match="expected at least 201 segments by 30 articles"):
        seal_bundle(bundle, FACTS)
    np.save(bundle / "segment_retrieval.npy", np.zeros((201, 30), np.float32))
    seal_bundle(bundle, FACTS)
    with pytest.raises(GraphRefused, match=r"it fails for the segments \[1, 200\]"):
        Engine(load_bundle(bundle)).certify()


@pytest.mark.parametrize(
    ("parity", "message"),
    [
        (None, "no parity certificate.*only training can certify"),
        (PARITY | {"top_12_overlap": 0.98}, "parity.top_12_overlap: Input should be greater than or equal to 0.995"),
        (PARITY | {"largest_score_gap": 3.0}, "parity.largest_score_gap: Input should be less than"),
        ({"n_customers": 2}, "parity.top_12_overlap: Field required"),
    ],
)
def test_a_bundle_without_a_valid_certificate_is_refused(bundle: Path, parity: Any, message: str) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(parity=parity))
    with pytest.raises(BundleError, match=message):
        verify_bundle(bundle)
