"""Scoring every customer at once: the bundle that ships beside implicit's `recommend` on a matrix of the same size.

    python -m benchmarks.bulk ./lake/registry/bundles/VERSION --rounds 5

Both answer all customers of the bundle with their 12 best articles from arrays in memory, several rounds in turn, each
at the better of one and two threads. implicit has 64 factors for the bundle's customers and all articles of the
catalogue; fitting is not timed. implicit's work grows with the catalogue (64 multiplications for each article), ours
with the candidates, whose signals it computes: the larger the catalogue, the better ours does beside it.

The last line of --json is one JSON object: `ours` and `implicit` → customers_per_s (median), seconds of each round;
`ratio`, and its range over the rounds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import typer
from implicit.cpu.als import AlternatingLeastSquares
from rich.console import Console
from rich.table import Table
from scipy import sparse
from threadpoolctl import threadpool_limits

from inference.bundle import Bundle, load_bundle

app = typer.Typer(add_completion=False)

K = 12
FACTORS = 64
NOT_ALLOWED = -1e9
Indices = npt.NDArray[np.int64]
Score = Callable[[], Indices]
"""Answers every customer; article_index [customers, K]."""


def score_with_graph(bundle: Bundle, threads: int, batch: int, n: int) -> Score:
    """Run the bundle's graph over the first n customers.

    Those with as many purchases go together, so that little is padded; those without any are answered once for each
    segment. The answers are in the order of the bundle's customers.
    """
    manifest = bundle.manifest
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # threads over batches: within one run they mostly wait for each other
    session = ort.InferenceSession(str(bundle.model_path), options, providers=["CPUExecutionProvider"])
    offsets = np.asarray(bundle.customer_offsets, dtype=np.int64)
    starts = np.maximum(offsets[:-1], offsets[1:] - manifest.max_history)
    lengths = offsets[1:] - starts
    articles = np.append(np.asarray(bundle.history_articles, dtype=np.int64), manifest.n_articles)
    ages = np.append(np.maximum(bundle.as_of_day - np.asarray(bundle.history_days), 1), 0).astype(np.float32)
    segments = np.asarray(bundle.customer_segments, dtype=np.int64)
    fixed = {
        "extra_pool_P": np.array([manifest.n_live], np.int64),
        "penalty_N1": np.append(np.zeros(manifest.n_live, np.float32), np.float32(NOT_ALLOWED)),
        "top_k_1": np.array([K], np.int64),
    }

    def run(customers: Indices) -> Indices:
        length = max(int(lengths[customers].max()), 1)
        at_BL = offsets[customers + 1][:, None] - np.arange(length, 0, -1)
        at_BL = np.where(at_BL >= starts[customers][:, None], at_BL, len(articles) - 1)
        feed = {"history_BL": articles[at_BL], "age_days_BL": ages[at_BL], "segment_B": segments[customers]}
        return np.asarray(session.run(["article_index_BK"], feed | fixed)[0])

    def score() -> Indices:
        answers = np.empty((n, K), np.int64)
        warm = np.flatnonzero(lengths[:n])
        warm = warm[np.argsort(lengths[warm], kind="stable")]
        parts = [warm[start : start + batch] for start in range(0, len(warm), batch)]
        with ThreadPoolExecutor(threads) as workers:
            for part, articles_BK in zip(parts, workers.map(run, parts), strict=True):
                answers[part] = articles_BK
        cold = np.flatnonzero(lengths[:n] == 0)
        for segment in np.unique(segments[cold]):
            same = cold[segments[cold] == segment]
            answers[same] = run(same[:1])
        return answers

    return score


def score_with_implicit(bundle: Bundle, threads: int, n: int) -> Score:
    """Let implicit answer the first n customers as its documentation shows, a thousand at a time."""
    manifest = bundle.manifest
    shape = (manifest.n_customers, manifest.n_articles)
    articles = np.asarray(bundle.history_articles, dtype=np.int32)
    offsets = np.asarray(bundle.customer_offsets, dtype=np.int64)
    rows = np.repeat(np.arange(shape[0]), offsets[1:] - offsets[:-1])
    matrix = sparse.csr_matrix((np.ones(len(articles), np.float32), (rows, articles)), shape=shape)
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=FACTORS, iterations=2, num_threads=threads, random_state=7)
        model.fit(matrix, show_progress=False)

    def score() -> Indices:
        with threadpool_limits(1, "blas"):
            parts = [
                model.recommend(part, matrix[part], N=K, filter_already_liked_items=False)[0]
                for part in np.array_split(np.arange(n), max(1, n // 1000))
            ]
        return np.concatenate(parts).astype(np.int64)

    return score


def fastest(candidates: dict[str, Score]) -> str:
    """Name the way that answers soonest, after one round each to warm up."""
    seconds = {}
    for name, score in candidates.items():
        score()
        started = time.perf_counter()
        score()
        seconds[name] = time.perf_counter() - started
    return min(seconds, key=lambda name: seconds[name])


def measure(bundle: Bundle, rounds: int, batches: list[int], customers: int) -> dict[str, Any]:
    """Time both in turn, so that whatever else the machine does meets both alike."""
    n = min(customers or bundle.manifest.n_customers, bundle.manifest.n_customers)
    threads = range(1, max(2, len(os.sched_getaffinity(0))) + 1)[:2]
    graphs = {f"{t} thread(s), batch {b}": score_with_graph(bundle, t, b, n) for t in threads for b in batches}
    peers = {f"{t} thread(s)": score_with_implicit(bundle, t, n) for t in threads}
    chosen = {"ours": fastest(graphs), "implicit": fastest(peers)}
    score = {"ours": graphs[chosen["ours"]], "implicit": peers[chosen["implicit"]]}
    seconds: dict[str, list[float]] = {name: [] for name in score}
    for _ in range(rounds):
        for name, answer in score.items():
            started = time.perf_counter()
            answer()
            seconds[name].append(time.perf_counter() - started)
    manifest = bundle.manifest
    document: dict[str, Any] = {
        name: {"customers_per_s": n / median(times), "with": chosen[name], "seconds": times}
        for name, times in seconds.items()
    }
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["implicit"], strict=True)]
    return document | {
        "ratio": median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "n_scored": n,
        "n_customers": manifest.n_customers,
        "n_articles": manifest.n_articles,
        "n_live": manifest.n_live,
        "implicit_multiplications_per_customer": FACTORS * manifest.n_articles,
    }


@app.command()
def main(
    bundles: Annotated[list[Path], typer.Argument(help="Folders of bundles.")],
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of both in turn.")] = 5,
    batch: Annotated[str, typer.Option(help="Customers in one run of the graph; the fastest is taken.")] = "16,64",
    customers: Annotated[int, typer.Option(min=0, help="Score only the first this many; 0 = all.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line at the end.")] = False,
) -> None:
    """Score all customers of each bundle."""
    table = Table("bundle", "customers × articles (live)", "ours /s", "with", "implicit /s", "with", "ours / implicit")
    results, sizes = {}, [int(size) for size in batch.split(",")]
    for folder in bundles:
        result = results[folder.name] = measure(load_bundle(folder), rounds, sizes, customers)
        table.add_row(
            folder.name,
            f"{result['n_customers']:,} × {result['n_articles']:,} ({result['n_live']:,})",
            f"{result['ours']['customers_per_s']:,.0f}",
            result["ours"]["with"],
            f"{result['implicit']['customers_per_s']:,.0f}",
            result["implicit"]["with"],
            f"{result['ratio']:.2f} [{result['ratio_low']:.2f}, {result['ratio_high']:.2f}]",
        )
    Console(width=150).print(table)
    if as_json:
        typer.echo(json.dumps({"bundles": results}))


if __name__ == "__main__":
    app()
