"""Steps that are killed, and steps that run at the same time: real processes on a folder and on a real S3 server."""

import hashlib
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from os import getpid, kill
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import ArtefactError
from pipelines.lake import Lake, open_lake
from pipelines.lake.local import LocalLake
from pipelines.steps.step import StepManifest, read_manifest, run_step

FORK = multiprocessing.get_context("fork")  # a child that starts in 10 ms
N_KILLS = {True: 30, False: 6}  # on a folder, on S3
# What Python reports before it touches a file or the network: the moments between which the outside changes.
MOMENTS = ("open", "os.", "shutil.", "fcntl.", "http.client.")
BIG = bytes(9 << 20)  # two parts of a multipart upload


def work(folder: Path) -> dict[str, Any]:
    (folder / "week=2020-09-14").mkdir()
    (folder / "week=2020-09-14/part.txt").write_text("B" * 1_000)
    (folder / "big.bin").write_bytes(BIG)
    return {"n_rows": 2}


def run(lake: Lake, run_id: str = "r1", content: str = "same") -> StepManifest:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "content.txt").write_text(content)
        return work(folder)

    return run_step(
        lake,
        step="ingest",
        run_id=run_id,
        parameters={"content": content},
        inputs={},
        code=["pipelines.errors"],
        work=write,
    )


def hashes(lake: Lake) -> dict[str, str]:
    return {key: hashlib.sha256(lake.read_bytes(key)).hexdigest() for key in lake.list()}


def check_whole(lake: Lake, run_id: str) -> None:
    """Read as another process would: everything that a manifest names is there and right."""
    manifest = read_manifest(lake, "ingest", run_id)
    with lake.scratch() as scratch:
        for entry in manifest.files.values():
            lake.fetch(entry, scratch)


def is_there_and_whole(lake: Lake, run_id: str) -> bool:
    try:
        read_manifest(lake, "ingest", run_id)
    except ArtefactError as error:
        if "has no finished ingest step" not in str(error):
            raise
        return False
    check_whole(lake, run_id)
    return True


@contextmanager
def lake_below(lake: Lake, name: str) -> Iterator[Lake]:
    opened = open_lake(f"{lake.uri}/{name}")
    yield opened
    opened.close()


def run_and_die(uri: str, moment: int, n_moments: "Synchronized[int]") -> None:
    """Run the step, and be killed at that moment (counted from 1; 0 lives on)."""
    lake = open_lake(uri)

    def count(event: str, _: object) -> None:
        if event.startswith(MOMENTS):
            n_moments.value += 1
            if n_moments.value == moment:
                kill(getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    run(lake)


def in_child(uri: str, moment: int) -> tuple[int | None, int]:
    n_moments = FORK.Value("i", 0)
    child = FORK.Process(target=run_and_die, args=(uri, moment, n_moments))
    child.start()
    child.join(60)
    exit_code = child.exitcode
    child.close()
    return exit_code, n_moments.value


def test_killed_at_any_moment_a_rerun_ends_with_the_same_bytes(lake: Lake) -> None:
    with lake_below(lake, "clean") as clean:
        exit_code, n_moments = in_child(clean.uri, 0)
        assert exit_code == 0
        expected = hashes(clean)
    n_kills = min(N_KILLS[isinstance(lake, LocalLake)], n_moments)
    half_done = 0
    for moment in sorted({1 + i * (n_moments - 1) // (n_kills - 1) for i in range(n_kills)}):
        with lake_below(lake, f"killed-{moment}") as target:
            exit_code, _ = in_child(target.uri, moment)
            assert exit_code in (-signal.SIGKILL, 0)  # 0: threads needed fewer moments than in the first run
            half_done += not is_there_and_whole(target, "r1") and bool(target.list())
            run(target)
            assert hashes(target) == expected, f"killed at moment {moment} of {n_moments}"
            with target.scratch() as scratch:
                assert [path for path in scratch.parent.glob(f"{getpid()}-*") if path.is_dir()] == [scratch]
    assert half_done > 0  # or the test has never killed in the interesting time


@pytest.mark.parametrize(
    ("run_ids", "contents"),
    [
        (("r1", "r1", "r1"), ("a", "a", "a")),
        (("r1", "r2", "r3"), ("a", "a", "a")),
        (("r1", "r1", "r1"), ("a", "b", "c")),
    ],
    ids=["one run thrice", "three runs of the same", "one run id for different work"],
)
def test_runs_at_the_same_time_do_each_other_no_harm(
    lake: Lake, run_ids: tuple[str, ...], contents: tuple[str, ...]
) -> None:
    start = FORK.Barrier(len(run_ids))
    children = [
        FORK.Process(target=_run_together, args=(lake.uri, run_id, content, start))
        for run_id, content in zip(run_ids, contents, strict=True)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
        child.close()
    for run_id in run_ids:
        check_whole(lake, run_id)
    for content in set(contents):  # whoever came last, everyone's work is whole and found again
        manifest = run(lake, run_id="later", content=content)
        assert manifest.produced_by in run_ids
        check_whole(lake, "later")
        with lake.scratch() as scratch:
            assert lake.fetch(manifest.files["content.txt"], scratch).read_text() == content


def _run_together(uri: str, run_id: str, content: str, start: Barrier) -> None:
    lake = open_lake(uri)
    lake.exists("connect")
    start.wait(30)
    run(lake, run_id, content)
    check_whole(lake, run_id)


def test_a_reader_beside_a_writer_sees_no_step_or_a_whole_one(lake: Lake) -> None:
    writer = FORK.Process(target=_write_many, args=(lake.uri,))
    writer.start()
    seen = set()
    while writer.is_alive():
        for run_id in ("r0", "r1", "r2", "r3"):
            if is_there_and_whole(lake, run_id):
                seen.add(run_id)
            else:
                assert run_id not in seen
    assert writer.exitcode == 0
    writer.close()
    for run_id in ("r0", "r1", "r2", "r3"):
        check_whole(lake, run_id)


def _write_many(uri: str) -> None:
    lake = open_lake(uri)
    for i in range(4):
        run(lake, f"r{i}", content=str(i))
