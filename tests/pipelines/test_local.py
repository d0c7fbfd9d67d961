"""A run of small real programs, rendered from a step table of their own as the real steps are."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import LakeRefused, UsageError
from pipelines.journal import Journal
from pipelines.lake import open_lake
from pipelines.local import LocalRun
from pipelines.rendered import plan_steps
from pipelines.run_record import RunRecord, StepRecord
from pipelines.workflow import CONFIG, RetryRule, Step, workflow_template

FAST = RetryRule(backoff_seconds=0)
PATH = "import json, os, pathlib, sys, time; here = pathlib.Path(os.environ['HERE']); name = {name!r}\n"
NOTE = "(here / 'order').open('a').write(name + '\\n')\n"

# Runs the table of whoever starts it: `python driver.py lake run_id here`
DRIVER = """
import pathlib, sys
sys.path.insert(0, {root!r})
from tests.pipelines.test_local import execute
sys.exit(execute(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])).exit_code)
"""


def step(name: str, *after: str, deadline_seconds: int = 60) -> Step:
    return Step(
        name=name,
        module=f"small_{name}",
        after=after,
        parameters=("horizon-days",),
        cpu_request="1",
        memory_request="1Mi",
        memory_limit="1Mi",
        scratch_limit="1Mi",
        deadline_seconds=deadline_seconds,
    )


TABLE = (step("ingest"), step("process", "ingest"), step("eda", "process"), step("train", "process"))


class Executed:
    def __init__(self, exit_code: int, record: RunRecord, journal: Journal) -> None:
        self.exit_code, self.record, self.journal = exit_code, record, journal
        self.statuses = {name: step.status for name, step in record.steps.items()}


def execute(
    lake_uri: str,
    run_id: str,
    here: Path,
    *,
    table: tuple[Step, ...] = TABLE,
    retry: RetryRule = FAST,
    parameters: dict[str, str] | None = None,
    on_change: Callable[[RunRecord, StepRecord], None] = lambda *_: None,
) -> Executed:
    """Run the small programs in `here`; those without a file do nothing but note their turn."""
    for one in table:
        program = here / f"{one.module}.py"
        if not program.exists():
            program.write_text(PATH.format(name=one.name) + NOTE)
    lake = open_lake(lake_uri)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(here), "HERE": str(here)}
    plan = plan_steps(
        workflow_template(table, retry), run_id=run_id, parameters={}, config=CONFIG, environ=environ, retry=retry
    )
    journal = Journal(lake, run_id, folder=here / ".runs")
    run = LocalRun(
        plan,
        lake=lake,
        run_id=run_id,
        parameters=parameters or {},
        journal=journal,
        on_change=on_change,
        retry=retry,
    )
    return Executed(run.execute(), run.record, journal)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def lake(tmp_path: Path) -> str:
    return str(tmp_path / "lake")


@pytest.fixture
def program(here: Path) -> Callable[[str, str], None]:
    def write(name: str, body: str) -> None:
        (here / f"small_{name}.py").write_text(PATH.format(name=name) + NOTE + body + "\n")

    return write


def order(here: Path) -> list[str]:
    return (here / "order").read_text().split()


def run_json(lake: str, run_id: str = "run-1") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(lake, "runs", run_id, "run.json").read_text())
    return document


Program = Callable[[str, str], None]


def test_steps_run_in_dag_order_and_leave_a_record(here: Path, lake: str) -> None:
    done = execute(lake, "run-1", here)
    assert done.exit_code == 0
    assert order(here)[:2] == ["ingest", "process"]
    assert sorted(order(here)[2:]) == ["eda", "train"]
    record = run_json(lake)
    assert record["status"] == "Succeeded"
    assert list(record["steps"]) == ["ingest", "process", "eda", "train"]
    for one in record["steps"].values():
        assert one["status"] == "Succeeded"
        assert one["seconds"] > 0
        assert one["peak_rss_bytes"] > 1_000_000
        assert Path(one["log"]).exists()


def test_eda_runs_beside_train(here: Path, lake: str, program: Program) -> None:
    # each waits until the other has begun: one after the other could never end
    meet = """
