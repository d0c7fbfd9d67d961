"""Build small bundles that are valid in every respect: a real ONNX graph, histories, golden answers, a sealed manifest.

The graph scores live articles by popularity of the segment and lifts what the customer bought, the more the newer:
score = popularity[segment] + sum over the history of 10 / age.
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

from inference.bundle import customer_key, load_bundle, seal_bundle
from inference.engine import Engine, Request

TRAINED_THROUGH = dt.date(2020, 9, 22)
LAST_DAY = (TRAINED_THROUGH - dt.date(1970, 1, 1)).days
N_SEGMENTS = 3
MAX_HISTORY = 5
PARITY = {"n_customers": 2, "top_12_overlap": 1.0, "largest_score_gap": 0.0}


def article_id(index: int) -> str:
    return f"{100_000_000 + index:010d}"


def customer_id(number: int) -> str:
    return f"{number:064x}"


def write_bundle(
    folder: Path,
    *,
    version: str = "v1",
    n_articles: int = 40,
    n_live: int = 30,
    histories: dict[str, list[tuple[int, int]]] | None = None,
    best: int = 0,
    seed: int = 0,
    facts: dict[str, Any] | None = None,
) -> Path:
    """Write and seal a bundle of articles 0..n_articles-1, of which the first n_live are live.

    `histories`: customer_id → (article_index, age in days), newest last. `best`: the most popular article.
    """
    write_files(folder, n_articles=n_articles, n_live=n_live, histories=histories, best=best, seed=seed)
    sealed = {"version": version, "cutoff_date": "2020-09-16", "trained_through": TRAINED_THROUGH.isoformat()}
    sealed |= {"max_history": MAX_HISTORY, "metrics": {"map_at_12": 0.03}, "parity": PARITY}
    sealed |= {"signals": ["all"], **(facts or {})}
    seal_bundle(folder, sealed)
    write_golden(folder, list(histories or DEFAULT_HISTORIES))
    seal_bundle(folder, sealed)
    return folder


# customer 1 bought article 7 three weeks ago and article 3 the day before; customer 2 has no purchase left
DEFAULT_HISTORIES: dict[str, list[tuple[int, int]]] = {customer_id(1): [(7, 21), (3, 1)], customer_id(2): []}


def write_files(
    folder: Path,
    *,
    n_articles: int = 40,
    n_live: int = 30,
    histories: dict[str, list[tuple[int, int]]] | None = None,
    best: int = 0,
    seed: int = 0,
) -> None:
    """Write every file but manifest.json, with an empty golden.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = sorted((customer_key(name), bought) for name, bought in (histories or DEFAULT_HISTORIES).items())
    is_live = np.arange(n_articles) < n_live
    np.save(folder / "article_ids.npy", np.array([article_id(i) for i in range(n_articles)], dtype="S10"))
    np.save(folder / "is_live.npy", is_live)
    np.save(folder / "customer_keys.npy", np.array([key for key, _ in rows], dtype=np.uint64))
    offsets = np.cumsum([0, *(len(bought) for _, bought in rows)], dtype=np.int64)
    np.save(folder / "customer_offsets.npy", offsets)
    purchases = [purchase for _, bought in rows for purchase in bought]
    np.save(folder / "history_articles.npy", np.array([index for index, _ in purchases], dtype=np.int32))
    np.save(folder / "history_days.npy", np.array([LAST_DAY + 1 - age for _, age in purchases], dtype=np.int32))
    segments = np.array([1 + i % (N_SEGMENTS - 1) for i in range(len(rows))], dtype=np.uint8)
    np.save(folder / "customer_segments.npy", segments)
    rng = np.random.default_rng(seed)
    popularity = rng.permuted(np.linspace(0.0, 1.0, n_articles, dtype=np.float32))
    popularity_SA = np.stack([np.roll(popularity, 3 * segment) for segment in range(N_SEGMENTS)])
    popularity_SA[:, best] = 2.0
    save(build_model(popularity_SA, is_live), folder / "model.onnx")
    np.save(folder / "live_articles.npy", np.arange(n_live, dtype=np.int32))
    np.save(folder / "segment_retrieval.npy", popularity_SA[:, :n_live])
    np.save(folder / "article_prices.npy", (np.arange(n_articles) + 1).astype(np.float32))
    groups = {"index_group": 2, "garment_group": 3, "product_group": 4}
    for name, n_values in groups.items():
        np.save(folder / f"{name}s.npy", (1 + np.arange(n_articles) % n_values).astype(np.int16))
    (folder / "attributes.json").write_text(
        json.dumps({name: ["", *(f"{name} {i}" for i in range(n_values))] for name, n_values in groups.items()})
    )
    lines = [
        json.dumps({"article_id": article_id(i), "name": f"Article {i}", "index_group": f"index_group {i % 2}"}) + "\n"
        for i in range(n_articles)
    ]
    (folder / "articles.jsonl").write_text("".join(lines))
    np.save(folder / "article_offsets.npy", np.cumsum([0, *map(len, lines)], dtype=np.int64))
    (folder / "golden.json").write_text("[]")


