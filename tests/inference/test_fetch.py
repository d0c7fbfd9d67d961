"""Follow the champion of a registry in a real S3 server."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from inference.cache import registry_folder
from inference.fetch import main
from tests.inference.conftest import Server
from tests.inference.tiny_bundle import write_bundle

pytestmark = pytest.mark.s3


class Registry:
    """A registry at s3://bucket/lake/registry that bundles are copied to."""

    def __init__(self, bucket: str, folder: Path) -> None:
        self.bucket, self.folder = bucket, folder
        self.uri = f"s3://{bucket}/lake/registry"
        self.client = boto3.client("s3")

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"lake/registry/{key}", Body=data)

    def publish(self, version: str, **facts: Any) -> Path:
        bundle = write_bundle(self.folder / version, version=version, **facts)
        for path in bundle.iterdir():
            self.put(f"bundles/{version}/{path.name}", path.read_bytes())
        return bundle

    def promote(self, version: str) -> None:
        self.put("champion.json", json.dumps({"version": version}).encode())


@pytest.fixture
def registry(s3_bucket: str, tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(s3_bucket, tmp_path / "bundles")
    yield registry
    registry.client.close()


Fetch = Callable[..., dict[str, Any]]


@pytest.fixture
def fetch(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Fetch:
    """Run the fetch into tmp_path/cache and read what it prints."""

    def run(uri: str, *known: str) -> dict[str, Any]:
        known_options = [part for fingerprint in known for part in ("--known", fingerprint)]
        main(["--uri", uri, "--cache", str(tmp_path / "cache"), *known_options])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def test_a_server_follows_the_champion_in_s3_and_outlives_its_loss(
    start_server: Callable[..., Server], registry: Registry
) -> None:
    server = start_server(MODEL_URI=registry.uri)
    server.wait_for(lambda: "NoSuchKey" in server.get("/healthz").text, "that there is no champion")
    registry.publish("v1", best=1)
    registry.promote("v1")
    server.wait_for_version("v1")
    registry.publish("v2", best=2)
    registry.promote("v2")
    server.wait_for_version("v2")
    assert server.predict({}).json()["model_version"] == "v2"

    bad = registry.publish("v3", best=3) / "model.onnx"
    registry.put("bundles/v3/model.onnx", bad.read_bytes()[:-1] + b"\x00")
    registry.promote("v3")
    server.wait_for(lambda: server.events("champion_refused"), "the refusal")
    assert "model.onnx: sha256" in server.get("/healthz").json()["last_refusal"]
    registry.client.delete_object(Bucket=registry.bucket, Key="lake/registry/champion.json")
    server.wait_for(lambda: server.events("registry_unreachable"), "the loss")
    assert server.predict({}).json()["model_version"] == "v2"
    assert server.stop() == 0


def test_fetch_gives_a_verified_folder_once_and_then_knows_it(registry: Registry, tmp_path: Path, fetch: Fetch) -> None:
    registry.publish("v1")
    registry.promote("v1")
    found = fetch(registry.uri)
    folder = Path(found["folder"])
    assert folder.parent == registry_folder(tmp_path / "cache", registry.uri)
    assert folder.name.startswith("v1-")
    again = fetch(registry.uri, found["fingerprint"])
    assert (again["fingerprint"], "folder" in again) == (found["fingerprint"], False)
    # a damaged cache is fetched again
    (folder / "model.onnx").write_bytes(b"x")
    assert fetch(registry.uri)["folder"] == str(folder)
    assert (folder / "model.onnx").stat().st_size > 1


def test_the_same_version_sealed_again_is_another_bundle_in_the_cache(
    registry: Registry, fetch: Fetch, tmp_path: Path
) -> None:
    registry.publish("v1", best=1)
    registry.promote("v1")
    first = fetch(registry.uri)["folder"]
    shutil.rmtree(tmp_path / "bundles" / "v1")
    registry.publish("v1", best=2)
    assert fetch(registry.uri)["folder"] != first


def test_the_signed_url_answers_a_poll_without_credentials(registry: Registry, fetch: Fetch) -> None:
    registry.publish("v1")
    registry.promote("v1")
    found = fetch(registry.uri)
    asked = {"If-None-Match": f'"{found["etag"]}"'}
    assert httpx.get(found["poll_url"], headers=asked).status_code == 304
    registry.put("champion.json", b'{"version": "v2"}')
    assert httpx.get(found["poll_url"], headers=asked).status_code == 200


def processor_ticks_of_children(server: Server) -> int:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[13]) + int(fields[14])  # cutime and cstime of proc(5), which counts from the state at 3


def test_a_poll_that_finds_nothing_new_starts_no_process(
    start_server: Callable[..., Server], registry: Registry
) -> None:
    registry.publish("v1")
    registry.promote("v1")
    server = start_server(MODEL_URI=registry.uri)
    server.wait_for_version("v1")
    before = processor_ticks_of_children(server)
    assert before > 0  # the fetch of v1
    time.sleep(1)  # ten polls
    assert processor_ticks_of_children(server) == before
    registry.publish("v2")
    registry.promote("v2")
    server.wait_for_version("v2")
    assert processor_ticks_of_children(server) > before


def test_the_cache_keeps_the_champion_and_the_one_before(registry: Registry, tmp_path: Path, fetch: Fetch) -> None:
    for version in ("v1", "v2", "v3"):
        registry.publish(version)
        registry.promote(version)
        fetch(registry.uri)
    cache = registry_folder(tmp_path / "cache", registry.uri)
    assert {path.name.split("-")[0] for path in cache.iterdir()} == {"v2", "v3"}


def test_with_s3_gone_a_restart_answers_from_the_cache(
    registry: Registry, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish("v1")
    registry.promote("v1")
    first = start_server(MODEL_URI=registry.uri)
    first.wait_for_version("v1")
    first.stop()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    server = start_server(MODEL_URI=registry.uri)
    server.wait_for_version("v1")
    server.wait_for(lambda: server.events("registry_unreachable"), "the loss")
    assert "127.0.0.1:9" in server.get("/healthz").json()["last_refusal"]


def test_a_file_that_is_missing_in_s3_refuses_the_bundle(registry: Registry, tmp_path: Path, fetch: Fetch) -> None:
    registry.publish("v1")
    registry.client.delete_object(Bucket=registry.bucket, Key="lake/registry/bundles/v1/is_live.npy")
    registry.promote("v1")
    refused = fetch(registry.uri)["refused"]
    assert refused["what"] == "a file that belongs to the bundle is missing"
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_manifest_that_names_files_outside_is_refused_before_anything_is_written(
    registry: Registry, tmp_path: Path, fetch: Fetch
) -> None:
    manifest = json.loads((registry.publish("v1") / "manifest.json").read_text())
    manifest["files"]["../../escaped"] = {"sha256": "0" * 64, "size_bytes": 1}
    registry.put("bundles/v1/manifest.json", json.dumps(manifest).encode())
    registry.put("escaped", b"x")
    registry.promote("v1")
    assert "not a plain file name" in fetch(registry.uri)["refused"]["what"]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "S3 answers SignatureDoesNotMatch"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect to the endpoint URL"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, "Invalid endpoint"),
        ({"AWS_ACCESS_KEY_ID": ""}, "Unable to locate credentials"),
    ],
)
def test_what_is_wrong_outside_is_said(
    registry: Registry, fetch: Fetch, environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    failed = fetch(registry.uri)["failed"]
    assert failed.startswith(registry.uri)
    assert message in failed


def test_a_bucket_that_does_not_exist_is_said(s3_bucket: str, fetch: Fetch) -> None:
    assert "S3 answers NoSuchBucket" in fetch(f"s3://{s3_bucket}-not/registry")["failed"]
