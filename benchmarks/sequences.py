"""The sequence encoder on a public leave-one-out file, with co-purchases mixed in as the shipped ranker mixes signals.

    python -m benchmarks.sequences beauty.txt --seeds 3 --json

FILE: one customer a line, `customer item item …` in time order. The last item tests, the one before validates, the rest
trains; every item that the customer has not had is ranked. The score is the encoder's log probability plus a weight
times log(1 + co-purchase strength); only that weight is chosen here, on validation. The last line of --json is one JSON
object: hr_at_10, ndcg_at_10 (means over seeds), their 95 % bootstrap intervals over customers, seconds and cpu_seconds
of one seed, the same of validation and of each signal alone, and every seed's own.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy import sparse

from pipelines.recommender.interactions import Float32, Int32, Int64
from pipelines.recommender.sequence import EncoderShape, SequenceModel
from pipelines.recommender.sequence_fitting import SequenceEpoch, SequenceSettings, fit_sequence_encoder

app = typer.Typer(add_completion=False)

SETTINGS = SequenceSettings(
    shape=EncoderShape(width=64, n_heads=2, n_layers=2, max_history=50, dropout=0.5, uses_time=False),
    n_epochs=20,
    learning_rate=2e-3,
    positions_per_batch=512,
    max_articles_compared=4096,
)
WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)
STEP_DECAY = 0.7
"""What each further purchase between two takes from their co-purchase."""
HISTORY_DECAY = 0.7
"""What each later purchase takes from an earlier one's say."""
CUSTOMERS_AT_ONCE = 1000


@dataclass(frozen=True)
class Runs:
    """Customers' items, oldest first: customer c has items[offsets[c]:offsets[c + 1]]."""

    items: Int32
    offsets: Int64
    n_items: int

    @property
    def n_customers(self) -> int:
        return len(self.offsets) - 1

    def without_last(self, n: int) -> Runs:
        """Drop the newest n items of every customer."""
        lengths = np.diff(self.offsets) - n
        keep = np.ones(len(self.items), dtype=np.bool_)
        for back in range(1, n + 1):
            keep[self.offsets[1:] - back] = False
        return Runs(self.items[keep], np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), self.n_items)

    def last(self) -> Int64:
        """The newest item of every customer."""
        return self.items[self.offsets[1:] - 1].astype(np.int64)


