"""Write a fitted recommender as the files of a bundle, and prove that the serving engine answers as torch does."""

from __future__ import annotations

import json
import logging
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch.export import Dim

from inference.bundle import customer_key, load_bundle
from inference.engine import Engine, Request
from pipelines.errors import ArtefactError
from pipelines.recommender.histories import histories_of
from pipelines.recommender.interactions import Int32, Interactions
from pipelines.recommender.lean_graph import cut_ranking, lighten
from pipelines.recommender.model import SIGNAL_GROUPS, Recommender
from pipelines.recommender.serving_graph import ServingGraph
from pipelines.recommender.shop import Shop

MAX_TOP_K = 100
N_PARITY_CUSTOMERS = 256
N_GOLDEN = 24
MIN_OVERLAP = 0.995
OPSET = 20
EPOCH = date(1970, 1, 1)
INPUTS = ("history_BL", "age_days_BL", "segment_B", "extra_pool_P", "penalty_N1")
OUTPUTS: dict[str, tuple[int, list[str | int]]] = {
    "article_index_BK": (onnx.TensorProto.INT64, ["B", "K"]),
    "score_BK": (onnx.TensorProto.FLOAT, ["B", "K"]),
    "contribution_BKG": (onnx.TensorProto.FLOAT, ["B", "K", len(SIGNAL_GROUPS)]),
}


