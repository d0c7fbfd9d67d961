"""Real steps killed with everything around them, and run again."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.lake import open_lake
from pipelines.steps.manifest import read_manifest

# ingest and process of the real table: enough to be killed in, and training's own resuming is tested with it
DRIVER = """
import os, sys
from pipelines.journal import Journal
from pipelines.lake import open_lake
from pipelines.local import LocalRun
from pipelines.rendered import plan_steps
from pipelines.workflow import CONFIG, STEPS, workflow_template
lake, run_id = open_lake(sys.argv[1]), sys.argv[2]
given = {"lake": sys.argv[1], "source": "synthetic://?customers=300&seed=7"}
plan = plan_steps(workflow_template(STEPS[:2]), run_id=run_id, parameters=given, config=CONFIG, environ=os.environ)
journal = Journal(lake, run_id)
run = LocalRun(plan, lake=lake, run_id=run_id, parameters=given, journal=journal, on_change=lambda *_: None)
code = run.execute()
for step in plan:
    print(step.name, run.record.steps[step.name].reused_from)
    print(*journal.last_lines(step.name), sep="\\n", file=sys.stderr)
sys.exit(code)
"""


def start(lake: Path, run_id: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(lake), run_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(lake: Path, run_id: str) -> list[str]:
    """Run to the end and give `step run-it-was-reused-from` lines."""
    with start(lake, run_id) as run:
        output, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    return output.splitlines()


def contents(lake: Path, run_id: str) -> dict[str, str]:
    manifests = [read_manifest(open_lake(str(lake)), step, run_id) for step in ("ingest", "process")]
    return {f"{m.step}/{name}": entry.sha256 for m in manifests for name, entry in m.files.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a lake with run-0, which nothing disturbed."""
    lake = tmp_path_factory.mktemp("whole")
    assert finish(lake, "run-0") == ["ingest None", "process None"]
    return lake


def test_run_killed_at_any_moment_ends_with_the_same_bytes_when_run_again(whole: Path, tmp_path: Path) -> None:
    moments = random.Random(7)
    for number in range(3):
        with start(tmp_path, f"run-{number}") as run:
            try:
                run.wait(moments.uniform(0.3, 3))
            except subprocess.TimeoutExpired:
                run.kill()
    finish(tmp_path, "run-9")
    assert contents(tmp_path, "run-9") == contents(whole, "run-0")


def test_finished_steps_are_reused_by_the_next_run(whole: Path) -> None:
    assert finish(whole, "run-1") == ["ingest run-0", "process run-0"]
    assert contents(whole, "run-1") == contents(whole, "run-0")
