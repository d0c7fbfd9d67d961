"""Ours beside rules, implicit and a two-stage LightGBM ranker, on the same customers and label weeks.

    python -m benchmarks.rivals ./hm --backtest 25                          # a folder in Kaggle's format, 26 weeks
    python -m benchmarks.rivals ./hm --backtest 25 --end-date 2020-03-24    # the 26 weeks before those: validation
    python -m benchmarks.rivals 'synthetic://?customers=50000&seed=7'

Everything is fitted strictly before each cutoff, and nothing is tuned on the label weeks. Needs the extra `benchmarks`.
The last line of --json is one JSON object: `rivals` → name → map_at_12, low, high, recall_at_12, seconds, and
`differences` → name → ours minus it, with its paired 95 % interval.
"""

from __future__ import annotations

import json
import logging
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from benchmarks.rivals.comparison import NAMES, as_table, compare, summary
from pipelines.data.quality import ACCEPTABLE_GATES
from pipelines.errors import UsageError
from pipelines.lake import open_lake
from pipelines.recommender.hyperparameters import parse_hyperparameters
from pipelines.recommender.shop import INPUT_FILES, Shop, read_shop
from pipelines.recommender.training import set_up_torch

app = typer.Typer(add_completion=False)


def read_source(source: str) -> tuple[Shop, date, date]:
    """Read a source through the pipeline's own first two steps; the shop, its first and its last day.

    A folder that already holds processed/RUN of a lake is read as it is.
    """
    from pipelines.steps.ingest import IngestRequest, ingest
    from pipelines.steps.process import process

    if (Path(source) / "split.json").is_file():
        shop, split = read_shop({name: Path(source) / name for name in INPUT_FILES})
    else:
        with tempfile.TemporaryDirectory() as folder:
            lake = open_lake(folder)
            ingest(lake, IngestRequest(run_id="rivals", source=source), now=datetime.now(UTC))
            process(lake, run_id="rivals", accepted_gates=ACCEPTABLE_GATES)
            shop, split = read_shop({name: Path(folder) / "processed" / "rivals" / name for name in INPUT_FILES})
    return shop, shop.first_day, date.fromisoformat(split["last_day"])


@app.command()
def main(
    source: Annotated[str, typer.Argument(help="Folder, s3://…, synthetic://…, or processed/RUN of a lake.")],
    backtest: Annotated[int, typer.Option(min=0, help="More weekly cutoffs before the newest one.")] = 0,
    end_date: Annotated[str, typer.Option(help="Last day of the newest label window; empty = of the data.")] = "",
    horizon_days: Annotated[int, typer.Option(min=1, help="Length of a label window.")] = 7,
    only: Annotated[str, typer.Option(help=f"Some of {', '.join(NAMES)}, parted by commas.")] = ",".join(NAMES),
    hyperparameters: Annotated[str, typer.Option(help="JSON for our recommender.")] = '{"threads": 1}',
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line at the end.")] = False,
) -> None:
    """Compare every model on each of backtest + 1 label windows."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    set_up_torch()
    names = [name for name in only.split(",") if name]
    if unknown := set(names) - set(NAMES):
        raise UsageError(f"--only {', '.join(sorted(unknown))}: unknown; the models are {', '.join(NAMES)}")
    shop, first_day, last_day = read_source(source)
    end = min(date.fromisoformat(end_date), last_day) if end_date else last_day
    newest = (end - first_day).days + 1 - horizon_days
    cutoff_days = [newest - number * horizon_days for number in range(backtest + 1)]
    console, errors = Console(width=140), Console(stderr=True)
    compared = compare(
        shop,
        cutoff_days,
        horizon_days,
        names,
        parse_hyperparameters(hyperparameters),
        lambda name, day, outcome: errors.print(
            f"day {day} {name} map_at_12 {outcome.average_precision_N.mean():.5f} of {len(outcome.customers_N):,}"
        ),
    )
    document = {"source": source, "end_date": end.isoformat(), "n_weeks": len(cutoff_days)} | summary(compared, seed=7)
    title = f"{source}: {document['n_customer_weeks']:,} customer-weeks, {len(cutoff_days)} label windows to {end}"
    console.print(as_table(document, title))
    if as_json:
        typer.echo(json.dumps(document))


if __name__ == "__main__":
    app()
