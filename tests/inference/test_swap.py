"""Follow the champion of a registry folder, under a real server."""

import asyncio
import gc
import os
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import httpx

from inference.champion import open_source
from inference.engine import Engine
from inference.limits import NICENESS
from inference.shift import Shift
from inference.swap import Swap
from inference.telemetry import Metrics
from tests.inference.conftest import Server, promote
from tests.inference.tiny_bundle import article_id, customer_id, write_bundle

StartServer = Callable[..., Server]


def test_a_new_champion_takes_over_and_a_rollback_brings_the_old_one_back(
    start_server: StartServer, registry: Path
) -> None:
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v1")
    assert server.predict({"top_k": 1}).json()["recommendations"] == [article_id(1)]
    promote(registry, "v2")
    server.wait_for_version("v2")
    answer = server.predict({"top_k": 1}).json()
    assert (answer["recommendations"], answer["model_version"]) == ([article_id(2)], "v2")
    promote(registry, "v1")
    server.wait_for_version("v1")
    assert [event["model_version"] for event in server.events("model_swapped")] == ["v1", "v2", "v1"]


def test_no_request_fails_while_champions_change(start_server: StartServer, registry: Path) -> None:
    server = start_server(MODEL_URI=str(registry), MODEL_POLL_SECONDS="0.02")
    server.wait_for_version("v1")
    stop = threading.Event()
    answers: set[tuple[object, ...]] = set()

    def ask() -> None:
        with httpx.Client(base_url=server.url) as client:
            while not stop.is_set():
                answer = client.post("/predict", json={"customer_id": customer_id(2), "top_k": 1})
                answers.add((answer.status_code, answer.json()["model_version"], *answer.json()["recommendations"]))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in ("v2", "v1", "v2", "v1", "v2"):
        promote(registry, version)
        server.wait_for_version(version)
    stop.set()
    for thread in threads:
        thread.join()
    # each answer is wholly of one model
    assert answers == {(200, "v1", article_id(1)), (200, "v2", article_id(2))}


def test_a_bad_champion_is_refused_once_and_the_old_one_stays(start_server: StartServer, registry: Path) -> None:
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v1")
    model = registry / "bundles" / "v2" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\x00")
    promote(registry, "v2")
    server.wait_for(lambda: server.events("champion_refused"), "the refusal")
    health = server.get("/healthz").json()
    assert (health["status"], health["model_version"]) == ("ok", "v1")
    assert "model.onnx: sha256" in health["last_refusal"]
    assert server.predict({}).json()["model_version"] == "v1"
    (refused,) = server.events("champion_refused")
    assert refused["answering"] == "v1"
    assert 'model_swaps_total{outcome="refused"} 1.0' in server.get("/metrics").text
    # mended and sealed again, it is taken
    shutil.rmtree(registry / "bundles" / "v2")
    write_bundle(registry / "bundles" / "v2", version="v2", best=2)
    server.wait_for_version("v2")
    assert server.get("/healthz").json()["last_refusal"] is None


def test_a_refused_bundle_that_gets_its_missing_file_is_taken_without_a_new_manifest(
    start_server: StartServer, registry: Path
) -> None:
    server = start_server(MODEL_URI=str(registry), MODEL_POLL_SECONDS="0.02")
    server.wait_for_version("v1")
    lost = registry / "bundles" / "v2" / "is_live.npy"
    lost.rename(registry / "aside")
    promote(registry, "v2")
    server.wait_for(lambda: server.events("champion_refused"), "the refusal")
    (registry / "aside").rename(lost)
    server.wait_for_version("v2")
    assert len(server.events("champion_refused")) == 1
    assert server.get("/healthz").json()["last_refusal"] is None


def test_a_champion_that_cannot_be_is_refused_with_its_reason(start_server: StartServer, registry: Path) -> None:
    (registry / "champion.json").unlink()
    server = start_server(MODEL_URI=str(registry))
    for champion, reason in (
        ("{", "champion.json: not a champion"),
        ("[]", "champion.json: not a champion (TypeError"),
        ('{"version": "../../secret"}', "version '../../secret' is not a plain name"),
        ('{"version": 7}', "version 7 is not a plain name"),
        ('{"version": "v9"}', "bundles/v9/manifest.json: a file that belongs to the bundle is missing"),
    ):
        (registry / "champion.json").write_text(champion)
        server.wait_for(lambda reason=reason: reason in server.get("/healthz").json()["error"]["message"], reason)
        assert server.predict({}).status_code == 503
    promote(registry, "v1")
    server.wait_for_version("v1")


def test_a_registry_that_vanishes_leaves_the_model_answering(start_server: StartServer, registry: Path) -> None:
    server = start_server(MODEL_URI=f"file://{registry}")
    server.wait_for_version("v1")
    registry.rename(registry.with_name("gone"))
    server.wait_for(lambda: server.events("registry_unreachable"), "the loss")
    assert server.predict({"customer_id": customer_id(1)}).json()["source"] == "personal"


def test_a_bundle_folder_is_served_as_it_is(start_server: StartServer, registry: Path) -> None:
    server = start_server(MODEL_URI=str(registry / "bundles" / "v2"))
    server.wait_for_version("v2")


def test_only_the_model_that_answers_and_the_one_before_stay_in_memory(registry: Path, tmp_path: Path) -> None:
    swap = Swap(open_source(str(registry), tmp_path / "cache"), Metrics(), poll_seconds=1)
    shift = Shift(swap.live)
    loaded: list[weakref.ref[Engine]] = []

    async def follow() -> None:
        for version in ("v1", "v2", "v1", "v2", "v1"):
            promote(registry, version)
            await swap.check()
            assert swap.live().manifest.version == version
            shift.report()
            loaded.append(weakref.ref(swap.live().engine))
        gc.collect()
        assert [engine() is not None for engine in loaded] == [False, False, False, True, True]

    asyncio.run(follow())


def test_a_model_is_loaded_beside_the_answers_in_the_time_that_they_leave(
    start_server: StartServer, registry: Path
) -> None:
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v1")
    promote(registry, "v2")
    server.wait_for_version("v2")
    answering = server.process.pid
    tasks = [int(task.name) for task in Path(f"/proc/{answering}/task").iterdir()]
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, answering) == own
    assert max(os.getpriority(os.PRIO_PROCESS, task) for task in tasks) == max(own, NICENESS)
