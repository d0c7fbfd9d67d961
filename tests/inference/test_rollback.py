"""A model that was good on paper and fails in use; one that does not fit; a lake that is damaged under the server."""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from inference import cache
from inference.bundle import seal_bundle
from inference.champion import open_source
from inference.fetch import fetch_champion
from inference.limits import Memory
from inference.swap import MIN_FAILURES, Swap
from inference.telemetry import Metrics
from tests.inference.conftest import promote
from tests.inference.test_hostile_bundles import FACTS, edit_model
from tests.inference.test_server import Server, StartServer, metric
from tests.inference.tiny_bundle import article_id, customer_id, write_bundle

MIB = 1 << 20


def break_for_long_histories(folder: Path, version: str) -> None:
    """Make a graph that fails for more than three purchases, which none of its golden requests has."""

    def change(model: onnx.ModelProto) -> None:
        numbers = {"four": np.zeros(4, np.int64), "one_1": np.array([1], np.int64)}
        model.graph.initializer.extend([numpy_helper.from_array(value, name) for name, value in numbers.items()])
        model.graph.node.extend(
            [
                helper.make_node("Shape", ["history_BL"], ["shape"]),
                helper.make_node("Gather", ["shape", "one_1"], ["length"]),
                helper.make_node("Gather", ["four", "length"], ["always_0"]),  # out of bounds from 4 on
                helper.make_node("Add", ["checked_index", "always_0"], ["article_index_BK"]),
            ]
        )
        for node in model.graph.node[:-1]:
            node.output[:] = ["checked_index" if name == "article_index_BK" else name for name in node.output]

    edit_model(folder, change)
    seal_bundle(folder, FACTS | {"version": version, "signals": ["all"]})


def wait_for_refusal(server: Server, reason: str) -> None:
    """Wait until /healthz gives the reason."""
    server.wait_for(lambda: reason in (server.get("/healthz").json()["last_refusal"] or ""), reason)


def bind(registry: Path, version: str) -> None:
    """Write down what a version was bound to, as registering it does."""
    text = (registry / "bundles" / version / "manifest.json").read_bytes()
    files = {name: record["sha256"] for name, record in json.loads(text)["files"].items()}
    (registry / "contents").mkdir(exist_ok=True)
    claim = {"manifest": hashlib.sha256(text).hexdigest(), "bundle": files, "evaluation": []}
    (registry / "contents" / f"{version}.json").write_text(json.dumps(claim))


@pytest.mark.parametrize("seal_again", [write_bundle, None], ids=["files", "manifest"])
def test_a_bundle_that_was_rewritten_since_it_was_registered_is_refused(
    registry: Path, tmp_path: Path, seal_again: Callable[..., Path] | None
) -> None:
    bind(registry, "v1")
    found = fetch_champion(str(registry), tmp_path / "cache", [])
    assert "folder" in found
    folder = registry / "bundles" / "v1"
    if seal_again:
        shutil.rmtree(folder)
        seal_again(folder, version="v1", best=3)  # whole and certified, and not what was registered
    else:
        (folder / "manifest.json").write_text((folder / "manifest.json").read_text() + " ")
    refused = fetch_champion(str(registry), tmp_path / "cache", [found["fingerprint"]])["refused"]
    assert refused["what"].startswith("the manifest of bundle v1 is not the one that was registered")
    assert refused["where"] == str(registry / "contents/v1.json")


LONG = {"article_ids": [article_id(index) for index in range(1, 6)]}


