"""A rules file beside the champion, followed by a real server."""

import asyncio
import datetime as dt
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.allowed import fit_rules
from inference.bundle import load_bundle
from inference.engine import Engine, Request
from inference.rules import parse_rules
from inference.rules_file import RulesBook, RulesFile, RulesObject, open_rules
from tests.inference.conftest import Server, promote, replace_text
from tests.inference.tiny_bundle import article_id

StartServer = Callable[..., Server]


def best(server: Server) -> Any:
    return server.predict({"top_k": 1}).json()["recommendations"][0]


def test_rules_change_in_place_and_a_broken_file_leaves_the_last_good_ones(
    start_server: StartServer, registry: Path
) -> None:
    rules = registry / "rules.json"
    replace_text(rules, json.dumps({"blocked": [article_id(1)]}))
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v1")
    first = best(server)
    assert first != article_id(1)  # from the very first answer
    version = server.get("/healthz").json()["rules_version"]

    assert server.get("/healthz").json()["rules_unknown_articles"] == 0
    replace_text(rules, json.dumps({"blocked": [first, "9999999999"]}))
    server.wait_for(lambda: best(server) == article_id(1), "the new rules")
    assert server.get("/healthz").json()["rules_unknown_articles"] == 1
    assert server.events("rules_read")[-1]["n_unknown"] == 1
    assert server.get("/healthz").json()["rules_version"] != version

    for broken, reason in (
        ('{"blocked": ["12"]}', "an article_id has 10 digits, unlike '12'"),
        ('{"blocked": [', "Invalid JSON"),
        ('{"caps": {"garment_grup 1": 1}}', "did you mean 'garment_group"),
    ):
        replace_text(rules, broken)
        server.wait_for(lambda r=reason: r in (server.get("/healthz").json()["rules_refusal"] or ""), reason)
    assert server.get("/healthz").status_code == 200
    assert best(server) == article_id(1)
    assert "rules_refused_total 3.0" in server.get("/metrics").text
    assert len(server.events("rules_refused")) == 3

    promote(registry, "v2")
    server.wait_for_version("v2")
    replace_text(rules, json.dumps({"blocked": [article_id(2)]}))
    server.wait_for(lambda: best(server) != article_id(2), "rules for the new model")
    assert server.get("/healthz").json()["rules_refusal"] is None

    rules.unlink()
    server.wait_for(lambda: "is gone" in (server.get("/healthz").json()["rules_refusal"] or ""), "that it is gone")
    assert best(server) != article_id(2)
    replace_text(rules, "{}")
    server.wait_for(lambda: best(server) == article_id(2), "no rules")


def test_a_new_model_obeys_from_its_first_answer_on(start_server: StartServer, registry: Path) -> None:
    replace_text(registry / "rules.json", json.dumps({"blocked": [article_id(2)]}))
    server = start_server(MODEL_URI=str(registry), MODEL_POLL_SECONDS="0.05")
    server.wait_for_version("v1")
    promote(registry, "v2")
    seen: set[str] = set()
    server.wait_for(lambda: seen.add(best(server)) or server.get("/healthz").json()["model_version"] == "v2", "v2")
    assert seen | {best(server)} <= {article_id(i) for i in range(40)} - {article_id(2)}


def test_where_rules_are_looked_for(tmp_path: Path, tiny_bundle: Path) -> None:
    def place(uri: str | None, model_uri: str) -> Path:
        source = open_rules(uri, model_uri)
        assert isinstance(source, RulesFile)
        return source.path

    assert place(None, str(tmp_path)) == tmp_path / "rules.json"
    assert place(None, f"file://{tiny_bundle}") == tiny_bundle.parent / "rules.json"
    assert place(f"file://{tmp_path}/mine.json", "s3://shop/registry") == tmp_path / "mine.json"
    assert open_rules(None, "s3://shop/registry") is None
    assert isinstance(open_rules("s3://shop/rules.json", "s3://shop/registry"), RulesObject)


def test_a_pin_begins_on_its_day_without_the_file_being_touched(tmp_path: Path, tiny_bundle: Path) -> None:
    today = [dt.date(2020, 9, 22)]
    pin = {"article_id": article_id(20), "position": 1, "from": "2020-09-23"}
    replace_text(tmp_path / "rules.json", json.dumps({"pins": [pin]}))
    engine = Engine(load_bundle(tiny_bundle))
    book = RulesBook(RulesFile(tmp_path / "rules.json"), today=lambda: today[0])
    book.prepare(engine)
    asyncio.run(book.check())
    before = engine.recommend(Request(top_k=1)).article_ids
    today[0] = dt.date(2020, 9, 23)
    asyncio.run(book.check())
    assert before != engine.recommend(Request(top_k=1)).article_ids == [article_id(20)]