def read_runs(path: Path) -> Runs:
    """Read the file; raises typer.BadParameter at the first line without a customer and three whole-number items."""
    rows: list[Int32] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = np.array(line.split()[1:], dtype=np.int32)
            except ValueError as error:
                raise typer.BadParameter(f"{path} line {number}: {error}; items are whole numbers") from error
            if len(row) < 3:
                raise typer.BadParameter(
                    f"{path} line {number} has {len(row)} items; 3 are needed: one to train on, one to validate, "
                    "one to test; drop such customers first"
                )
            rows.append(row)
    if not rows:
        raise typer.BadParameter(f"{path} is empty; write one customer a line: customer item item item …")
    ids, items = np.unique(np.concatenate(rows), return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Runs(items.astype(np.int32), offsets, len(ids))


def copurchase_strength(runs: Runs) -> sparse.csr_matrix:
    """How strongly each item speaks for each other: decayed co-purchases over both counts' roots; [A, A]."""
    rows, columns, weights = [], [], []
    for step in range(1, 51):
        first = np.arange(len(runs.items) - step)
        same = np.searchsorted(runs.offsets, first, side="right") == np.searchsorted(
            runs.offsets, first + step, side="right"
        )
        first = first[same]
        rows += [runs.items[first], runs.items[first + step]]
        columns += [runs.items[first + step], runs.items[first]]
        # What came after speaks more for an item than what came before.
        forth = np.full(len(first), STEP_DECAY ** (step - 1), dtype=np.float32)
        weights += [forth, STEP_DECAY * forth]
    shape = (runs.n_items, runs.n_items)
    pairs = sparse.csr_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    counts = np.maximum(np.bincount(runs.items, minlength=runs.n_items), 1).astype(np.float32)
    scale = sparse.diags(1 / np.sqrt(counts))
    return (scale @ pairs @ scale).tocsr()


def _history_weights(runs: Runs) -> sparse.csr_matrix:
    """Each customer's items, the newest with weight 1; [C, A]."""
    back = np.repeat(runs.offsets[1:], np.diff(runs.offsets)) - 1 - np.arange(len(runs.items))
    weights = (HISTORY_DECAY ** np.minimum(back, 200)).astype(np.float32)
    return sparse.csr_matrix((weights, runs.items, runs.offsets), shape=(runs.n_customers, runs.n_items))


def _encoded(model: SequenceModel, runs: Runs, first: int, last: int) -> Float32:
    """The encoder's log probability of every item; [last - first, A]."""
    starts, ends = runs.offsets[first:last], runs.offsets[first + 1 : last + 1]
    lengths = np.minimum(ends - starts, model.encoder.shape.max_history)
    column = np.arange(lengths.max()) - lengths.max()
    is_bought = -column <= lengths[:, None]
    history = np.where(is_bought, runs.items[np.where(is_bought, ends[:, None] + column, 0)], runs.n_items)
    with torch.inference_mode():
        state = model(torch.from_numpy(history.astype(np.int64)), torch.zeros(history.shape))
        log_probability: Float32 = torch.log_softmax(state @ model.article_vectors_AD.T, dim=1).numpy()
    return log_probability


def rank_targets(
    model: SequenceModel, strength: sparse.csr_matrix, runs: Runs, targets: Int64, weights: tuple[float, ...]
) -> Iterator[Int64]:
    """Rank each customer's target, from 0, among what the customer has not had, ties against it.

    Yields [customers, len(weights) + 1] for a slice of customers at a time: one column for each co-purchase weight and
    the last for co-purchases alone.
    """
    history = _history_weights(runs)
    usual = np.float32(strength.mean())
    for first in range(0, runs.n_customers, CUSTOMERS_AT_ONCE):
        last = min(first + CUSTOMERS_AT_ONCE, runs.n_customers)
        copurchase = history[first:last] @ strength
        copurchase.data = np.log1p(copurchase.data / usual)
        copurchase = copurchase.toarray().astype(np.float32, copy=False)
        encoded = _encoded(model, runs, first, last)
        seen = history[first:last].tocoo()
        encoded[seen.row, seen.col] = -np.inf
        target = targets[first:last, None]
        columns = []
        for weight in (*weights, None):  # one array of scores at a time
            scores = copurchase if weight is None else encoded + np.float32(weight) * copurchase
            scores[seen.row, seen.col] = -np.inf
            columns.append((scores >= np.take_along_axis(scores, target, axis=1)).sum(axis=1) - 1)
        yield np.stack(columns, axis=1)


def hits_at_10(ranks: Int64) -> npt.NDArray[np.float64]:
    """HR@10 of each rank."""
    return (ranks < 10).astype(np.float64)


def gains_at_10(ranks: Int64) -> npt.NDArray[np.float64]:
    """NDCG@10 of each rank, one article being right: 1 / log2(rank + 2), counted from 0."""
    return np.where(ranks < 10, 1 / np.log2(ranks + 2.0), 0.0)


def run_seed(path: Path, seed: int) -> dict[str, Any]:
    """Fit on all but the last two items, choose the weight on the last but one, rank the last."""
    started, cpu_started = time.perf_counter(), time.process_time()
    torch.set_num_threads(1)
    runs = read_runs(path)
    known, training = runs.without_last(1), runs.without_last(2)

    def tell(epoch: SequenceEpoch, _: Any) -> None:
        spent = time.perf_counter() - started
        Console(stderr=True).print(
            f"seed {seed} epoch {epoch.epoch}/{epoch.n_epochs} loss {epoch.training_loss:.3f} {spent:.0f} s"
        )

    settings = replace(SETTINGS, seed=seed)
    model = fit_sequence_encoder(training.items, training.offsets, None, runs.n_items, settings=settings, on_epoch=tell)
    strength = copurchase_strength(training)
    validation = np.concatenate(list(rank_targets(model, strength, training, known.last(), WEIGHTS)))
    best = int(gains_at_10(validation[:, :-1]).mean(axis=0).argmax())
    chosen = (0.0, WEIGHTS[best])
    test = np.concatenate(list(rank_targets(model, strength, known, runs.last(), chosen)))
    figures = {
        part: {
            name: {"hr_at_10": hits_at_10(ranks).mean(), "ndcg_at_10": gains_at_10(ranks).mean()}
            for name, ranks in columns.items()
        }
        for part, columns in {
            "validation": {"mixed": validation[:, best], "encoder": validation[:, 0], "copurchase": validation[:, -1]},
            "test": {"mixed": test[:, 1], "encoder": test[:, 0], "copurchase": test[:, -1]},
        }.items()
    }
    result = {
        "seed": seed,
        "weight": WEIGHTS[best],
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **figures,
    }
    typer.echo(json.dumps(result), err=True)
    return result | {"test_ranks": test[:, 1]}


def bootstrap_interval(values_C: npt.NDArray[np.float64], seed: int = 0, n_draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean over customers drawn again."""
    rng = np.random.default_rng(seed)
    means = [values_C[rng.integers(0, len(values_C), len(values_C))].mean() for _ in range(n_draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@app.command()
def main(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="One customer a line: customer item item …")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 1.")] = 3,
    side_by_side: Annotated[int, typer.Option(min=1, help="Seeds at once; each uses one core.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line at the end.")] = False,
) -> None:
    """Fit and test with each seed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(side_by_side, mp_context=context, max_tasks_per_child=1) as pool:
        results = list(pool.map(run_seed, [file] * seeds, range(1, seeds + 1)))
    ranks = np.stack([result.pop("test_ranks") for result in results])
    table = Table(
        "seed", "weight", "validation", "test: encoder", "copurchase", "mixed", "s", "CPU s", title="HR@10 / NDCG@10"
    )
    for result in results:
        shown = [result["validation"]["mixed"], *(result["test"][name] for name in ("encoder", "copurchase", "mixed"))]
        cells = [f"{figure['hr_at_10']:.4f} / {figure['ndcg_at_10']:.4f}" for figure in shown]
        table.add_row(
            str(result["seed"]),
            str(result["weight"]),
            *cells,
            f"{result['seconds']:.0f}",
            f"{result['cpu_seconds']:.0f}",
        )
    Console(width=140).print(table)
    hits_C, gains_C = hits_at_10(ranks).mean(axis=0), gains_at_10(ranks).mean(axis=0)
    answer = {
        "hr_at_10": hits_C.mean(),
        "ndcg_at_10": gains_C.mean(),
        "hr_at_10_interval": bootstrap_interval(hits_C),
        "ndcg_at_10_interval": bootstrap_interval(gains_C),
        "seconds": float(np.mean([result["seconds"] for result in results])),
        "cpu_seconds": float(np.mean([result["cpu_seconds"] for result in results])),
        "seeds": results,
        "settings": asdict(SETTINGS),
    }
    if as_json:
        typer.echo(json.dumps(answer))


if __name__ == "__main__":
    app()
