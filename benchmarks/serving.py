"""What an answer costs: our server beside its neighbours, with the same graph, requests and core.

    python -m benchmarks.serving            # every server, the swaps, the overload and the container's limits
    python -m benchmarks.serving --quick    # ours and FastAPI, one short round
    python -m benchmarks.serving --soak-minutes 60   # also memory over an hour of load with a swap every three minutes

Each server runs on core 0, the load on core 1, over real keep-alive connections; servers take turns in each round, and
the table shows medians. Processor time for an answer is the figure to trust on a busy machine. The bundle has a real
shop's size and contents drawn at random (benchmarks/servers/bundle.py). Neighbours get virtual environments below
--work, the first time in some minutes. The last line of --json is one JSON object: `services` → name → figures.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.servers.bundle import N_ARTICLES, N_CUSTOMERS, bundle_of_size, write_bodies
from benchmarks.servers.limits import measure_overload, measure_soak, measure_swaps, measure_under_limits, n_failed
from benchmarks.servers.neighbours_setup import PACKAGES, neighbour, ours
from benchmarks.servers.plot import write_plot
from benchmarks.servers.running import Running, Service, ask, running

app = typer.Typer(add_completion=False)
out = Console(width=140, stderr=True)

P99_LIMIT_MS = 20.0
LADDER = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # shares of the saturated rate
COLUMNS = {
    "cpu_us": "CPU µs saturated",
    "cpu_us_100_rps": "CPU µs at 100 rps",
    "saturated_rps": "rps saturated",
    "rps_p99_under_20_ms": "rps, p99 < 20 ms",
    "p50_ms_100_rps": "p50 ms at 100 rps",
    "p99_ms_100_rps": "p99 ms at 100 rps",
    "rss_mib": "RSS MiB",
    "own_mib": "of it no file's",
    "start_seconds": "start s",
}


def measure(service: Service, bodies: Path, scratch: Path, seconds: float) -> dict[str, float]:
    """Take all figures of one server once."""
    wrapped = wrapped_bodies(service, bodies, scratch)
    body = json.loads(bodies.read_text())[0]
    with running(service, body, scratch / f"{service.name}.log") as server:
        server.load(wrapped, seconds=seconds / 2)  # warm
        saturated = server.load(wrapped, seconds=seconds)
        calm = server.load(wrapped, seconds=seconds, rate=100.0)
        return {
            "cpu_us": saturated["cpu_us"],
            "saturated_rps": saturated["rps"],
            "n_failed": n_failed(saturated["statuses"]),
            "cpu_us_100_rps": calm["cpu_us"],
            "p50_ms_100_rps": calm["p50_ms"],
            "p99_ms_100_rps": calm["p99_ms"],
            "rps_p99_under_20_ms": highest_good_rate(server, wrapped, saturated["rps"], seconds / 2),
            "rss_mib": server.rss_bytes() / 2**20,
            "own_mib": server.own_bytes() / 2**20,
            "start_seconds": server.start_seconds,
        }


def highest_good_rate(server: Running, bodies: Path, saturated_rps: float, seconds: float) -> float:
    """Climb the ladder of rates while the 99th percentile holds; 0 when not even the first does."""
    good = 0.0
    for share in LADDER:
        figures = server.load(bodies, seconds=seconds, rate=share * saturated_rps, connections=64)
        n_due = share * saturated_rps * seconds
        if figures["p99_ms"] > P99_LIMIT_MS or figures["n_good"] < 0.97 * n_due:
            break
        good = figures["rps"]
    return good


def wrapped_bodies(service: Service, bodies: Path, scratch: Path) -> Path:
    """Write the requests as this server wants them."""
    path = scratch / f"bodies-{service.name}.json"
    path.write_text(json.dumps([service.wrap(body) for body in json.loads(bodies.read_text())]))
    return path


def check_answers(service: Service, reference: Service, bodies: Path, scratch: Path) -> float:
    """Say how much of our answers a neighbour gives too: the share of articles, over 20 requests."""
    asked = json.loads(bodies.read_text())[:20]
    answers = []
    for candidate in (reference, service):
        with running(candidate, asked[0], scratch / f"{candidate.name}-check.log") as server:
            answers.append([ask(candidate, server.port, body)["recommendations"] for body in asked])
    shares = [len(set(a) & set(b)) / len(a) for a, b in zip(*answers, strict=True)]
    return statistics.mean(shares)


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Take the median of each figure over the rounds."""
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def print_table(title: str, services: dict[str, dict[str, float]]) -> None:
    """Show figures, and how many times ours the processor time is."""
    table = Table("server", *COLUMNS.values(), "CPU × ours", title=title)
    for name, figures in services.items():
        shown = [f"{figures[key]:,.2f}" if figures[key] < 10 else f"{figures[key]:,.0f}" for key in COLUMNS]
        ratio = figures["cpu_us"] / services["ours"]["cpu_us"] if "ours" in services else float("nan")
        table.add_row(name, *shown, f"{ratio:.1f}")
    out.print(table)