(here / name).touch()
other = here / {"eda": "train", "train": "eda"}[name]
for _ in range(400):
    if other.exists(): sys.exit(0)
    time.sleep(0.025)
sys.exit(1)
"""
    program("eda", meet)
    program("train", meet)
    assert execute(lake, "run-1", here).exit_code == 0


@pytest.mark.parametrize("exit_code", [1, 2, 3, 4])
def test_failed_step_stops_what_follows_and_gives_its_exit_code(
    here: Path, lake: str, program: Program, exit_code: int
) -> None:
    program("process", f"print('why it failed', file=sys.stderr); sys.exit({exit_code})")
    done = execute(lake, "run-1", here)
    assert done.exit_code == exit_code
    assert order(here) == ["ingest", "process"]
    assert done.statuses == {"ingest": "Succeeded", "process": "Failed", "eda": "Omitted", "train": "Omitted"}
    assert done.journal.last_lines("process") == ["why it failed"]
    assert run_json(lake)["status"] == "Failed"


def test_sibling_of_a_failed_step_finishes(here: Path, lake: str, program: Program) -> None:
    program("eda", "sys.exit(4)")
    program("train", "time.sleep(0.3); (here / 'trained').touch()")
    done = execute(lake, "run-1", here)
    assert done.exit_code == 4
    assert done.statuses["train"] == "Succeeded"
    assert (here / "trained").exists()


def test_exit_75_is_tried_again_and_the_log_keeps_every_attempt(here: Path, lake: str, program: Program) -> None:
    program(
        "process",
        "n = order = (here / 'order').read_text().count('process'); print('attempt', n); sys.exit(75 * (n < 3))",
    )
    done = execute(lake, "run-1", here)
    assert done.exit_code == 0
    assert order(here).count("process") == 3
    assert done.record.steps["process"].attempts == 3
    assert done.journal.last_lines("process") == ["attempt 1", "attempt 2", "attempt 3"]


def test_a_retry_says_why(here: Path, lake: str, program: Program) -> None:
    program(
        "process",
        "n = (here / 'order').read_text().count('process')\n"
        "if n < 2: print('error: no space is left', file=sys.stderr); sys.exit(75)",
    )
    messages: list[str] = []
    assert execute(lake, "run-1", here, on_change=lambda _, step: messages.append(step.message)).exit_code == 0
    assert "exit code 75 (no space is left); retry 1 of 3 in 0 s" in messages


def test_exit_75_for_ever_ends_after_the_declared_retries(here: Path, lake: str, program: Program) -> None:
    program("process", "sys.exit(75)")
    assert execute(lake, "run-1", here).exit_code == 75
    assert order(here).count("process") == 1 + FAST.limit


def test_refused_gate_is_not_tried_again(here: Path, lake: str, program: Program) -> None:
    program("process", "sys.exit(3)")
    assert execute(lake, "run-1", here).exit_code == 3
    assert order(here).count("process") == 1


def test_killed_step_fails_the_run_and_running_again_succeeds(here: Path, lake: str, program: Program) -> None:
    program("process", "os.kill(os.getpid(), 9)")
    done = execute(lake, "run-1", here)
    assert done.exit_code == 137
    assert "SIGKILL" in done.record.steps["process"].message
    (here / "small_process.py").unlink()
    assert execute(lake, "run-2", here).exit_code == 0


def test_step_beyond_its_deadline_is_stopped_and_not_tried_again(here: Path, lake: str, program: Program) -> None:
    program("ingest", "time.sleep(60)")
    done = execute(lake, "run-1", here, table=(step("ingest", deadline_seconds=1),))
    assert done.exit_code == 143
    assert "deadline of 1 s" in done.record.steps["ingest"].message
    assert order(here) == ["ingest"]


def test_child_that_a_step_leaves_behind_is_ended_with_it(here: Path, lake: str, program: Program) -> None:
    program(
        "ingest",
        "import subprocess; child = subprocess.Popen(['sleep', '60']); (here / 'pid').write_text(str(child.pid))\n"
        "child.returncode = 0",
    )
    assert execute(lake, "run-1", here).exit_code == 0
    assert_gone(int((here / "pid").read_text()))


def test_two_runs_at_once_keep_apart(here: Path, lake: str) -> None:
    runs = [start(here, lake, run_id) for run_id in ("run-1", "run-2")]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert [run_json(lake, run_id)["status"] for run_id in ("run-1", "run-2")] == ["Succeeded", "Succeeded"]
    assert order(here).count("train") == 2


def test_run_id_of_a_run_with_other_parameters_is_refused_before_anything_starts(here: Path, lake: str) -> None:
    assert execute(lake, "run-1", here, parameters={"horizon-days": "7"}).exit_code == 0
    with pytest.raises(UsageError, match="run-id 'run-1' stands for a run with another horizon-days "):
        execute(lake, "run-1", here, parameters={"horizon-days": "14"})
    assert order(here).count("ingest") == 1
    assert run_json(lake)["parameters"] == {"horizon-days": "7"}
    assert execute(lake, "run-1", here, parameters={"horizon-days": "7"}).exit_code == 0


def test_unwritable_lake_is_refused_before_anything_starts(here: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LakeRefused, match="file"):
        execute(str(tmp_path / "file"), "run-1", here)
    assert not (here / "order").exists()


# a step that runs long, with a child of its own
LONG = """
import subprocess
child = subprocess.Popen(["sleep", "60"])
(here / "pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""


def start(here: Path, lake: str, run_id: str) -> "subprocess.Popen[bytes]":
    driver = here / "driver.py"
    driver.write_text(DRIVER.format(root=str(Path(__file__).parents[2])))
    return subprocess.Popen([sys.executable, driver, lake, run_id, here], stderr=subprocess.DEVNULL)


def pids_of_long_step(here: Path) -> list[int]:
    for _ in range(400):
        if (here / "pids").exists() and (pids := (here / "pids").read_text().split()):
            return [int(pid) for pid in pids]
        time.sleep(0.05)
    raise AssertionError("the long step did not begin")


def assert_gone(*pids: int) -> None:
    for _ in range(200):
        if not any(is_running(pid) for pid in pids):
            return
        time.sleep(0.025)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"{pids} were left behind")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_ends_its_processes_and_says_so(
    here: Path, lake: str, program: Program, number: signal.Signals, exit_code: int
) -> None:
    program("process", LONG)
    run = start(here, lake, "run-1")
    pids = pids_of_long_step(here)
    run.send_signal(number)
    assert run.wait(30) == exit_code
    assert_gone(*pids)
    record = run_json(lake)
    assert record["status"] == "Interrupted"
    assert {name: one["status"] for name, one in record["steps"].items()} == {
        "ingest": "Succeeded",
        "process": "Interrupted",
        "eda": "Interrupted",
        "train": "Interrupted",
    }


