import hashlib
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest

from pipelines.data.sources_s3 import S3File, list_objects
from pipelines.errors import TryAgainError, UsageError
from tests.conftest import S3Server
from tests.pipelines.lake.cutting_proxy import CuttingProxy

pytestmark = pytest.mark.s3
CONTENT = np.random.default_rng(1).bytes(300_000)


@pytest.fixture
def bucket(s3_bucket: str) -> Iterator[str]:
    client = boto3.client("s3")
    client.put_object(Bucket=s3_bucket, Key="shop/a.csv", Body=CONTENT)
    client.put_object(Bucket=s3_bucket, Key="shop/deeper/b.csv", Body=b"b")
    yield s3_bucket
    client.close()


def file_of(bucket: str) -> S3File:
    return list_objects(f"s3://{bucket}/shop/")["a.csv"]


def test_only_files_directly_below_the_prefix_are_the_sources(bucket: str) -> None:
    found = list_objects(f"s3://{bucket}/shop")
    assert list(found) == ["a.csv"]
    assert found["a.csv"].size_bytes == len(CONTENT)


def test_a_file_reads_as_its_bytes_and_then_knows_its_sha256(bucket: str, tmp_path: Path) -> None:
    file = file_of(bucket)
    with file.open() as stream:
        assert b"".join(iter(lambda: stream.read(7_000), b"")) == CONTENT
    assert file.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert file.local_path(tmp_path).read_bytes() == CONTENT


def test_a_broken_connection_goes_on_where_it_broke(
    bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CuttingProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        file = file_of(bucket)
        pieces = []
        with file.open() as stream:
            proxy.cut_next_answer(b"GET", after_bytes=100_000)
            while piece := stream.read(50_000):
                pieces.append(piece)
        assert b"".join(pieces) == CONTENT
        assert proxy.n_cut == 1
        file.client.close()


def test_an_object_replaced_while_it_is_read_is_to_be_read_again(bucket: str) -> None:
    file = file_of(bucket)
    file.client.put_object(Bucket=bucket, Key="shop/a.csv", Body=b"new")
    opened = file.open()
    with pytest.raises(TryAgainError, match=r"shop/a\.csv changed while it was read"), opened as stream:
        stream.read()


def test_wrong_credentials_are_a_matter_of_usage(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UsageError, match=r"source: cannot use s3://.*the secret key does not fit"):
        list_objects(f"s3://{bucket}/shop")