def test_a_model_that_fails_in_use_is_rolled_back_and_not_tried_again(
    start_server: StartServer, registry: Path
) -> None:
    break_for_long_histories(registry / "bundles" / "v2", "v2")
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v1")
    assert server.predict(LONG).status_code == 200
    promote(registry, "v2")
    server.wait_for_version("v2")
    assert server.predict({}).status_code == 200
    statuses = [server.predict(LONG).status_code for _ in range(MIN_FAILURES + 3)]
    assert statuses == [500] * MIN_FAILURES + [200] * 3
    wait_for_refusal(server, "was rolled back to v1")
    assert server.predict({}).json()["model_version"] == "v1"
    assert metric(server, "model_swaps_total", outcome="rolled_back") == 1
    assert metric(server, "model_info", version="v1") == 1
    assert len(server.events("model_swapped")) == 2  # v2 is named as champion still, and was not taken again
    # a new seal of it is another model
    write_again = registry / "bundles" / "v3"
    write_bundle(write_again, version="v3")
    promote(registry, "v3")
    server.wait_for_version("v3")
    assert server.get("/healthz").json()["last_refusal"] is None


def test_a_restart_does_not_try_again_what_was_rolled_back_unless_nothing_else_is_left(
    start_server: StartServer, registry: Path, tmp_path: Path
) -> None:
    break_for_long_histories(registry / "bundles" / "v2", "v2")
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v1")
    promote(registry, "v2")
    server.wait_for_version("v2")
    assert [server.predict(LONG).status_code for _ in range(MIN_FAILURES)] == [500] * MIN_FAILURES
    server.wait_for_version("v1")
    for _ in range(2):  # the first restart remembers it for the second
        server.stop()
        server = start_server(MODEL_URI=str(registry))
        server.wait_for_version("v1")
        assert server.predict(LONG).status_code == 200
        wait_for_refusal(server, "was rolled back to v1")
        assert len(server.events("model_swapped")) == 1
    server.stop()
    for copy in (tmp_path / "cache").glob("*/v1-*/model.onnx"):
        copy.unlink()
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v2")
    assert server.predict({}).status_code == 200


def test_a_customer_who_breaks_the_graph_fails_no_other_of_a_bulk(start_server: StartServer, tmp_path: Path) -> None:
    write_bundle(tmp_path / "v2", version="v2")
    break_for_long_histories(tmp_path / "v2", "v2")
    server = start_server(MODEL_URI=str(tmp_path / "v2"))
    server.wait_for_version("v2")
    answer = server.predict({"customers": [{"top_k": 2}, LONG, {"top_k": 3}]}, **{"X-Request-ID": "bulk"})
    assert answer.status_code == 200
    first, broken, last = answer.json()["answers"]
    assert (first["count"], last["count"], answer.json()["n_errors"]) == (2, 3, 1)
    assert (broken["error"]["code"], broken["error"]["request_id"]) == ("internal", "bulk")
    assert [line["request_id"] for line in server.events("predict_failed")] == ["bulk"]
    assert server.predict({"customers": [LONG, LONG]}).status_code == 500


def test_a_model_that_does_not_fit_beside_the_one_that_answers_is_refused(registry: Path, tmp_path: Path) -> None:
    free_bytes = 200 * MIB
    swap = Swap(
        open_source(str(registry), tmp_path / "cache"),
        Metrics(),
        poll_seconds=1,
        memory=lambda: Memory(320 * MIB, usage_bytes=320 * MIB - free_bytes, inactive_file_bytes=0),
    )

    async def follow() -> None:
        nonlocal free_bytes
        await swap.check()
        assert swap.live().manifest.version == "v1"
        promote(registry, "v2")
        free_bytes = 10 * MIB
        await swap.check()
        assert swap.live().manifest.version == "v1"
        assert "needs about 16 MiB beside the model that answers, 10 of 320 are free" in swap.reason
        (registry / "champion.json").write_text(json.dumps({"version": "v2", "again": True}))
        free_bytes = 200 * MIB
        await swap.check()
        assert swap.live().manifest.version == "v2"

    asyncio.run(follow())


def break_certificate(registry: Path, version: str) -> None:
    """Make a bundle that verifies, and answers its golden requests otherwise than training recorded."""
    folder = registry / "bundles" / version
    write_bundle(folder, version=version)
    cases = json.loads((folder / "golden.json").read_bytes())
    for case in cases:
        case["recommendations"] = ["0000000000"]
    (folder / "golden.json").write_text(json.dumps(cases))
    seal_bundle(folder, FACTS | {"version": version, "signals": ["all"]})