def test_second_ctrl_c_does_not_wait_for_a_step_that_ignores_the_first(here: Path, lake: str, program: Program) -> None:
    program("process", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LONG)
    run = start(here, lake, "run-1")
    pids = pids_of_long_step(here)
    run.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    assert run.wait(5) == 130
    assert_gone(*pids)


def test_killed_run_leaves_no_process_behind(here: Path, lake: str, program: Program) -> None:
    program("process", LONG)
    run = start(here, lake, "run-1")
    pids = pids_of_long_step(here)
    run.kill()
    run.wait(30)
    assert_gone(*pids)


@pytest.mark.s3
def test_logs_of_a_run_on_s3_are_in_the_lake_at_its_end(here: Path, s3_bucket: str, program: Program) -> None:
    program("ingest", "print('read 3 rows')")
    done = execute(f"s3://{s3_bucket}/prefix", "run-1", here)
    assert done.exit_code == 0
    lake = open_lake(f"s3://{s3_bucket}/prefix")
    assert lake.read_bytes("runs/run-1/logs/ingest.log") == b"read 3 rows\n"
    assert done.record.steps["ingest"].log == lake.uri_of("runs/run-1/logs/ingest.log")
    assert json.loads(lake.read_bytes("runs/run-1/run.json"))["status"] == "Succeeded"
