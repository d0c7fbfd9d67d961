"""Time and peak memory of each step over shops of growing size, and what the model gained.

    python -m benchmarks.steps                                  # synthetic shops of 2,000 and 20,000 customers
    python -m benchmarks.steps --customers 200000 --source ./hm  # other sizes, and a folder of your own

Each run is a whole one, through the same command that users run, into a fresh lake. The last line of --json is one JSON
object: `runs` → name → transactions, seconds, peak_rss_bytes, map_at_12 and the baselines'.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipelines.steps.manifest import STEP_FOLDERS

app = typer.Typer(add_completion=False)


def run_once(source: str, lake: Path) -> dict[str, Any]:
    """Run the pipeline as a user does; raises CalledProcessError when it fails."""
    command = [sys.executable, "-m", "pipelines.submit", "--local", "--source", source, "--lake", str(lake), "--json"]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    outcome = json.loads(answer.stdout.splitlines()[-1])
    record = json.loads((lake / "runs" / outcome["run_id"] / "run.json").read_text(encoding="utf-8"))
    split = next(lake.glob("processed/*/split.json"))
    return {
        "transactions": json.loads(split.read_bytes())["n_transactions"],
        "seconds": outcome["seconds"],
        "peak_rss_bytes": {step: facts["peak_rss_bytes"] for step, facts in record["steps"].items()},
        "map_at_12": outcome["metrics"]["map_at_12"],
        "baselines": {name: metrics["map_at_12"] for name, metrics in outcome["baselines"].items()},
    }


@app.command()
def main(
    customers: Annotated[str, typer.Option(help="Sizes of synthetic shops, parted by commas.")] = "2000,20000",
    source: Annotated[list[str], typer.Option(help="Further sources.")] = [],  # noqa: B006 - typer reads it
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line at the end.")] = False,
) -> None:
    """Measure every step on each source, one run after the other."""
    sources = {
        f"{int(size):,} customers": f"synthetic://?customers={size}&seed=7" for size in customers.split(",") if size
    }
    sources |= {uri: uri for uri in source}
    table = Table("shop", "transactions", *STEP_FOLDERS, "map_at_12", "best rule", title="seconds / peak MiB")
    runs: dict[str, Any] = {}
    for name, uri in sources.items():
        with tempfile.TemporaryDirectory() as folder:
            run = runs[name] = run_once(uri, Path(folder) / "lake")
        figures = [f"{run['seconds'][step]:.1f} / {run['peak_rss_bytes'][step] / 2**20:,.0f}" for step in STEP_FOLDERS]
        best = max(run["baselines"].values())
        table.add_row(name, f"{run['transactions']:,}", *figures, f"{run['map_at_12']:.4f}", f"{best:.4f}")
    Console(width=120).print(table)
    if as_json:
        typer.echo(json.dumps({"runs": runs}))


if __name__ == "__main__":
    app()
