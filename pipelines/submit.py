"""Start a run: `python -m pipelines.submit --local` here, without `--local` on Argo."""

import os
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer
from hera.workflows.models import Workflow
from rich.console import Console

from pipelines import argo
from pipelines.edge import run_app
from pipelines.errors import PipelineError, UsageError
from pipelines.journal import Journal
from pipelines.lake import Lake, open_lake
from pipelines.local import LocalRun
from pipelines.outcome import Outcome, champion_since, collect, summary
from pipelines.parameters import (
    check_parameters,
    check_run_id,
    complete,
    described,
    parse_assignments,
    refuse,
)
from pipelines.progress import shown
from pipelines.recommender.hyperparameters import parse_hyperparameters
from pipelines.render import to_yaml
from pipelines.rendered import PlannedStep, plan_steps
from pipelines.run_record import RunRecord
from pipelines.settings import lake_uri, load_settings
from pipelines.workflow import CONFIG, TEMPLATE_NAME, workflow_template

app = typer.Typer(add_completion=False)
console = Console(stderr=True)
OPTIONS = ("source", "lake", "cutoff-date", "horizon-days", "backtest")  # parameters with an option of their own


@app.command()
def main(
    local: Annotated[bool, typer.Option("--local", help="Run here, as processes, instead of on Argo.")] = False,
    source: Annotated[
        str | None, typer.Option(help="Kaggle-format folder, s3://… or synthetic://…; default a made-up shop.")
    ] = None,
    lake: Annotated[
        str | None, typer.Option(help="Folder or s3://bucket/prefix; default $S3_DATA_LAKE_BUCKET, locally ./lake.")
    ] = None,
    cutoff_date: Annotated[
        str | None, typer.Option(help="First day that the model must not see; default the last whole window's.")
    ] = None,
    horizon_days: Annotated[str | None, typer.Option(help="Days in the label window; default 7.")] = None,
    backtest: Annotated[str | None, typer.Option(help="Additional weekly cutoffs to evaluate on; default 0.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--parameter", metavar="name=value", help=f"Any of these, repeatable. {described(without=OPTIONS)}"
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="On Argo: wait for the end, exit with its outcome.")] = False,
    poll_seconds: Annotated[float, typer.Option(min=0.05, help="Pause between questions of --wait.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Last line of stdout: the outcome as JSON.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the manifest; run nothing.")] = False,
) -> None:
    """Run the pipeline: ingest → process → eda beside train.

    python -m pipelines.recommender.hyperparameters lists the hyperparameters.

    The variable METRIC_THRESHOLD (0) is what the lower bound of the gain over the champion must exceed.
    """
    options = {
        "source": source,
        "lake": lake,
        "cutoff-date": cutoff_date,
        "horizon-days": horizon_days,
        "backtest": backtest,
    }
    given = {name: value for name, value in options.items() if value is not None}
    assigned, problems = parse_assignments(assignments or [])
    for name in given.keys() & assigned.keys():
        if given[name] != assigned[name]:
            problems.append(f"{name} is given as --{name} {given[name]!r} and as -p {name}={assigned[name]!r}")
    given = assigned | given
    run_id = given.pop("run-id", None) or new_run_id(datetime.now(UTC), secrets.token_hex(2))
    with _errors_as_json(run_id, as_json):
        wrong = check_parameters(given)
        problems += [*wrong, *check_run_id(run_id)]
        if not any(problem.startswith("hyperparameters") for problem in wrong):
            problems += _check_hyperparameters(given)
        if local:
            problems += _check_environment()
            refuse(problems)
            if "source" not in given and given.get("data-version", "latest") == "latest":
                console.print("no --source: taking a made-up shop's purchases", highlight=False)
            given["lake"] = load_settings(given.get("lake", "")).lake or "./lake"
            plan = plan_steps(workflow_template(), run_id=run_id, parameters=given, config=CONFIG, environ=os.environ)
            if dry_run:
                _print_manifest(run_id, given, plan)
                return
            _run_here(plan, run_id, given, as_json=as_json)
        problems += _check_reach(given)
        settings, missing = argo.argo_settings(os.environ)
        refuse(problems if dry_run else problems + missing)
        if dry_run:
            _print_manifest(run_id, given, ())
            return
        assert settings is not None
        _run_on_argo(settings, run_id, given, wait=wait, poll_seconds=poll_seconds, as_json=as_json)


def new_run_id(now: datetime, suffix: str) -> str:
    """Name a run so that names sort by time; the suffix tells apart those of the same second."""
    return f"{TEMPLATE_NAME}-{now:%Y%m%d-%H%M%S}-{suffix}"


@contextmanager
def _errors_as_json(run_id: str, as_json: bool) -> Iterator[None]:
    """Keep the promise of --json for a run that never began."""
    try:
        yield
    except PipelineError as error:
        if as_json:
            print(Outcome(run_id=run_id, status="Error", error=str(error)).model_dump_json(), flush=True)
        raise


def _check_hyperparameters(given: Mapping[str, str]) -> list[str]:
    """Ask the trainer's own rules, before hours of other steps."""
    try:
        parse_hyperparameters(given.get("hyperparameters", "{}"))
    except UsageError as error:
        return [str(error)]
    return []


