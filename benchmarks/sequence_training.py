"""Training of the sequence encoder beside RecTools' SASRec: customers' sequences per second, and peak memory.

    python -m benchmarks.sequence_training beauty.txt --rounds 3 --json

FILE as for benchmarks.sequences. Both train on the same customers with the same width, layers, length, negatives and
threads, each in a process of its own, turn by turn. The first epoch is not counted: what imports and warms up is no
training. Given per second of the clock and per second of the processor; on a busy machine only the latter means
something. RecTools gets a virtual environment of its own, made once with pip. The last line of --json is one JSON
object: every round, the medians, and their ratios.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.sequences import read_runs
from pipelines.recommender.sequence import EncoderShape, SequenceModel
from pipelines.recommender.sequence_fitting import SequenceEpoch, SequenceSettings, fit_sequence_encoder

app = typer.Typer(add_completion=False)

PACKAGES = ("rectools[torch]==0.19.0", f"torch=={torch.__version__}")
"""The same build of torch as ours."""
PEER = Path(__file__).parent / "sequence_training_peer.py"
DEFAULT_VENV = Path.home() / ".cache" / "fashion-recommender" / "rectools"
WIDTH, LAYERS, HEADS, LENGTH, NEGATIVES = 64, 2, 2, 50, 1024
EPOCHS = 3
SEQUENCES_PER_BATCH = 128
"""RecTools' own default."""


def train_ours(path: Path, threads: int) -> dict[str, Any]:
    """Train ours in this process."""
    torch.set_num_threads(threads)
    runs = read_runs(path).without_last(2)
    # As many positions as RecTools has in a batch, padding not counted.
    mean_length = len(runs.items) / runs.n_customers - 1
    settings = SequenceSettings(
        shape=EncoderShape(
            width=WIDTH, n_heads=HEADS, n_layers=LAYERS, max_history=LENGTH, dropout=0.5, uses_time=False
        ),
        n_epochs=EPOCHS,
        max_articles_compared=NEGATIVES,
        positions_per_batch=round(SEQUENCES_PER_BATCH * mean_length),
        threads=threads,
    )
    ends: list[tuple[float, float]] = []

    def note(_: SequenceEpoch, __: Any) -> None:
        ends.append((time.perf_counter(), time.process_time()))

    model = fit_sequence_encoder(runs.items, runs.offsets, None, runs.n_items, settings=settings, on_epoch=note)
    assert isinstance(model, SequenceModel)
    return {"ends": ends, "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def train_rectools(python: Path, path: Path, threads: int) -> dict[str, Any]:
    """Train RecTools' SASRec in a process of its environment; raises CalledProcessError when it fails."""
    knobs = (EPOCHS, WIDTH, LAYERS, HEADS, LENGTH, NEGATIVES, SEQUENCES_PER_BATCH, threads)
    command = [str(python), "-W", "ignore", str(PEER), str(path), *map(str, knobs)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return result


def set_up(venv: Path) -> Path:
    """Give the interpreter of RecTools' virtual environment, made with pip's configured index when it is new."""
    python, done = venv / "bin" / "python", venv / ".installed"
    if not done.exists() or done.read_text() != "\n".join(PACKAGES):
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        done.write_text("\n".join(PACKAGES))
    return python


def cost(result: dict[str, Any], n_sequences: int) -> dict[str, float]:
    """Turn the ends of epochs into sequences per second, the first epoch left out."""
    (first_clock, first_cpu), (last_clock, last_cpu) = result["ends"][0], result["ends"][-1]
    n_trained = n_sequences * (len(result["ends"]) - 1)
    return {
        "sequences_per_second": n_trained / (last_clock - first_clock),
        "sequences_per_cpu_second": n_trained / (last_cpu - first_cpu),
        "peak_rss_bytes": result["peak_rss_bytes"],
    }


@app.command()
def main(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="One customer a line: customer item item …")
    ],
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each.")] = 1,
    venv: Annotated[Path, typer.Option(help="RecTools' virtual environment; made when missing.")] = DEFAULT_VENV,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line at the end.")] = False,
) -> None:
    """Train both in turn."""
    python = set_up(venv)
    runs = read_runs(file).without_last(2)
    n_sequences = int((runs.offsets[1:] - runs.offsets[:-1] >= 2).sum())
    results: dict[str, list[dict[str, float]]] = {"ours": [], "rectools": []}
    context = multiprocessing.get_context("spawn")
    for _ in range(rounds):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            results["ours"].append(cost(pool.submit(train_ours, file, threads).result(), n_sequences))
        results["rectools"].append(cost(train_rectools(python, file, threads), n_sequences))
    medians = {
        name: {measure: statistics.median(turn[measure] for turn in turns) for measure in turns[0]}
        for name, turns in results.items()
    }
    ratios = {measure: medians["ours"][measure] / medians["rectools"][measure] for measure in medians["ours"]}
    title = f"{n_sequences:,} sequences, width {WIDTH}, {LAYERS} layers, length {LENGTH}, {NEGATIVES} negatives"
    table = Table("", "sequences/s", "sequences/CPU s", "peak MiB", title=f"{title}, {threads} thread(s)")
    for name, median in medians.items():
        table.add_row(
            name,
            f"{median['sequences_per_second']:,.0f}",
            f"{median['sequences_per_cpu_second']:,.0f}",
            f"{median['peak_rss_bytes'] / 2**20:,.0f}",
        )
    table.add_row("ours / rectools", *(f"{ratio:.2f}" for ratio in ratios.values()))
    Console(width=120).print(table)
    if as_json:
        typer.echo(json.dumps({"ratios": ratios, "medians": medians, "rounds": results}))


if __name__ == "__main__":
    app()
