"""What every lake must do; each test runs on a folder and on a real S3 server."""

import hashlib
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from pipelines.errors import ArtefactError, LakeConflict, LakeDamaged, LakeKeyMissing, UsageError
from pipelines.lake import FileEntry, Lake, open_lake

N_PROCESSES, N_THREADS = 3, 5


def test_what_was_written_is_read(lake: Lake) -> None:
    lake.write_bytes("registry/champion.json", b'{"version": "1"}')
    assert lake.read_bytes("registry/champion.json") == b'{"version": "1"}'
    assert lake.uri_of("registry/champion.json") == f"{lake.uri}/registry/champion.json"


def test_an_empty_file_is_a_file(lake: Lake) -> None:
    lake.write_bytes("empty", b"")
    assert lake.exists("empty")
    assert lake.read_bytes("empty") == b""


def test_missing_key_says_which_and_what_to_do(lake: Lake) -> None:
    lake.write_bytes("raw/r1/manifest.json", b"{}")
    with pytest.raises(LakeKeyMissing, match=r"/raw/r2/manifest\.json does not exist; run the step") as caught:
        lake.read_bytes("raw/r2/manifest.json")
    assert caught.value.exit_code == 4
    assert not lake.exists("raw/r2/manifest.json")


def test_a_folder_is_no_key(lake: Lake) -> None:
    lake.write_bytes("raw/r1/manifest.json", b"{}")
    assert not lake.exists("raw/r1")


def test_keys_cannot_leave_the_lake(lake: Lake) -> None:
    for key in (
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        "./a",
        "a\\b",
        "a\nb",
        ".scratch/x",
        ".lock",
        "a\0b",
    ):
        with pytest.raises(UsageError, match="is no key of a lake"):
            lake.write_bytes(key, b"x")
        with pytest.raises(UsageError, match="is no key of a lake"):
            lake.read_bytes(key)
        with pytest.raises(UsageError, match="is no key of a lake"):
            lake.delete(key)


def test_list_is_sorted_and_by_prefix(lake: Lake) -> None:
    for key in ("raw/r2/b", "raw/r1/a", "raw/r10/c", "eda/r1/d", "rawer"):
        lake.write_bytes(key, b"12345")
    assert lake.list() == ["eda/r1/d", "raw/r1/a", "raw/r10/c", "raw/r2/b", "rawer"]
    assert lake.list("raw/r1") == ["raw/r1/a", "raw/r10/c"]
    assert lake.list("raw/r1/") == ["raw/r1/a"]
    assert lake.list("nothing/here/") == []
    assert lake.sizes("eda/") == {"eda/r1/d": 5}


def test_names_of_every_script_survive(lake: Lake) -> None:
    key = "raw/r1/Größe 100% ä+b?c#d&e=f/ブラウス.csv"
    lake.write_bytes(key, b"x")
    assert lake.list("raw/") == [key]
    assert lake.read_bytes(key) == b"x"


def test_it_says_when_a_file_was_written(lake: Lake) -> None:
    lake.write_bytes("a", b"x")
    assert abs(datetime.now(UTC) - lake.written_at("a")) < timedelta(seconds=10)
    with pytest.raises(LakeKeyMissing, match="b does not exist"):
        lake.written_at("b")


def test_delete_removes_and_repeats_without_error(lake: Lake) -> None:
    lake.write_bytes("a", b"x")
    lake.delete("a")
    lake.delete("a")
    assert not lake.exists("a")


def test_if_absent_writes_once(lake: Lake) -> None:
    lake.write_bytes("claim", b"first", if_absent=True)
    with pytest.raises(LakeConflict) as caught:
        lake.write_bytes("claim", b"second", if_absent=True)
    assert caught.value.exit_code == 75
    assert "claim" in str(caught.value)
    assert lake.read_bytes("claim") == b"first"


def test_if_match_writes_only_over_what_was_read(lake: Lake) -> None:
    etag = lake.write_bytes("pointer", b"one")
    assert lake.read_versioned("pointer") == (b"one", etag)
    newer = lake.write_bytes("pointer", b"two", if_match=etag)
    with pytest.raises(LakeConflict):
        lake.write_bytes("pointer", b"three", if_match=etag)
    assert lake.read_versioned("pointer") == (b"two", newer)


def test_if_match_on_a_deleted_key_is_a_conflict(lake: Lake) -> None:
    etag = lake.write_bytes("pointer", b"one")
    lake.delete("pointer")
    with pytest.raises(LakeConflict):
        lake.write_bytes("pointer", b"two", if_match=etag)
    assert not lake.exists("pointer")


@pytest.mark.parametrize("condition", ["if_absent", "if_match"])
def test_exactly_one_of_many_racing_processes_wins(lake: Lake, condition: str) -> None:
    etag = None if condition == "if_absent" else lake.write_bytes("prize", b"start")
    context = multiprocessing.get_context("fork")
    results, ready = context.Queue(), context.Barrier(N_PROCESSES)
    racers = [context.Process(target=_race, args=(lake.uri, i, etag, ready, results)) for i in range(N_PROCESSES)]
    for racer in racers:
        racer.start()
    won = [name for _ in racers for name in results.get(timeout=60)]
    for racer in racers:
        racer.join(timeout=60)
        racer.close()
    results.close()
    results.join_thread()
    assert len(won) == 1
    assert lake.read_bytes("prize") == won[0].encode()


