"""Small bundles that answer, registered, and races for what only one may have."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inference.manifest import Manifest
from inference.manifest import read_manifest as read_bundle
from pipelines.errors import PipelineError
from pipelines.lake import Lake
from pipelines.registry.bundles import (
    register,
)
from pipelines.registry.champion import (
    move_champion,
    read_champion,
)
from tests.inference.tiny_bundle import write_bundle

NOW = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)
BY_HAND = {"why": "looked at it", "who": "anna", "now": NOW}


def add(lake: Lake, folder: Path, version: str, *, best: int = 0, facts: dict[str, Any] | None = None) -> Manifest:
    """Register a small bundle that answers."""
    bundle = write_bundle(folder / f"bundle-{version}-{best}", version=version, best=best, facts=facts)
    evaluated = folder / f"evaluated-{version}-{best}"
    evaluated.mkdir()
    (evaluated / "model.onnx").write_bytes(f"model {version} {best}".encode())
    (evaluated / "article_ids.npy").write_bytes(b"ids")
    manifest = read_bundle(bundle)
    register(lake, bundle, manifest, evaluated)
    return manifest


def move(lake: Lake, version: str, why: str = "better") -> None:
    move_champion(lake, version, read_champion(lake), action="promote", why=why, who="anna", now=NOW)


def champion_of(lake: Lake) -> str | None:
    champion = read_champion(lake)
    return champion.version if champion else None


def tamper(lake: Lake, key: str) -> None:
    data = bytearray(lake.read_bytes(key))
    data[len(data) // 2] ^= 1
    lake.write_bytes(key, bytes(data))


def race(racers: list[Callable[[], object]]) -> list[PipelineError | None]:
    """Start all at one moment; None is a win."""
    barrier = threading.Barrier(len(racers))
    results: list[PipelineError | None] = [None] * len(racers)

    def run(number: int) -> None:
        barrier.wait()
        try:
            racers[number]()
        except PipelineError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(racers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