@app.command()
def main(
    services: Annotated[str, typer.Option(help="Names, parted by commas.")] = "ours," + ",".join(PACKAGES),
    rounds: Annotated[int, typer.Option(help="Every server once in each.")] = 3,
    seconds: Annotated[float, typer.Option(help="Of each load.")] = 3.0,
    swaps: Annotated[int, typer.Option(help="Model changes under load.")] = 50,
    soak_minutes: Annotated[float, typer.Option(help="Of load with swaps; 0 leaves it out.")] = 0.0,
    customers: Annotated[int, typer.Option(help="In the bundle.")] = N_CUSTOMERS,
    articles: Annotated[int, typer.Option(help="In the bundle.")] = N_ARTICLES,
    work: Annotated[Path, typer.Option(help="Bundles and virtual environments are kept here.")] = Path(".benchmarks"),
    quick: Annotated[bool, typer.Option(help="Ours and FastAPI, one short round, five swaps.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line at the end.")] = False,
) -> None:
    """Measure, print tables, write a plot, and with --json one line for programs."""
    if quick:
        services, rounds, seconds, swaps = "ours,fastapi", 1, 2.0, 5
    scratch = (work / "scratch").resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    out.print(f"bundles of {articles:,} articles and {customers:,} customers below {work}")
    size = {"n_articles": articles, "n_customers": customers}
    fifth = bundle_of_size(work, n_live=articles // 5, **size).resolve()
    whole = bundle_of_size(work, n_live=articles, **size).resolve()
    bodies = write_bodies(scratch / "bodies.json", customers)
    cache, venvs = scratch / "cache", (work / "venvs").resolve()

    def service(name: str, bundle: Path) -> Service:
        return ours(venvs, bundle, cache) if name == "ours" else neighbour(name, venvs, bundle, scratch)

    names = [name for name in services.split(",") if name]
    results: dict[str, Any] = {"bundle": size | {"n_live": articles // 5}, "rounds": rounds, "seconds": seconds}
    for title, key, bundle in (("a fifth live", "services", fifth), ("every article live", "services_all_live", whole)):
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        if key == "services_all_live":
            taken = {name: [] for name in names if name in ("ours", "fastapi")}
        if "ours" in taken:  # the bundle is copied and verified once; a restart finds it
            with running(service("ours", bundle), json.loads(bodies.read_text())[0], scratch / "first.log"):
                pass
        for _ in range(rounds):
            for name in taken:
                taken[name].append(measure(service(name, bundle), bodies, scratch, seconds))
        results[key] = {name: medians(figures) for name, figures in taken.items()}
        print_table(f"{title}: medians of {rounds} rounds", results[key])
    results["same_answers"] = {
        name: check_answers(service(name, fifth), service("ours", fifth), bodies, scratch)
        for name in names
        if name != "ours"
    }
    if "ours" in names:
        results["swaps"] = measure_swaps(venvs, fifth, bodies, scratch, n_swaps=swaps)
        results["limits"] = measure_under_limits(venvs, fifth, bodies, scratch, seconds=seconds)
        results["overload"] = measure_overload(venvs, fifth, bodies, scratch, seconds=seconds)
        if soak_minutes:
            results["soak"] = measure_soak(venvs, fifth, bodies, scratch, minutes=soak_minutes)
        for name in ("swaps", "limits", "overload", "soak"):
            if name in results:
                shown = {key: value for key, value in results[name].items() if not isinstance(value, list)}
                out.print(name, shown)
    plot = write_plot(results, work / "serving.svg")
    out.print(f"plot: {plot}")
    if as_json:
        typer.echo(json.dumps(results))


if __name__ == "__main__":
    app()
