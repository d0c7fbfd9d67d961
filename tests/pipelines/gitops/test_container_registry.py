"""A real registry (Debian's docker-registry), with an image that was pushed to it."""

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import typer

from pipelines.errors import TryAgainError, UsageError
from pipelines.gitops.container_registry import digest_of
from pipelines.gitops.overlays import overlay_folder, read_pin
from pipelines.gitops.rules.images import parse_reference
from pipelines.promote import app
from tests.conftest import free_ports
from tests.pipelines.gitops.trees import change, copy_tree

START_TIMEOUT_SECONDS = 20
NAME = "ml-fashion-recommender/inference"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not here (Debian: apt-get install --no-install-recommends docker-registry)")
    folder = tmp_path_factory.mktemp("registry")
    [port] = free_ports(1)
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yaml")], stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/v2/")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def digest(host: str) -> str:
    """Push the smallest image there is, tagged main-1a2b3c4, and give its digest."""
    base = f"http://{host}/v2/{NAME}"
    config = b"{}"
    config_digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    upload = requests.post(f"{base}/blobs/uploads/", timeout=10).headers["Location"]
    requests.put(upload, params={"digest": config_digest}, data=config, timeout=10).raise_for_status()
    kind = "application/vnd.oci.image.manifest.v1+json"
    blob = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config), "digest": config_digest}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": blob, "layers": []}).encode()
    put = requests.put(f"{base}/manifests/main-1a2b3c4", data=manifest, headers={"Content-Type": kind}, timeout=10)
    put.raise_for_status()
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def _wait(url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise RuntimeError(f"no registry answers at {url}")


@pytest.fixture
def root(tmp_path: Path, host: str) -> Path:
    """Give a tree whose registry is the one that runs here."""
    root = copy_tree(tmp_path)
    address = "baseURL: 123456789012.dkr.ecr.ap-southeast-2.amazonaws.com"
    change(root / "config/defaults/image-registry.yaml", address, f"baseURL: {host}")
    return root


def promote(root: Path, tag: str, *more: str) -> None:
    command = ["image", "--env", "staging", "--app", "inference", "--verify", "--tag", tag, *more, "--root", str(root)]
    typer.main.get_command(app).main(command, standalone_mode=False)


def test_registry_gives_the_digest_of_a_tag(host: str, digest: str) -> None:
    assert digest_of(parse_reference(f"{host}/{NAME}:main-1a2b3c4")) == digest


def test_verifying_pins_the_digest_that_the_registry_has(root: Path, digest: str) -> None:
    promote(root, "main-1a2b3c4")
    pin = read_pin(overlay_folder(root, "inference", "staging"), "inference")
    assert (pin.tag, pin.digest) == ("main-1a2b3c4", digest)


def test_a_digest_that_is_not_the_tag_s_is_refused(root: Path, digest: str) -> None:
    before = read_pin(overlay_folder(root, "inference", "staging"), "inference")
    with pytest.raises(UsageError, match=f"is not that of inference:main-1a2b3c4; the registry has {digest}"):
        promote(root, "main-1a2b3c4", "--digest", f"sha256:{'1a' * 32}")
    assert read_pin(overlay_folder(root, "inference", "staging"), "inference") == before


def test_a_tag_that_was_never_pushed_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match=f"has no {NAME}:main-9f8e7d6; take a tag that a build has pushed"):
        promote(root, "main-9f8e7d6")


def test_a_registry_that_is_away_means_try_again() -> None:
    [port] = free_ports(1)
    with pytest.raises(TryAgainError, match="did not answer"):
        digest_of(parse_reference(f"127.0.0.1:{port}/{NAME}:main-1a2b3c4"))