def test_champions_refused_on_their_trial_push_nothing_out_of_the_cache_and_a_restart_answers_from_it(
    start_server: StartServer, registry: Path, tmp_path: Path
) -> None:
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v1")

    def wait_for_refusals(n_refusals: int) -> None:
        server.wait_for(lambda: len(server.events("champion_refused")) == n_refusals, f"{n_refusals} refusals")

    for n_refusals, version in enumerate(("v3", "v4", "v5"), 1):
        break_certificate(registry, version)
        promote(registry, version)
        wait_for_refusals(n_refusals)
    server.stop()
    again = start_server(MODEL_URI=str(registry), MODEL_CACHE=str(tmp_path / "cache"))
    again.wait_for_version("v1")
    wait_for_refusal(again, "answers share")
    assert len(again.events("champion_refused")) == 1
    promote(registry, "v2")
    again.wait_for_version("v2")
    assert again.get("/healthz").json()["last_refusal"] is None


def test_a_lake_that_is_truncated_under_the_server_changes_nothing(
    start_server: StartServer, registry: Path, tmp_path: Path
) -> None:
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v1")
    before = server.predict({"customer_id": customer_id(1)}).json()
    for path in (registry / "bundles" / "v1").iterdir():
        path.write_bytes(b"")
    assert server.predict({"customer_id": customer_id(1)}).json() == before
    assert server.process.poll() is None
    # and a restart answers from the copy
    server.stop()
    again = start_server(MODEL_URI=str(registry), MODEL_CACHE=str(tmp_path / "cache"))
    again.wait_for(lambda: again.events("champion_refused"), "the refusal of what is left")
    again.wait_for_version("v1")
    assert again.predict({"customer_id": customer_id(1)}).json() == before


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_a_restart_without_a_lake_answers_from_the_copy(
    start_server: StartServer, registry: Path, tmp_path: Path, damage: str
) -> None:
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v1")
    server.stop()
    if damage == "gone":
        registry.rename(tmp_path / "elsewhere")
    else:
        (registry / "champion.json").write_text("{")
    again = start_server(MODEL_URI=str(registry))
    again.wait_for_version("v1")
    reason = "no champion" if damage == "gone" else "not a champion"
    wait_for_refusal(again, reason)
    assert again.predict({}).status_code == 200


def test_with_a_cache_that_cannot_be_written_a_folder_is_served_in_place(
    start_server: StartServer, registry: Path
) -> None:
    server = start_server(MODEL_URI=str(registry), MODEL_CACHE="/proc/self/cache")
    server.wait_for_version("v1")
    (swapped,) = server.events("model_swapped")
    assert swapped["warning"].startswith("/proc/self/cache: no room for a copy, or not writable, so ")
    assert server.predict({}).status_code == 200


def test_what_dead_fetches_left_is_removed_whatever_its_number_and_what_live_ones_have_is_not(
    registry: Path, tmp_path: Path
) -> None:
    folder = cache.registry_folder(tmp_path / "cache", str(registry))
    for name in (f".partial-{os.getpid()}", ".partial-1", ".partial-live"):
        (folder / name).mkdir(parents=True)
    lock = cache.hold(folder / ".partial-live")
    found = fetch_champion(str(registry), tmp_path / "cache", [])
    os.close(lock)
    assert {path.name for path in folder.iterdir()} == {".partial-live", Path(found["folder"]).name}


def test_without_room_for_a_copy_a_folder_is_verified_and_served_in_place(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SPARE_BYTES", 1 << 60)  # no disk has that
    found = fetch_champion(str(registry), tmp_path / "cache", [])
    assert found["in_place"]
    assert found["folder"] == str(registry / "bundles" / "v1")
    (registry / "bundles" / "v1" / "model.onnx").write_bytes(b"")
    assert "model.onnx" in fetch_champion(str(registry), tmp_path / "cache", [])["refused"]["where"]
