"""`make demo`: the whole way on purchases that are made up, told as it goes, ending with one real answer."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipelines.edge import run_app
from pipelines.errors import ArtefactError, UsageError
from pipelines.lake import Lake, open_lake
from pipelines.service import predict, running_service
from pipelines.steps.manifest import read_manifest

N_SHOWN = 6  # articles of each list: both fit one screen
RECENT_DAYS = 28

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Shopper:
    """A customer to ask for, with the articles bought last, newest first."""

    customer_id: str
    article_ids: list[str]
    n_purchases: int


@app.command()
def main(
    lake: Annotated[str, typer.Option(help="Where everything is kept.")] = "./lake",
    customers: Annotated[int, typer.Option(min=200, help="How large the synthetic shop is.")] = 2000,
) -> None:
    """Run the pipeline on a synthetic shop, serve the model, ask it for one customer, and say where to look."""
    console = Console(highlight=False)
    source = f"synthetic://?customers={customers}&seed=7"
    console.print(
        f"[bold]1 · Pipeline[/]  {source} → {lake}; finished steps are recognised and skipped", soft_wrap=True
    )
    result = run_pipeline(source, lake, dict(os.environ))
    console.print(f"    {quality_line(result)}", soft_wrap=True)

    is_champion = result["champion"] == result["bundle_version"]
    model_uri = f"{lake.rstrip('/')}/registry" if is_champion else result["bundle"]
    console.print(f"\n[bold]2 · Service[/]   python -m inference on {model_uri}", soft_wrap=True)
    opened = open_lake(lake)
    shopper = choose_shopper(opened, result["run_id"])
    request = {"customer_id": shopper.customer_id, "top_k": N_SHOWN}
    with tempfile.TemporaryDirectory(prefix="demo-") as scratch:
        log_path = Path(scratch) / "service.log"
        with running_service(model_uri, environment=os.environ, log_path=log_path) as address:
            console.print(f"    live at {address}")
            answer = predict(address, request)
    names = article_names(opened, result["run_id"], [*shopper.article_ids, *answer["recommendations"]])

    console.print("\n[bold]3 · One request[/]")
    console.print(f"    POST /predict {json.dumps(request)}", soft_wrap=True)
    console.print(answer_table(shopper, answer, names))
    console.print(next_steps(result, lake, shopper), soft_wrap=True)


def run_pipeline(source: str, lake: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Run `pipelines.submit --local`, its progress going to the terminal, and give its result."""
    command = [sys.executable, "-m", "pipelines.submit", "--local", "--source", source, "--lake", lake, "--json"]
    with subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, text=True) as process:
        try:
            printed, _ = process.communicate()
        except KeyboardInterrupt:  # Ctrl-C reached it too: it ends its steps and says how to go on
            process.wait()
    if process.returncode != 0:
        raise SystemExit(process.returncode)  # it has said why on stderr
    try:
        result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    except (IndexError, ValueError):
        raise ArtefactError(
            f"pipelines.submit --json ended without its result; it printed {printed[-500:]!r}"
        ) from None
    return result


def quality_line(result: Mapping[str, Any]) -> str:
    """Say in one line what the model is worth beside the best rule."""
    scores = {name: metrics.get("map_at_12") or 0.0 for name, metrics in result["baselines"].items()}
    best = max(scores, key=scores.__getitem__)
    is_champion = result["champion"] == result["bundle_version"]
    return (
        f"bundle {result['bundle_version']} ({'the champion now' if is_champion else 'not the champion'}): "
        f"map_at_12 {result['metrics']['map_at_12']:.4f} in the week from {result['cutoff_date']}, "
        f"best rule ({best}) {scores[best]:.4f}"
    )


def choose_shopper(lake: Lake, run_id: str) -> Shopper:
    """Take who bought most in the last four weeks of the data (the first of them when several did)."""
    import polars as pl

    files = read_manifest(lake, "process", run_id).files
    with lake.scratch() as scratch:
        purchases = pl.scan_parquet(lake.fetch(files["transactions.parquet"], scratch))
        customers = pl.scan_parquet(lake.fetch(files["customers.parquet"], scratch))
        articles = pl.scan_parquet(lake.fetch(files["articles.parquet"], scratch))
        busiest = (
            purchases.filter(pl.col("day") > pl.col("day").max() - RECENT_DAYS)
            .group_by("customer_index")
            .len()
            .sort("len", "customer_index", descending=[True, False])
            .head(1)
        )
        rows = (
            purchases.join(busiest.select("customer_index"), on="customer_index")
            .join(customers.select("customer_index", "customer_id"), on="customer_index")
            .join(articles.select("article_index", "article_id"), on="article_index")
            .sort("day", "article_id", descending=[True, False])
            .collect()
        )
    if rows.is_empty():
        raise UsageError(f"run {run_id} in {lake.uri} has no purchases to choose a customer from; use more customers")
    newest = rows["article_id"].unique(maintain_order=True).to_list()[:N_SHOWN]
    return Shopper(rows["customer_id"][0], newest, rows.height)


def article_names(lake: Lake, run_id: str, article_ids: list[str]) -> dict[str, str]:
    """Look up what the articles are called, for people: `Ella tee · Black`."""
    import polars as pl

    entry = read_manifest(lake, "process", run_id).files["articles.parquet"]
    with lake.scratch() as scratch:
        rows = (
            pl.scan_parquet(lake.fetch(entry, scratch))
            .filter(pl.col("article_id").is_in(article_ids))
            .select(
                "article_id",
                pl.concat_str(
                    pl.coalesce("prod_name", "product_type"), "colour_group", separator=" · ", ignore_nulls=True
                ),
            )
            .collect()
        )
    return dict(rows.iter_rows())


def answer_table(shopper: Shopper, answer: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """Put what was bought last beside what is recommended."""
    table = Table(title=f"{answer['source']} answer of {answer['model_version']}", title_justify="left")
    table.add_column("bought last")
    table.add_column("recommended next")
    table.add_column("score", justify="right")
    bought = [*shopper.article_ids, *[""] * len(answer["recommendations"])]
    for old, new, score in zip(bought, answer["recommendations"], answer["scores"], strict=False):
        table.add_row(names.get(old, old), names.get(new, new), f"{score:.2f}")
    return table


def next_steps(result: Mapping[str, Any], lake: str, shopper: Shopper) -> str:
    """Say where to look and what to try; a step without a report is not mentioned."""
    request = json.dumps({"customer_id": shopper.customer_id, "top_k": 5})
    places = {"the data": result["eda_report"], "the model": result["report"], "the bundle": result["bundle"]}
    look_at = "\n".join(f"  {name:<12} {uri}" for name, uri in places.items() if uri)
    return f"""
Look at
{look_at}
Try
  make serve LAKE={lake}
  curl -s localhost:8080/predict -H 'Content-Type: application/json' -d '{request}'
  .venv/bin/python -m pipelines.submit --local --source FOLDER --lake ./lake-mine    your own purchases, see README"""


if __name__ == "__main__":
    run_app(app)
