"""A lake in a folder: what the file system can do to it."""

import fcntl
import multiprocessing
import os
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import LakeDamaged, LakeFull, LakeRefused, UsageError
from pipelines.lake import open_lake
from pipelines.steps.step import run_step

NOBODY = 65_534


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk needs root that may mount: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """Run the test without root's power to write everywhere, and give a folder that everyone may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)
            yield Path(folder)
            os.seteuid(0)
        else:
            yield Path(folder)
        for path in Path(folder).rglob("*"):
            path.chmod(0o755)


@pytest.mark.parametrize(
    ("uri", "root"), [("./here", "here"), ("file:///srv/a%20b", "/srv/a b"), ("/srv/x/", "/srv/x")]
)
def test_a_folder_is_a_lake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, root: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_lake(uri).uri == str(tmp_path / root)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "no lake is given; pass --lake"),
        ("gs://bucket", "unknown scheme 'gs'; known are a folder, file:// and s3://"),
        ("s3:/bucket", "lacks slashes; write s3://bucket/prefix"),
        ("file://lake", "names the host 'lake'"),
        ("s3://", "'' is no bucket name"),
        ("s3://My_Bucket/x", "'My_Bucket' is no bucket name"),
        ("s3://bucket/a//b", "is no key of a lake"),
    ],
)
def test_what_is_no_lake_is_refused_with_what_would_be(uri: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_lake(uri)


def test_opening_a_lake_creates_nothing(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path / "lake"))
    assert lake.list() == []
    assert not lake.exists("a")
    assert not (tmp_path / "lake").exists()


def test_the_file_is_read_in_place(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path / "lake"))
    (tmp_path / "a").write_text("x")
    entry = lake.upload(tmp_path / "a", "raw/a")
    assert lake.fetch(entry, tmp_path / "unused") == tmp_path / "lake/raw/a"


def test_moving_out_of_scratch_copies_nothing(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path / "lake"))
    with lake.scratch() as scratch:
        (scratch / "big").write_text("x")
        inode = (scratch / "big").stat().st_ino
        lake.upload(scratch / "big", "big", move=True)
    assert (tmp_path / "lake/big").stat().st_ino == inode


def test_files_get_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path / "lake"))
    lake.write_bytes("a", b"x")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "lake/a").stat().st_mode) == 0o666 & ~umask  # others in the group read it too


def test_unwritable_folder_says_which_and_how_to_mend(as_nobody: Path) -> None:
    (as_nobody / "lake").mkdir()
    (as_nobody / "lake").chmod(0o555)
    lake = open_lake(str(as_nobody / "lake"))
    with pytest.raises(LakeRefused, match=r"cannot use /.*/lake.*: permission denied; check its owner") as caught:
        lake.write_bytes("raw/a", b"x")
    assert caught.value.exit_code == 2
    assert lake.list() == []


def test_unreadable_file_says_which(as_nobody: Path) -> None:
    lake = open_lake(str(as_nobody / "lake"))
    lake.write_bytes("raw/a", b"x")
    (as_nobody / "lake/raw/a").chmod(0o000)
    with pytest.raises(LakeRefused, match=r"cannot use /.*/lake/raw/a: permission denied"):
        lake.read_bytes("raw/a")


def test_a_file_where_a_folder_belongs_is_named(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("not a folder")
    with pytest.raises(LakeRefused, match=r"cannot use .*lake"):
        open_lake(str(tmp_path / "lake")).write_bytes("a", b"x")
    lake = open_lake(str(tmp_path / "other"))
    lake.write_bytes("a", b"x")
    with pytest.raises(LakeRefused, match=r"cannot use .*other/a: "):
        lake.write_bytes("a/b", b"x")
    lake.write_bytes("c/d", b"x")
    with pytest.raises(LakeDamaged, match=r"other/c is a folder where a file belongs"):
        lake.read_bytes("c")


@pytest.mark.parametrize("place", ["/proc/lake", "/proc/self/lake/a", f"/tmp/{'long' * 100}"])
def test_a_place_where_no_folder_can_be_made_is_named(place: str) -> None:
    with pytest.raises(LakeRefused, match=rf"cannot (use|make) {place}.*choose another") as caught:
        open_lake(place).write_bytes("a", b"x")
    assert caught.value.exit_code == 2
    with pytest.raises(LakeRefused), open_lake(place).scratch():
        pass


def test_folders_go_with_their_last_file(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.write_bytes("checkpoints/fit/a", b"x")
    lake.write_bytes("checkpoints/b", b"x")
    lake.delete("checkpoints/fit/a")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["b"]
    lake.delete("checkpoints/b")
    assert not (tmp_path / "checkpoints").exists()
    open_lake(str(tmp_path / "none")).delete("a/b")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_empties_while_another_fills_it_loses_nothing(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))

    def write_and_delete(name: str) -> None:
        for _ in range(150):
            lake.write_bytes(f"a/b/{name}", b"x")
            assert lake.read_bytes(f"a/b/{name}") == b"x"
            lake.delete(f"a/b/{name}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_and_delete, "wxyz"))
    assert not (tmp_path / "a").exists()


def test_full_disk_is_said_and_nothing_half_is_left(small_disk: Path, tmp_path: Path) -> None:
    lake = open_lake(str(small_disk / "lake"))
    lake.write_bytes("kept", b"old")
    (tmp_path / "big").write_bytes(bytes(2 << 20))
    with pytest.raises(LakeFull, match=r"no space is left for /.*; free some or choose another place") as caught:
        lake.upload(tmp_path / "big", "raw/big")
    assert caught.value.exit_code == 75
    with pytest.raises(LakeFull):
        lake.write_bytes("kept", bytes(2 << 20))
    assert lake.list() == ["kept"]
    assert lake.read_bytes("kept") == b"old"
    lake.write_bytes("small", b"still works")


def test_a_disk_that_fills_up_during_the_work_leaves_no_half_step(small_disk: Path) -> None:
    lake = open_lake(str(small_disk / "lake"))

    def work(folder: Path) -> dict[str, int]:
        pl.DataFrame({"price": range(1_000_000)}).write_parquet(folder / "prices.parquet", compression="uncompressed")
        return {}

    with pytest.raises(LakeFull, match="no space is left"):
        run_step(lake, step="ingest", run_id="r1", parameters={}, inputs={}, code=[], work=work)
    assert lake.list() == []
    assert not any((small_disk / "lake/.scratch").glob("*/*"))


def test_a_bug_in_the_work_is_not_taken_for_a_fault_of_the_lake(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), open_lake(str(tmp_path / "lake")).scratch() as scratch:
        scratch.mkdir()


def test_scratch_of_killed_processes_is_cleared_and_of_living_ones_kept(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path / "lake"))
    context = multiprocessing.get_context("fork")
    alive, dead = [context.Process(target=_work_for_ever, args=(lake.uri,)) for _ in range(2)]
    for process in (alive, dead):
        process.start()
    try:
        _wait_for(lambda: len(list((tmp_path / "lake/.scratch").glob("*/started"))) == 2)
        assert dead.pid is not None
        os.kill(dead.pid, signal.SIGKILL)
        dead.join(10)
        with lake.scratch():
            kept = {path.parent.name.split("-")[0] for path in (tmp_path / "lake/.scratch").glob("*/started")}
        assert kept == {str(alive.pid)}
    finally:
        alive.kill()
        alive.join(10)
        alive.close()
        dead.close()


def _work_for_ever(uri: str) -> None:
    with open_lake(uri).scratch() as scratch:
        (scratch / "started").touch()
        time.sleep(60)


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path / "lake"))
    lake.write_bytes("a", b"x")
    context = multiprocessing.get_context("fork")
    holder = context.Process(target=_hold_for_ever, args=(tmp_path / "lake/.lock",))
    holder.start()
    with (tmp_path / "lake/.lock").open() as file:
        _wait_for(lambda: not _is_free(file.fileno()))
    holder.kill()
    holder.join(10)
    holder.close()
    lake.write_bytes("a", b"y", if_match=lake.read_versioned("a")[1])


def _hold_for_ever(path: Path) -> None:
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        time.sleep(60)


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def _wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
