import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.api import PredictRequest
from inference.engine import Request
from inference.errors import RequestRefused
from inference.parsing import FIELDS, parse_predict


def test_every_field_may_be_left_out_or_null() -> None:
    assert parse_predict(b"{}") == Request(None, (), 12, False)
    nulls = b'{"customer_id": null, "article_ids": null, "top_k": null, "exclude_purchased": null}'
    assert parse_predict(nulls) == Request(None, (), 12, False)


def test_every_field_arrives_by_either_name() -> None:
    body = b'{"customer_id": "c", "article_ids": ["a", "b"], "top_k": 3, "exclude_purchased": true}'
    assert parse_predict(body) == Request("c", ["a", "b"], 3, True)
    assert parse_predict(b'{"user_id": "c", "item_ids": ["a", "b"]}') == Request("c", ["a", "b"], 12, False)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"top_k": 3}{}', 400, "not JSON"),
        (b'{"top_k": NaN}', 400, "not JSON"),
        (b'{"top_k": Infinity}', 400, "not JSON"),
        (b'{"top_k": -Infinity}', 400, "not JSON"),
        (b'{"customer_id": "\xff"}', 400, "not JSON"),
        (b'{"customer_id": "\\ud800"}', 400, "not JSON"),
        (b'\xef\xbb\xbf{"top_k": 3}', 400, "not JSON"),
        ('{"top_k": 3}'.encode("utf-16"), 400, "not JSON"),
        (b"[" * 60_000, 400, "not JSON"),
        (b'{"top_k": 3, "top_k": 4}', 400, "'top_k' is given twice"),
        (b'{"user_id": "a", "user_id": "a"}', 400, "'user_id' is given twice"),
        (b'{"top_k": 3, "top_\\u006b": 4}', 400, "'top_k' is given twice"),
        (b'{"customer_id": "\\"", "customer_id": "a"}', 400, "'customer_id' is given twice"),
        (b"[]", 422, "the body is a list, expected an object"),
        (b"null", 422, "the body is null, expected an object"),
        (b'"a"', 422, "the body is a string"),
        (b'{"top_n": 3}', 422, "unknown field 'top_n'; did you mean top_k?"),
        (b'{"zzz": 3}', 422, "unknown field 'zzz'; known are customer_id, article_ids"),
        (b'{"customer_id": 5}', 422, "customer_id is a number, expected a string"),
        (b'{"customer_id": ""}', 422, "customer_id is empty; leave it out instead"),
        (b'{"customer_id": "' + b"c" * 257 + b'"}', 422, "customer_id has 257 characters, at most 256"),
        (b'{"customer_id": "a", "user_id": "a"}', 422, "customer_id and user_id are two names of one thing"),
        (b'{"article_ids": "0706016001"}', 422, "article_ids is a string, expected a list"),
        (b'{"article_ids": [706016001]}', 422, "article_ids[0] is a number, expected a string; a string keeps the"),
        (b'{"article_ids": ["a", null]}', 422, "article_ids[1] is null, expected a string"),
        (b'{"article_ids": [["a"]]}', 422, "article_ids[0] is a list, expected a string"),
        (b'{"article_ids": ["a", ""]}', 422, "article_ids[1] is empty"),
        (json.dumps({"item_ids": ["1"] * 10_000}).encode(), 422, "article_ids has 10,000 entries, at most 1,000"),
        (b'{"top_k": 0}', 422, "top_k is 0, expected a whole number from 1 to 100"),
        (b'{"top_k": 101}', 422, "top_k is 101"),
        (b'{"top_k": -1}', 422, "top_k is -1"),
        (b'{"top_k": 12.0}', 422, "top_k is 12.0"),
        (b'{"top_k": "12"}', 422, "top_k is a string"),
        (b'{"top_k": true}', 422, "top_k is true or false"),
        (b'{"top_k": 99999999999999999999999999}', 422, "top_k is 1e+26"),
        (b'{"top_k": ' + b"9" * 400 + b"}", 400, "not JSON: number is infinity"),
        (b'{"exclude_purchased": 1}', 422, "exclude_purchased is a number, expected true or false"),
        (b'{"exclude_purchased": "true"}', 422, "exclude_purchased is a string"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(body: bytes, status: int, message: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_predict(body)
    assert refused.value.status == status
    assert message in refused.value.message
    assert len(refused.value.message) < 500


@pytest.mark.parametrize("depth", [900, 975, 1000, 1015, 1025])
def test_nesting_of_any_depth_fails_nothing(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    for body in (b'{"customers": [%s]}' % deep, b'{"customers": [{"top_k": 3}, %s]}' % deep):
        with contextlib.suppress(RequestRefused):  # any other exception would be an answer of 500
            parse_predict(body)


def test_a_quote_inside_a_string_is_no_duplicate_key() -> None:
    assert parse_predict(b'{"customer_id": "a\\"b\\\\", "article_ids": ["\\u0022"]}').customer_id == 'a"b\\'


scalars = st.one_of(st.none(), st.booleans(), st.integers(-5, 120), st.floats(allow_nan=False), st.text(max_size=3))
values = st.one_of(scalars, st.lists(st.one_of(st.text(max_size=3), scalars), max_size=3))
names = st.sampled_from([*FIELDS, "x"])


@settings(deadline=None, max_examples=500)
@given(document=st.dictionaries(names, values, max_size=4))
@example(document={"customer_id": "a", "item_ids": ["b"] * 1000, "top_k": 100})
@example(document={"customer_id": "a", "item_ids": ["b"] * 1001})
@example(document={"exclude": ["b"] * 1000, "index_group": ["b"] * 20, "price_min": 0, "price_max": 0.0})
@example(document={"exclude": ["b"] * 1001})
@example(document={"index_group": ["b"] * 21})
@example(document={"price_max": 1e12})
def test_the_documented_model_accepts_what_the_parser_accepts(document: dict[str, Any]) -> None:
    try:
        PredictRequest.model_validate(document)
        # What the schema cannot say: two names of one field, and a range that ends before it begins.
        documented = not ({"customer_id", "user_id"} <= set(document) or {"article_ids", "item_ids"} <= set(document))
        low, high = document.get("price_min"), document.get("price_max")
        documented = documented and (low is None or high is None or low <= high)
    except ValidationError:
        documented = False
    try:
        parse_predict(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        accepted = True
    except RequestRefused:
        accepted = False
    assert accepted == documented


@settings(deadline=None, max_examples=500)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    status = 200
    try:
        parse_predict(body)
    except RequestRefused as refused:
        status = refused.status
    assert status in (200, 400, 422)