def write_golden(folder: Path, customers: list[str]) -> None:
    engine = Engine(load_bundle(folder))
    requests = [{"customer_id": name, "top_k": 12} for name in customers]
    requests.append({"article_ids": [article_id(1)], "top_k": 5})
    cases = [{"request": r, "recommendations": engine.recommend(Request(**r)).article_ids} for r in requests]
    (folder / "golden.json").write_text(json.dumps(cases))


def build_model(popularity_SA: np.ndarray, is_live: np.ndarray) -> Any:
    # One column more than there are articles takes what the padding scatters.
    masked_SA1 = np.where(is_live, popularity_SA, -1e9).astype(np.float32)
    masked_SA1 = np.concatenate([masked_SA1, np.full((len(masked_SA1), 1), -1e9, np.float32)], axis=1)
    constants = {
        "popularity": masked_SA1,
        "ten": np.array(10.0, np.float32),
        "one": np.array(1.0, np.float32),
        "zero": np.array([0], np.int64),
        "n_live_1": np.array([int(is_live.sum())], np.int64),
        "last": np.array([2], np.int64),
        "axis": np.array([1], np.int64),
        "n_live": np.array([int(is_live.sum())], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["popularity", "segment_B"], ["base"], axis=0),
        helper.make_node("Max", ["age_days_BL", "one"], ["age"]),
        helper.make_node("Div", ["ten", "age"], ["lift"]),
        helper.make_node("ScatterElements", ["base", "history_BL", "lift"], ["lifted"], axis=1, reduction="add"),
        # The live articles are the first ones, so that their positions are their indexes; the extra pool adds nothing.
        helper.make_node("Slice", ["lifted", "zero", "n_live_1", "axis"], ["live_score"]),
        helper.make_node("Slice", ["penalty_N1", "zero", "n_live_1", "zero"], ["penalty"]),
        helper.make_node("Add", ["live_score", "penalty"], ["score"]),
        helper.make_node("Min", ["top_k_1", "n_live"], ["k"]),
        helper.make_node("TopK", ["score", "k"], ["score_BK", "article_index_BK"], axis=1),
        helper.make_node("Unsqueeze", ["score_BK", "last"], ["contribution_BKG"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("history_BL", TensorProto.INT64, ["B", "L"]),
            helper.make_tensor_value_info("age_days_BL", TensorProto.FLOAT, ["B", "L"]),
            helper.make_tensor_value_info("segment_B", TensorProto.INT64, ["B"]),
            helper.make_tensor_value_info("extra_pool_P", TensorProto.INT64, ["P"]),
            helper.make_tensor_value_info("penalty_N1", TensorProto.FLOAT, [int(is_live.sum()) + 1]),
            helper.make_tensor_value_info("top_k_1", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("article_index_BK", TensorProto.INT64, ["B", "K"]),
            helper.make_tensor_value_info("score_BK", TensorProto.FLOAT, ["B", "K"]),
            helper.make_tensor_value_info("contribution_BKG", TensorProto.FLOAT, ["B", "K", 1]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    return model