def _check_environment() -> list[str]:
    """Read the settings as every step will, to say here what they would say later."""
    try:
        load_settings()
    except UsageError as error:
        first, *rest = str(error).split("\n  - ")
        return rest or [first]
    return []


def _check_reach(given: Mapping[str, str]) -> list[str]:
    """Refuse what a pod cannot see: folders of this machine."""
    return [
        f"{name} = {given[name]!r} is a folder of this machine, which a run on Argo cannot read; use s3://…, or --local"
        for name in ("source", "lake")
        if given.get(name) and (given[name].startswith("file:") or "://" not in given[name])
    ]


def _print_manifest(run_id: str, given: Mapping[str, str], plan: tuple[PlannedStep, ...]) -> None:
    namespace = os.environ.get("ARGO_NAMESPACE", "").strip() or None
    print(to_yaml(argo.manifest(run_id, given, namespace)), end="")
    for step in plan:
        print(f"# {step.name}: {shlex.join(step.argv)}")


def _run_here(plan: tuple[PlannedStep, ...], run_id: str, given: dict[str, str], *, as_json: bool) -> NoReturn:
    lake = open_lake(given["lake"])
    journal = Journal(lake, run_id)
    with shown(console) as on_change:
        run = LocalRun(plan, lake=lake, run_id=run_id, parameters=complete(given), journal=journal, on_change=on_change)
        exit_code = run.execute()
    error = _explain_failure(lake, run.record, journal)
    failed = run.record.failed_step
    outcome = collect(
        lake,
        run_id,
        run.record.status,
        seconds=run.record.seconds_by_step,
        reused=[step.name for step in run.record.steps.values() if step.reused_from],
        failed_step=failed.name if failed else None,
        error=error,
    )
    _finish(outcome, exit_code, as_json=as_json)


def _explain_failure(lake: Lake, record: RunRecord, journal: Journal) -> str | None:
    if record.status == "Interrupted":
        moved = champion_since(lake, record.started_at)
        already = f". The champion was moved meanwhile, to {moved}, which answers customers now" if moved else ""
        return "interrupted; run the same command again to go on: finished steps are not repeated" + already
    if (failed := record.failed_step) is None:
        return None
    lines = journal.last_lines(failed.name, 40)
    # A step's own `error: …` and what follows says it all; anything else shows the end of its log.
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    shown_lines = lines[starts[-1] :] if starts else lines[-10:]
    return "\n".join(
        [f"step {failed.name} failed: {failed.message}; log: {failed.log}", *(f"  {x}" for x in shown_lines)]
    )


def _run_on_argo(
    settings: argo.ArgoSettings,
    run_id: str,
    given: Mapping[str, str],
    *,
    wait: bool,
    poll_seconds: float,
    as_json: bool,
) -> NoReturn:
    name = argo.submit(settings, run_id, given)
    here = f"-n {settings.namespace}"
    console.print(f"submitted {name} to {settings.namespace}", soft_wrap=True, highlight=False)
    if not wait:
        _finish(Outcome(run_id=name, status="Submitted"), 0, as_json=as_json)
    phases: list[str] = []

    def on_poll(workflow: Workflow) -> None:
        if not phases or phases[-1] != argo.phase(workflow):
            phases.append(argo.phase(workflow))
            reason = (workflow.status.message if workflow.status else None) or ""
            console.print(f"{name}: {phases[-1]} {reason}".rstrip(), soft_wrap=True, highlight=False)

    def on_trouble(message: str) -> None:
        console.print(f"{name}: {message}", soft_wrap=True, highlight=False, markup=False)

    try:
        workflow = argo.wait(settings, name, on_poll=on_poll, on_trouble=on_trouble, poll_seconds=poll_seconds)
    except KeyboardInterrupt:
        message = f"stopped waiting; {name} goes on. To stop it: argo stop {name} {here}"
        _finish(Outcome(run_id=name, status="Running", error=message), 130, as_json=as_json)
    facts = {"seconds": argo.seconds_by_step(workflow)}
    if argo.phase(workflow) == "Succeeded":
        _finish(_collect_remote(name, given, facts), 0, as_json=as_json)
    why = argo.failure(workflow)
    message = f"step {why.step} failed: {why.message}; its log: argo logs {name} {here}" if why.step else why.message
    outcome = Outcome(
        run_id=name, status=argo.phase(workflow), failed_step=why.step, error=message, seconds=facts["seconds"]
    )
    _finish(outcome, why.exit_code, as_json=as_json)


def _collect_remote(name: str, given: Mapping[str, str], facts: dict[str, dict[str, float]]) -> Outcome:
    """Read the results where the lake is within reach from here; a run that succeeded stays so where it is not."""
    try:
        return collect(open_lake(lake_uri(given.get("lake", ""))), name, "Succeeded", **facts)
    except PipelineError as error:
        console.print(f"its results cannot be read from here: {error}", soft_wrap=True, markup=False)
        return Outcome(run_id=name, status="Succeeded", seconds=facts["seconds"])


def _finish(outcome: Outcome, exit_code: int, *, as_json: bool) -> NoReturn:
    if outcome.error:
        console.print(f"error: {outcome.error}", soft_wrap=True, highlight=False, markup=False)
    print(outcome.model_dump_json() if as_json else summary(outcome), flush=True)
    raise typer.Exit(exit_code)


if __name__ == "__main__":
    run_app(app)
