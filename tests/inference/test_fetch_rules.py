"""A rules file in a real S3 server."""

import asyncio
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from inference.errors import FetchFailed
from inference.fetch_rules import fetch_rules
from inference.rules_file import RulesBook, RulesObject

pytestmark = pytest.mark.s3


@pytest.fixture
def client() -> Iterator[Any]:
    client = boto3.client("s3")
    yield client
    client.close()


def test_rules_in_s3_are_fetched_when_they_change(s3_bucket: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"s3://{s3_bucket}/lake/rules.json"
    assert fetch_rules(uri, "")[:2] == (None, "")
    client.put_object(Bucket=s3_bucket, Key="lake/rules.json", Body=b'{"blocked": ["0100000001"]}')
    text, etag, _ = fetch_rules(uri, "")
    assert text == b'{"blocked": ["0100000001"]}'
    assert fetch_rules(uri, etag)[:2] == (None, etag)

    book = RulesBook(RulesObject(uri))
    asyncio.run(book.check())
    assert book.current.rules.blocked == ["0100000001"]
    # From here on the signed URL does: no process is started for a poll, nor for a change.
    monkeypatch.setattr(asyncio, "create_subprocess_exec", None)
    asyncio.run(book.check())
    assert book.reason == ""
    client.put_object(Bucket=s3_bucket, Key="lake/rules.json", Body=b'{"blocked": 5}')
    asyncio.run(book.check())
    assert book.current.rules.blocked == ["0100000001"]
    assert "blocked: must be a valid array" in book.reason
    client.put_object(Bucket=s3_bucket, Key="lake/rules.json", Body=b"{}")
    asyncio.run(book.check())
    assert (book.current.rules.blocked, book.reason) == ([], "")
    client.delete_object(Bucket=s3_bucket, Key="lake/rules.json")
    asyncio.run(book.check())
    assert "the rules file is gone" in book.reason


def test_a_bucket_that_cannot_be_asked_keeps_the_rules_and_is_said(s3_bucket: str) -> None:
    with pytest.raises(FetchFailed, match=r"s3://not-there-\w+/rules.json: S3 answers NoSuchBucket"):
        fetch_rules(f"s3://not-there-{s3_bucket.replace('-', '')}/rules.json", "")
    book = RulesBook(RulesObject(f"s3://not-there-{s3_bucket.replace('-', '')}/rules.json"))
    asyncio.run(book.check())
    assert "NoSuchBucket" in book.reason
