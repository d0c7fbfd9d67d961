"""What /predict takes beside one plain request: many customers, filters, reasons; over real HTTP."""

import json
from typing import Any

import httpx
import pytest

from inference.parsing import MAX_CUSTOMERS
from tests.inference.conftest import Server
from tests.inference.tiny_bundle import article_id, customer_id


def explain(server: Server, document: Any) -> Any:
    answer = httpx.post(f"{server.url}/predict?explain=true", json=document)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_each_of_many_customers_gets_in_order_what_it_would_get_alone(server: Server) -> None:
    asked = [{"customer_id": customer_id(1), "top_k": 3}, {}, {"article_ids": [article_id(5)], "top_k": 1}] * 20
    answers = server.predict({"customers": asked}).json()
    assert (answers["count"], answers["n_errors"]) == (60, 0)
    alone = [server.predict(one).json() for one in asked[:3]]
    assert answers["answers"] == alone * 20


def test_an_entry_that_is_wrong_fails_alone_in_its_place(server: Server) -> None:
    wrong = [{"top_k": 0}, 5, {"customer": "x"}, {"price_min": 5, "price_max": 6}, {"index_group": "nowhere"}]
    answer = server.predict({"customers": [{"top_k": 1}, *wrong, {"top_k": 2}]})
    assert answer.status_code == 200
    answers = answer.json()["answers"]
    assert [entry.get("count") for entry in answers] == [1, None, None, None, None, None, 2]
    messages = [entry["error"]["message"] for entry in answers[1:6]]
    assert messages[0] == "top_k is 0, expected a whole number from 1 to 100"
    assert messages[1] == "it is a number, expected an object such as {}"
    assert "did you mean customer_id?" in messages[2]
    assert "2 live articles match" in messages[3]
    assert "'nowhere' is not known" in messages[4]
    assert answers[1]["error"]["request_id"] == answer.headers["x-request-id"]
    assert answer.json()["n_errors"] == 5


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"customers": []}', 422, "customers is an empty list, expected a list of 1 to 256 objects"),
        (b'{"customers": {}}', 422, "customers is an object"),
        (b'{"customers": [{}], "top_k": 3}', 422, "'top_k' stands beside customers; put it into each"),
        (json.dumps({"customers": [{}] * (MAX_CUSTOMERS + 1)}).encode(), 422, "customers has 257 entries, at most 256"),
        (b'{"customers": [{"top_k": 1, "top_k": 2}]}', 400, "'top_k' is given twice"),
        (b'{"exclude": "0100000000"}', 422, "exclude is a string, expected a list of strings"),
        (b'{"exclude": [5]}', 422, "exclude[0] is a number, expected a string; a string keeps the leading zero"),
        (b'{"index_group": []}', 422, "index_group is an empty list; leave it out instead"),
        (b'{"index_group": 5}', 422, "index_group is a number, expected a name or a list of names"),
        (b'{"price_min": "5"}', 422, "price_min is a string, expected a number"),
        (b'{"price_max": 1e12}', 422, "price_max is 1e+12, expected a price of 0 or more, below 1e12"),
        (b'{"price_min": -1}', 422, "price_min is -1, expected a price of 0 or more"),
        (b'{"price_max": true}', 422, "price_max is true or false, expected a number"),
        (b'{"price_min": 2, "price_max": 1.5}', 422, "price_min 2 is above price_max 1.5"),
        (b'{"exclude": ["a"], "exclude": []}', 400, "'exclude' is given twice"),
        (b'{"excluded": []}', 422, "did you mean exclude?"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(server: Server, body: bytes, status: int, message: str) -> None:
    answer = server.send(body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_as_many_customers_as_are_allowed_are_answered(server: Server) -> None:
    answers = server.predict({"customers": [{"top_k": 1}] * MAX_CUSTOMERS}).json()
    assert answers["count"] == MAX_CUSTOMERS
    assert answers["n_errors"] == 0


def test_filters_narrow_the_answer(server: Server) -> None:
    answer = server.predict({"index_group": ["index_group 1"], "price_max": 10, "top_k": 3, "exclude": [article_id(1)]})
    assert set(answer.json()["recommendations"]) <= {article_id(i) for i in (3, 5, 7, 9)}
    assert answer.json()["count"] == 3


def test_each_article_is_explained_in_order_by_what_scored_it(server: Server) -> None:
    answer = explain(server, {"customer_id": customer_id(1), "top_k": 3})
    assert [one["article_id"] for one in answer["explanations"]] == answer["recommendations"]
    first = answer["explanations"][0]
    assert first["name"] == "Article 3"
    assert set(first["signals"]) == {"all"}
    assert server.predict({}).json().keys() == answer.keys() - {"explanations"}


@pytest.mark.parametrize("query", ["explain=yes", "explain", "q=1", "explain=true&explain=true"])
def test_other_parameters_are_refused(server: Server, query: str) -> None:
    answer = httpx.post(f"{server.url}/predict?{query}", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")


def test_what_is_unknown_is_named_and_nothing_is_said_otherwise(server: Server) -> None:
    sent = {"customer_id": "stranger", "article_ids": ["9999999999", article_id(5), "x", "9999999999"]}
    answer = server.predict(sent).json()
    assert (answer["unknown_article_ids"], answer["is_known_customer"]) == (["9999999999", "x"], False)
    known = server.predict({"customer_id": customer_id(1), "article_ids": [article_id(5)]}).json()
    assert not {"unknown_article_ids", "is_known_customer"} & known.keys()


def test_the_documentations_examples_name_what_the_model_knows_and_run(server: Server) -> None:
    schema = server.get("/openapi.json").json()
    examples = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert {"customer", "basket", "filtered", "nobody", "several"} == set(examples)
    for example in examples.values():
        answer = server.predict(example["value"])
        assert answer.status_code == 200, answer.text
        assert not {"unknown_article_ids", "is_known_customer"} & answer.json().keys()
    assert server.predict(examples["customer"]["value"]).json()["source"] == "personal"


def test_many_customers_are_explained_up_to_a_number_that_is_told(server: Server) -> None:
    assert explain(server, {"customers": [{}] * 32})["count"] == 32
    answer = httpx.post(f"{server.url}/predict?explain=true", json={"customers": [{}] * 33})
    assert answer.status_code == 422
    assert "customers has 33 entries, at most 32 with explain=true" in answer.text
    assert server.predict({"customers": [{}] * 33}).status_code == 200


def test_ids_of_a_bulk_are_in_no_log(server: Server) -> None:
    secret = "facade" * 10
    server.predict({"customers": [{"customer_id": secret}, {"customer_id": secret, "top_k": -1}]})
    httpx.post(f"{server.url}/customers/history", json={"customer_id": secret})
    assert secret not in server.log_path.read_text()
    assert any(event.get("n_customers") == 2 for event in server.events("request"))
