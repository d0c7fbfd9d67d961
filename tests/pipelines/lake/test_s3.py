"""A lake on S3: what the server, the network and the credentials can do to it."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.errors import LakeConflict, LakeFull, LakeRefused, LakeUnreachable
from pipelines.lake import FileEntry, Lake, open_lake
from tests.conftest import S3Server, free_ports
from tests.pipelines.lake.cutting_proxy import CuttingProxy

pytestmark = pytest.mark.s3


@pytest.fixture
def s3_lake(s3_bucket: str) -> Iterator[Lake]:
    lake = open_lake(f"s3://{s3_bucket}/lake")
    yield lake
    lake.close()


def every_use(lake: Lake, tmp_path: Path) -> dict[str, Callable[[], object]]:
    """Give each way to use a lake."""
    (tmp_path / "file").write_text("x")
    entry = FileEntry(key="a", size_bytes=1, sha256="0" * 64)
    return {
        "read_bytes": lambda: lake.read_bytes("a"),
        "write_bytes": lambda: lake.write_bytes("a", b"x"),
        "exists": lambda: lake.exists("a"),
        "list": lambda: lake.list("a"),
        "delete": lambda: lake.delete("a"),
        "upload": lambda: lake.upload(tmp_path / "file", "a"),
        "fetch": lambda: lake.fetch(entry, tmp_path),
    }


def test_missing_bucket_is_named_whatever_is_asked(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    lake = open_lake(f"s3://no-such-{s3_bucket}/lake")
    for name, use in every_use(lake, tmp_path).items():
        with pytest.raises(LakeRefused) as caught:
            use()
        assert f"the bucket 'no-such-{s3_bucket}' does not exist" in str(caught.value), name
        assert "create it" in str(caught.value)
        assert caught.value.exit_code == 2
    assert f"no-such-{s3_bucket}" not in {
        bucket["Name"] for bucket in s3_server.client.list_buckets()["Buckets"]
    }  # nor was it made by writing
    lake.close()


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("AWS_ACCESS_KEY_ID", "stranger", "the access key is not known there; check AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the secret key does not fit the access key; check AWS_ACCESS_KEY_ID"),
        ("AWS_ACCESS_KEY_ID", None, "credentials"),
    ],
    ids=["unknown key", "wrong secret", "none"],
)
def test_wrong_credentials_say_which_part_is_wrong(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None, reason: str
) -> None:
    if value is None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    else:
        monkeypatch.setenv(variable, value)
    lake = open_lake(f"s3://{s3_bucket}/lake")
    for name, use in every_use(lake, tmp_path).items():
        with pytest.raises(LakeRefused) as caught:
            use()
        assert reason in str(caught.value), name
        assert f"s3://{s3_bucket}/lake" in str(caught.value)
        assert "wrong" not in str(caught.value)  # no secret in a message
    lake.close()


def test_an_unknown_profile_is_named(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(LakeRefused, match="no-such-profile"):
        open_lake(f"s3://{s3_bucket}")


def test_full_scratch_says_how_to_move_it(s3_lake: Lake) -> None:
    with pytest.raises(LakeFull, match="TMPDIR says where"), s3_lake.scratch():
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_reader_without_permission_to_write_is_told_so(
    s3_bucket: str, s3_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_lake.write_bytes("a", b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "reader-secret")
    reader = open_lake(f"s3://{s3_bucket}/lake")
    assert reader.read_bytes("a") == b"x"
    with pytest.raises(
        LakeRefused, match=r"cannot use s3://.*/lake/b: the policy does not allow it; a lake needs s3:List"
    ):
        reader.write_bytes("b", b"x")
    reader.close()


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:{port}", "http://lake.invalid:{port}"], ids=["refused", "no name"]
)
def test_an_endpoint_that_does_not_answer_is_named(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    endpoint = endpoint.format(port=free_ports(1)[0])
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    lake = open_lake(f"s3://{s3_bucket}/lake")
    for name, use in every_use(lake, tmp_path).items():
        with pytest.raises(LakeUnreachable) as caught:
            use()
        assert f"cannot reach {endpoint} for s3://{s3_bucket}/lake" in str(caught.value), name
        assert "check the network and AWS_ENDPOINT_URL, then run again" in str(caught.value)
        assert caught.value.exit_code == 75
    lake.close()


def test_an_endpoint_that_is_no_address_is_a_usage_error(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:8333")
    with pytest.raises(LakeRefused, match=r"localhost:8333.*AWS_ENDPOINT_URL looks like https://host:port"):
        open_lake(f"s3://{s3_bucket}/lake").exists("a")


def test_objects_carry_checksums_that_other_tools_can_check(
    s3_server: S3Server, s3_bucket: str, s3_lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(os.urandom(20 << 20))
    entry = s3_lake.upload(tmp_path / "big", "big")
    s3_lake.write_bytes("small", b"x")
    client = s3_server.client
    for key, parts in (("big", 3), ("small", None)):
        stored = client.get_object_attributes(
            Bucket=s3_bucket, Key=f"lake/{key}", ObjectAttributes=["Checksum", "ObjectParts", "ObjectSize"]
        )
        assert stored.get("ObjectParts", {}).get("TotalPartsCount") == parts
        head = client.head_object(Bucket=s3_bucket, Key=f"lake/{key}", ChecksumMode="ENABLED")
        assert "ChecksumSHA256" in head
        assert len(head["Metadata"]["sha256"]) == 64
    assert client.head_object(Bucket=s3_bucket, Key="lake/big")["Metadata"]["sha256"] == entry.sha256


def test_two_lakes_in_one_bucket_do_not_see_each_other(s3_bucket: str, s3_lake: Lake) -> None:
    other = open_lake(f"s3://{s3_bucket}/lake2/")
    other.write_bytes("a", b"other")
    s3_lake.write_bytes("a", b"mine")
    assert other.list() == s3_lake.list() == ["a"]
    assert other.read_bytes("a") == b"other"
    assert other.uri_of("a") == f"s3://{s3_bucket}/lake2/a"
    other.close()


def test_folder_marks_of_consoles_are_no_files(s3_server: S3Server, s3_bucket: str, s3_lake: Lake) -> None:
    s3_server.client.put_object(Bucket=s3_bucket, Key="lake/raw/", Body=b"")
    s3_lake.write_bytes("raw/a", b"x")
    assert s3_lake.list() == ["raw/a"]


def test_a_list_goes_on_behind_the_first_thousand(s3_lake: Lake) -> None:
    keys = [f"many/{i:04d}" for i in range(1_001)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: s3_lake.write_bytes(key, b""), keys))
    assert s3_lake.list("many/") == keys


def test_a_conditional_write_whose_answer_got_lost_still_knows_that_it_won(
    s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CuttingProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        lake = open_lake(f"s3://{s3_bucket}/lake")
        lake.exists("a")
        etag = lake.write_bytes("warm", b"up")
        proxy.cut_next_answer(b"PUT ")
        first = lake.write_bytes("a", b"x", if_absent=True)  # S3 did it, the repeated request meets the result
        assert proxy.n_cut == 1
        assert lake.read_versioned("a") == (b"x", first)
        proxy.cut_next_answer(b"PUT ")
        with pytest.raises(LakeConflict):  # repeated too, and truly lost
            lake.write_bytes("a", b"x", if_absent=True)
        assert proxy.n_cut == 2
        proxy.cut_next_answer(b"PUT ")
        second = lake.write_bytes("warm", b"again", if_match=etag)
        assert lake.read_versioned("warm") == (b"again", second)
        lake.close()


def test_a_broken_connection_is_repaired_by_asking_again(
    s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(os.urandom(9 << 20))
    with CuttingProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        lake = open_lake(f"s3://{s3_bucket}/lake")
        entry = lake.upload(tmp_path / "big", "big")
        lake.write_bytes("small", bytes(100_000))
        proxy.cut_next_answer(b"GET ", after_bytes=50_000)
        assert lake.read_bytes("small") == bytes(100_000)
        proxy.cut_next_answer(b"GET ", after_bytes=50_000)
        assert lake.fetch(entry, tmp_path / "scratch").read_bytes() == (tmp_path / "big").read_bytes()
        proxy.cut_next_answer(b"PUT ")
        lake.upload(tmp_path / "big", "again")
        assert proxy.n_cut == 3
        lake.close()


def test_boto3_is_not_imported_for_a_folder(tmp_path: Path) -> None:
    program = (
        "import sys; from pipelines.lake import open_lake; import pipelines.steps.step, pipelines.edge;"
        f"open_lake({str(tmp_path)!r}).write_bytes('a', b'x');"
        "print(sorted({'boto3', 'botocore', 'torch', 'polars', 'tenacity'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