def export_onnx(recommender: Recommender, path: Path, max_history: int) -> None:
    """Write the graph with its weights inside; the same model gives the same bytes."""
    n_articles = recommender.signals.n_articles
    example = (
        torch.full((2, 3), n_articles, dtype=torch.int64),
        torch.zeros((2, 3)),
        torch.zeros(2, dtype=torch.int64),
        torch.full((3,), recommender.signals.n_live, dtype=torch.int64),
        recommender.signals.nothing_extra()[1],
    )
    B, L = Dim("B", min=1, max=65536), Dim("L", min=1, max=max(max_history, 4))
    P = Dim("P", min=1, max=1 << 20)
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)  # it warns of operators of packages that we do not have
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            program = torch.onnx.export(
                ServingGraph(recommender, max_history).eval(),
                example,
                dynamo=True,
                input_names=INPUTS,
                output_names=tuple(OUTPUTS),
                dynamic_shapes=({0: B, 1: L}, {0: B, 1: L}, {0: B}, {0: P}, None),
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        exporter_log.setLevel(level)
    assert program is not None
    model = program.model_proto
    # The exporter notes source lines and paths of this machine in every node.
    for holder in (model, model.graph):
        del holder.metadata_props[:]
    for item in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    lighten(model.graph)
    cut_ranking(model.graph, ranking="score_BK", top_k="top_k_1")
    model.graph.input.append(onnx.helper.make_tensor_value_info("top_k_1", onnx.TensorProto.INT64, [1]))
    # What follows from the ranking is cut with it: the shapes that the exporter noted are true no more.
    del model.graph.value_info[:]
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in OUTPUTS.items()
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def write_bundle_files(folder: Path, recommender: Recommender, shop: Shop, day: int, max_history: int) -> None:
    """Write every file of a bundle but the manifest; `day` is the first day that the shipped model did not see."""
    past = shop.interactions.before(day)
    export_onnx(recommender, folder / "model.onnx", max_history)
    signals = recommender.signals
    is_live = np.zeros(shop.catalogue.n_articles, dtype=np.bool_)
    live_N = signals.live_N1[:-1].numpy()
    is_live[live_N] = True
    keys = np.array([customer_key(customer_id) for customer_id in shop.customer_ids], dtype=np.uint64)
    order = np.argsort(keys, kind="stable")
    clash = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if len(clash):
        pair = [shop.customer_ids[order[clash[0] + i]] for i in (0, 1)]
        raise ArtefactError(f"customers {pair[0]!r} and {pair[1]!r} have the same 64-bit key; rename one of them")
    # Whole histories: the graph reads the newest of one, and what was bought before may be asked to be left out too.
    starts = past.offsets[order]
    lengths = past.offsets[order + 1] - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.repeat(starts - offsets[:-1], lengths)
    rows += np.arange(len(rows))
    first_day = (shop.first_day - EPOCH).days
    arrays: dict[str, npt.NDArray[Any]] = {
        "article_ids": np.array(shop.catalogue.article_ids, dtype="S10"),
        "is_live": is_live,
        "customer_keys": keys[order],
        "customer_offsets": offsets,
        "history_articles": past.article[rows].astype(np.int32),
        "history_days": (past.day[rows] + first_day).astype(np.int32),
        "customer_segments": shop.segments[order],
        "live_articles": live_N.astype(np.int32),
        "segment_retrieval": signals.retrieval.popularity_SN().numpy(),
        "article_prices": usual_prices(past),
    }
    attributes = {
        "index_group": shop.index_groups,
        "garment_group": shop.garment_groups,
        "product_group": shop.product_groups,
    }
    names_of: dict[str, list[str]] = {}
    for attribute, values in attributes.items():
        names_of[attribute] = ["", *sorted({value for value in values if value})]
        code = {name: number for number, name in enumerate(names_of[attribute])}
        arrays[f"{attribute}s"] = np.array([code[value or ""] for value in values], dtype=np.int16)
    (folder / "attributes.json").write_text(json.dumps(names_of, ensure_ascii=False) + "\n", encoding="utf-8")
    arrays["article_offsets"] = _write_articles(folder / "articles.jsonl", shop)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    golden = _golden_requests(recommender, shop, past, day, max_history)
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


def usual_prices(past: Interactions) -> npt.NDArray[np.float32]:
    """Mean price of each article in the 91 newest days that sold it, else in all of them; nan when never sold; [A]."""
    newest = past.between(int(past.day.max(initial=0)) - 90, int(past.day.max(initial=0)) + 1)
    prices_A = np.full(past.n_articles, np.nan, dtype=np.float32)
    for rows in (past, newest):
        n_sold = np.bincount(rows.article, minlength=past.n_articles)
        total = np.bincount(rows.article, rows.price, past.n_articles)
        sold = n_sold > 0
        prices_A[sold] = (total[sold] / n_sold[sold]).astype(np.float32)
    return prices_A


def _write_articles(path: Path, shop: Shop) -> npt.NDArray[np.int64]:
    """Write one line for each article; returns where each begins, in bytes; [A + 1]."""
    fields = ("article_id", "name", "product_type", "colour", "index_group", "garment_group", "product_group")
    columns = (
        shop.catalogue.article_ids,
        shop.catalogue.names,
        shop.product_types,
        shop.colours,
        shop.index_groups,
        shop.garment_groups,
        shop.product_groups,
    )
    sizes = [0]
    with path.open("wb") as file:
        for row in zip(*columns, strict=True):
            sizes.append(
                file.write(json.dumps(dict(zip(fields, row, strict=True)), ensure_ascii=False).encode() + b"\n")
            )
    return np.cumsum(sizes, dtype=np.int64)


def answer_with_torch(
    recommender: Recommender,
    past: Interactions,
    customers: Int32,
    segments: npt.NDArray[np.uint8],
    day: int,
    max_history: int,
    k: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Answer known customers without the serving engine: article_index and score, [B, k] each."""
    history = histories_of(past, customers, day, max_history)
    with torch.inference_mode():
        index_BC, score_BC, _, _ = recommender(
            torch.from_numpy(history.history_BL),
            torch.from_numpy(history.age_days_BL),
            torch.from_numpy(segments[customers].astype(np.int64)),
            *recommender.signals.nothing_extra(),
        )
    return index_BC[:, :k].numpy(), score_BC[:, :k].numpy()


def _spread(past: Interactions, n: int) -> Int32:
    """Choose up to n customers evenly by length of history, the longest included; ties by customer_index."""
    lengths = np.diff(past.offsets)
    order = np.lexsort((np.arange(len(lengths)), lengths))
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(n, len(order))).astype(np.int64))]
    return chosen.astype(np.int32)


def _golden_requests(
    recommender: Recommender, shop: Shop, past: Interactions, day: int, max_history: int
) -> list[dict[str, Any]]:
    """Requests that every server of this bundle must answer as torch did, before it takes traffic."""
    customers = _spread(past, N_GOLDEN)
    index_BK, _ = answer_with_torch(recommender, past, customers, shop.segments, day, max_history, 12)
    ids = shop.catalogue.article_ids
    return [
        {
            "request": {"customer_id": shop.customer_ids[customer], "top_k": 12},
            "recommendations": [ids[article] for article in row],
        }
        for customer, row in zip(customers.tolist(), index_BK.tolist(), strict=True)
    ]


def certify_parity(folder: Path, recommender: Recommender, shop: Shop, day: int, max_history: int) -> dict[str, Any]:
    """Ask the sealed bundle through the serving engine, at one thread, what torch was asked.

    Returns the largest score gap and the overlap of the top 12; raises ArtefactError when fewer than
    99.5 % of the articles agree. Times and memory go to the report, not here: a bundle's bytes hold no clock.
    """
    past = shop.interactions.before(day)
    customers = _spread(past, N_PARITY_CUSTOMERS)
    index_BK, score_BK = answer_with_torch(recommender, past, customers, shop.segments, day, max_history, 12)
    engine = Engine(load_bundle(folder), threads=1)
    answers = engine.recommend_batch(
        [Request(customer_id=shop.customer_ids[customer], top_k=index_BK.shape[1]) for customer in customers.tolist()]
    )
    ids = np.array(shop.catalogue.article_ids)
    overlaps, gaps = [], []
    for answer, row, scores in zip(answers, index_BK, score_BK, strict=True):
        expected = ids[row]
        overlaps.append(len(set(answer.article_ids) & set(expected.tolist())) / max(1, len(expected)))
        gaps.append(float(np.abs(np.sort(answer.scores) - np.sort(scores)).max(initial=0.0)))
    overlap = float(np.mean(overlaps)) if overlaps else 1.0
    if overlap < MIN_OVERLAP:
        if (score_BK.max(axis=1) == score_BK.min(axis=1)).all():
            raise ArtefactError(
                f"the model gives each of the {len(customers)} customers' articles one and the same score: it has "
                "learned nothing, and is not registered; see learning_rate and weight_decay in hyperparameters, and "
                "the losses in the log"
            )
        raise ArtefactError(
            f"the exported graph and torch agree on {overlap:.4f} of the top 12 of {len(customers)} customers, "
            f"at least {MIN_OVERLAP} is needed; the bundle is not registered"
        )
    return {
        "n_customers": len(customers),
        "top_12_overlap": round(overlap, 6),
        "largest_score_gap": float(f"{max(gaps, default=0.0):.1e}"),
        "opset": OPSET,
    }
