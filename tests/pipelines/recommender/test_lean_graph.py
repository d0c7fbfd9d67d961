"""The lighter graph answers the same numbers, to the bit."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from pipelines.recommender import export
from tests.pipelines.recommender.conftest import Exported

MAX_HISTORY = 16


def test_the_lighter_graph_answers_as_the_exporters_does(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = exported.folder / "model.onnx"
    monkeypatch.setattr(export, "lighten", lambda _: None)
    export.export_onnx(exported.recommender, tmp_path / "heavy.onnx", MAX_HISTORY)
    operators = {
        path: [node.op_type for node in onnx.load(path).graph.node] for path in (light, tmp_path / "heavy.onnx")
    }
    for operator in ("GatherND", "Reshape", "Concat"):
        assert operators[light].count(operator) < operators[tmp_path / "heavy.onnx"].count(operator)
    rng = np.random.default_rng(5)
    n_articles, n_live = exported.recommender.signals.n_articles, exported.recommender.signals.n_live
    penalty_N1 = rng.choice([0.0, -1e9], n_live + 1, p=[0.8, 0.2]).astype(np.float32)
    penalty_N1[-1] = -1e9
    heavy = ort.InferenceSession(str(tmp_path / "heavy.onnx"))
    lean = ort.InferenceSession(str(light))
    for n_rows, length, top_k in ((1, 1, 1), (3, 5, 12), (8, MAX_HISTORY, 30), (2, 4, 10_000)):
        feed = {
            "history_BL": rng.integers(0, n_articles + 1, (n_rows, length)),
            "age_days_BL": rng.integers(1, 700, (n_rows, length)).astype(np.float32),
            "segment_B": rng.integers(0, 7, n_rows),
            "extra_pool_P": rng.integers(0, n_live + 1, 4),
            "penalty_N1": penalty_N1,
            "top_k_1": np.array([top_k]),
        }
        answers = lean.run(None, feed)
        assert answers[1].shape == (n_rows, min(top_k, exported.recommender.signals.n_candidates))
        for expected, found in zip(heavy.run(None, feed), answers, strict=True):
            np.testing.assert_array_equal(found, expected)