def test_rules_reach_every_engine_that_was_prepared(tmp_path: Path, tiny_bundle: Path) -> None:
    engines = [Engine(load_bundle(tiny_bundle)) for _ in range(2)]
    book = RulesBook(RulesFile(tmp_path / "rules.json"))
    for engine in engines:
        book.prepare(engine)
    best = engines[0].recommend(Request(top_k=1)).article_ids
    replace_text(tmp_path / "rules.json", json.dumps({"blocked": best}))
    asyncio.run(book.check())
    assert all(engine.recommend(Request(top_k=1)).article_ids != best for engine in engines)


@pytest.mark.parametrize("left", [None, "{", '{"blocked": 5}'])
def test_a_restart_with_a_broken_or_missing_file_obeys_the_last_good_one(
    start_server: StartServer, registry: Path, left: str | None
) -> None:
    rules = registry / "rules.json"
    replace_text(rules, json.dumps({"blocked": [article_id(1)]}))
    server = start_server(MODEL_URI=str(registry))
    server.wait_for_version("v1")
    version = server.get("/healthz").json()["rules_version"]
    server.stop()
    rules.unlink()
    if left is not None:
        replace_text(rules, left)
    again = start_server(MODEL_URI=str(registry))
    again.wait_for_version("v1")
    health = again.get("/healthz").json()
    assert health["rules_version"] == version
    assert health["rules_refusal"]
    assert best(again) != article_id(1)
    replace_text(rules, "{}")
    again.wait_for(lambda: best(again) == article_id(1), "no rules")
    again.stop()
    rules.unlink()
    lifted = start_server(MODEL_URI=str(registry))
    lifted.wait_for_version("v1")
    assert best(lifted) == article_id(1)
    assert lifted.get("/healthz").json()["rules_refusal"] is None


def test_without_room_to_keep_them_rules_are_obeyed_all_the_same(tmp_path: Path, tiny_bundle: Path) -> None:
    engine = Engine(load_bundle(tiny_bundle))
    (tmp_path / "full").write_text("")
    book = RulesBook(RulesFile(tmp_path / "rules.json"), kept=tmp_path / "full" / "rules.json")
    book.prepare(engine)
    best = engine.recommend(Request(top_k=1)).article_ids
    replace_text(tmp_path / "rules.json", json.dumps({"blocked": best}))
    asyncio.run(book.check())
    assert engine.recommend(Request(top_k=1)).article_ids != best
    assert book.reason == ""


def test_a_file_that_comes_back_as_it_was_is_no_longer_said_to_be_gone(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    book = RulesBook(RulesFile(rules))
    for text, reason in (("{}", ""), ("{", "Invalid JSON")):
        replace_text(rules, text)
        asyncio.run(book.check())
        assert reason in book.reason
        before = book.reason
        rules.rename(tmp_path / "away")
        asyncio.run(book.check())
        assert "is gone" in book.reason
        (tmp_path / "away").rename(rules)
        asyncio.run(book.check())
        assert book.reason == before


@pytest.mark.timeout(10)
def test_a_pipe_or_folder_by_the_name_of_the_rules_is_refused_and_not_read(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    book = RulesBook(RulesFile(rules))
    for make, remove in ((os.mkfifo, os.unlink), (os.mkdir, os.rmdir)):
        make(rules)
        asyncio.run(asyncio.wait_for(book.check(), 5))
        assert book.reason == f"{rules}: not a regular file"
        remove(rules)


def test_rules_are_read_and_fitted_beside_the_answers(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def noting(call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any, **named: Any) -> Any:
            threads.append(threading.get_ident())
            return call(*given, **named)

        return noted

    book = RulesBook(RulesFile(tmp_path / "rules.json"))
    engine = Engine(load_bundle(tiny_bundle))
    book.prepare(engine)
    monkeypatch.setattr("inference.rules_file.parse_rules", noting(parse_rules))
    monkeypatch.setattr("inference.rules_file.fit_rules", noting(fit_rules))
    monkeypatch.setattr("inference.engine.fit_rules", noting(fit_rules))
    replace_text(tmp_path / "rules.json", json.dumps({"blocked": [article_id(1)]}))
    asyncio.run(book.check())
    assert engine.rules is not None
    assert len(threads) == 3
    assert threading.get_ident() not in threads
