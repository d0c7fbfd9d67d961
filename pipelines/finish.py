"""The exit handler of a run on a cluster: say what came of it, in one log line and as figures for Prometheus.

It runs after every run, good or bad, reads what the steps published, and writes each figure into a file that Argo takes
up as an output of its pod. A figure that the run did not get to has no file.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.edge import run_app
from pipelines.errors import UsageError
from pipelines.lake import open_lake
from pipelines.logs import get_logger
from pipelines.outcome import Outcome, collect
from pipelines.settings import lake_uri

# Figure → what it means, as Prometheus shows it.
FIGURES = {
    "map_at_12": "map_at_12 of the newest run's model in its label week.",
    "best_rule_map_at_12": "map_at_12 of the best of the rules that it is held against, in the same week.",
    "promoted": "1 when the newest run's model became the champion, else 0.",
}

app = typer.Typer(add_completion=False)
log = get_logger()


def figures_of(outcome: Outcome) -> dict[str, float]:
    """Give the figures that the run got to.

    >>> figures_of(Outcome(run_id="run-1", status="Failed"))
    {}
    """
    figures: dict[str, float] = {}
    if (model := outcome.metrics.get("map_at_12")) is not None:
        figures["map_at_12"] = model
    if rules := [value for metrics in outcome.baselines.values() if (value := metrics.get("map_at_12")) is not None]:
        figures["best_rule_map_at_12"] = max(rules)
    if outcome.promoted is not None:
        figures["promoted"] = float(outcome.promoted)
    return figures


def read_failures(text: str) -> list[dict[str, Any]]:
    """Read Argo's `workflow.failures`: a list of failed nodes, or null. Raises UsageError for anything else."""
    try:
        failures = json.loads(text or "null")
        # Argo quotes the list once more, so that it can stand in a template's text.
        failures = json.loads(failures) if isinstance(failures, str) else failures
    except ValueError as error:
        raise UsageError(
            f"--failures {text[:200]!r} is not JSON ({error}); Argo gives {{{{workflow.failures}}}}"
        ) from None
    if failures is None:
        return []
    if not isinstance(failures, list) or not all(isinstance(failure, dict) for failure in failures):
        raise UsageError(f"--failures {text[:200]!r} is not a list of objects; Argo gives {{{{workflow.failures}}}}")
    return failures


@app.command()
def main(
    run_id: Annotated[str, typer.Option(help="The run that has ended.")],
    status: Annotated[str, typer.Option(help="In Argo's words: Succeeded, Failed or Error.")],
    lake: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix; empty means $S3_DATA_LAKE_BUCKET.")] = "",
    seconds: Annotated[float, typer.Option(help="How long the run took.")] = 0.0,
    failures: Annotated[str, typer.Option(help="Argo's {{workflow.failures}}.")] = "null",
    outputs: Annotated[Path | None, typer.Option(help="Folder that gets one file for each figure.")] = None,
) -> None:
    """Log the outcome of a run, write its figures, and print the outcome as one JSON line."""
    failed = read_failures(failures)
    first = failed[0] if failed else {}
    outcome = collect(
        open_lake(lake_uri(lake)),
        run_id,
        status,
        failed_step=first.get("templateName"),
        error=first.get("message"),
    )
    figures = figures_of(outcome)
    say = log.info if status == "Succeeded" else log.error
    say(
        "run_finished",
        run_id=run_id,
        status=status,
        duration_seconds=round(seconds, 1),
        failures=[{name: node.get(name) for name in ("templateName", "phase", "message")} for node in failed],
        bundle_version=outcome.bundle_version,
        report=outcome.report,
        **figures,
    )
    if outputs is not None:
        outputs.mkdir(parents=True, exist_ok=True)
        for name, value in figures.items():
            # no exponent: Argo compares these as text and as numbers
            (outputs / name).write_text(f"{value:.6f}", encoding="ascii")
    print(outcome.model_dump_json())


if __name__ == "__main__":
    run_app(app)