def _race(uri: str, process: int, etag: str | None, ready: Barrier, results: "Queue[list[str]]") -> None:
    """Race in 4 threads of this process; report who won."""
    lake = open_lake(uri)
    lake.exists("prize")  # connect first, so that all start at once
    go = threading.Barrier(N_THREADS)

    def write(thread: int) -> list[str]:
        name = f"{process}.{thread}"
        go.wait(30)
        try:
            lake.write_bytes("prize", name.encode(), if_match=etag, if_absent=etag is None)
        except LakeConflict:
            return []
        return [name]

    ready.wait(30)
    with ThreadPoolExecutor(N_THREADS) as pool:
        results.put([name for names in pool.map(write, range(N_THREADS)) for name in names])
    lake.close()


def test_readers_see_old_or_new_content_and_nothing_between(lake: Lake) -> None:
    contents = [bytes([letter]) * 300_000 for letter in b"ab"]
    lake.write_bytes("report.html", contents[0])
    stop = threading.Event()

    def rewrite() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            lake.write_bytes("report.html", contents[turn % 2])

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(rewrite)
        try:
            seen = [lake.read_bytes("report.html") for _ in range(40)]
        finally:
            stop.set()
        writing.result(30)
    assert all(content in contents for content in seen)


@pytest.mark.parametrize("size_bytes", [0, 1, 1_000, 20 << 20], ids=["empty", "byte", "small", "multipart"])
def test_upload_and_fetch_give_the_same_bytes(lake: Lake, tmp_path: Path, size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    source = tmp_path / "source.parquet"
    source.write_bytes(content)
    entry = lake.upload(source, "raw/r1/articles.parquet")
    assert entry == FileEntry(
        key="raw/r1/articles.parquet", size_bytes=size_bytes, sha256=hashlib.sha256(content).hexdigest()
    )
    assert source.exists()
    with lake.scratch() as scratch:
        assert lake.fetch(entry, scratch).read_bytes() == content
        assert lake.fetch(entry, scratch).read_bytes() == content  # a second time from what is there


def test_the_source_of_an_upload_may_change_afterwards(lake: Lake, tmp_path: Path) -> None:
    source = tmp_path / "state.json"
    source.write_text("old")
    entry = lake.upload(source, "state.json")
    source.write_text("new")
    assert lake.read_bytes(entry.key) == b"old"


def test_a_moved_upload_is_gone_from_where_it_was(lake: Lake, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("1")
    lake.upload(elsewhere, "a", move=True)
    with lake.scratch() as scratch:
        (scratch / "inside.txt").write_text("2")
        lake.upload(scratch / "inside.txt", "b", move=True)
        assert list(scratch.iterdir()) == []
    assert not elsewhere.exists()
    assert [lake.read_bytes(key) for key in ("a", "b")] == [b"1", b"2"]


def test_only_files_are_uploaded(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"nowhere\.txt cannot be stored in the lake: it is not a file"):
        lake.upload(tmp_path / "nowhere.txt", "a")


def test_damaged_file_is_found_on_fetch(lake: Lake, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"0123456789")
    entry = lake.upload(source, "artifacts/r1/model.onnx")
    lake.write_bytes(entry.key, b"012345678X")  # one byte flipped
    with lake.scratch() as scratch:
        with pytest.raises(LakeDamaged, match=r"artifacts/r1/model\.onnx has sha256 \w+, its manifest says .* again"):
            lake.fetch(entry, scratch)
        assert lake.fetch(entry, scratch, verify=False).read_bytes() == b"012345678X"
    lake.write_bytes(entry.key, b"0123")  # cut off
    with lake.scratch() as scratch, pytest.raises(LakeDamaged, match="has 4 bytes, its manifest says 10") as caught:
        lake.fetch(entry, scratch, verify=False)
    assert caught.value.exit_code == 4


def test_fetch_of_a_missing_file_says_which(lake: Lake) -> None:
    entry = FileEntry(key="raw/r1/gone.parquet", size_bytes=1, sha256="0" * 64)
    lake.write_bytes("other", b"")
    with lake.scratch() as scratch:
        with pytest.raises(LakeKeyMissing, match=r"raw/r1/gone\.parquet does not exist"):
            lake.fetch(entry, scratch)
        assert [path for path in scratch.rglob("*") if path.is_file()] == []


def test_scratch_is_gone_afterwards_even_after_an_error(lake: Lake) -> None:
    with lake.scratch() as scratch:
        (scratch / "file").write_text("x")
        assert lake.list() == []  # work in progress is not in the lake
    assert not scratch.exists()
    with pytest.raises(ZeroDivisionError), lake.scratch() as scratch:
        _ = 1 / 0
    assert not scratch.exists()
