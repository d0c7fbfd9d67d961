"""Turn the body of a predict request into a Request, by hand: a model class costs ten times as much.

What is accepted is exactly what api.PredictRequest and api.BulkRequest describe; a test holds them together.
"""

import difflib
import json
from typing import Any

import orjson

from inference.engine import Request
from inference.errors import RequestRefused
from inference.fields import MAX_ID_LENGTH, check_ids, check_length, invalid, type_name
from inference.filters import FILTER_FIELDS, read_filters

MAX_TOP_K = 100
DEFAULT_TOP_K = 12
MAX_ARTICLE_IDS = 1000
MAX_CUSTOMERS = 256
PLAIN_FIELDS = ("customer_id", "article_ids", "top_k", "exclude_purchased", "user_id", "item_ids")
FIELDS = (*PLAIN_FIELDS, *FILTER_FIELDS)
_PLAIN_SET = frozenset(PLAIN_FIELDS)
_FIELD_SET = frozenset(FIELDS)

Bulk = list[Request | RequestRefused]
"""One entry for each of `customers`, in order; a refusal stands for the entry that it refuses."""


def parse_predict(body: bytes, explain: bool = False) -> Request | Bulk:
    """Check one body; RequestRefused with 400 when it is not JSON, with 422 when it says what cannot be."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRefused(400, "malformed_json", f"the body is not JSON: {error}") from error
    if type(document) is not dict:
        raise invalid(f"the body is {type_name(document)}, expected an object such as {{}}")
    if "customers" in document:
        refuse_duplicate_keys(body)
        return _parse_bulk(document, explain)

    request = _parse_one(document, explain)
    # orjson keeps the last of two equal keys silently. Every string has two quotes, so a dropped one shows in their
    # number; an escaped quote does too, as do the strings of filters, and then the slower parser decides.
    n_strings = len(document) + (request.customer_id is not None) + len(request.article_ids)
    if body.count(b'"') != 2 * n_strings:
        refuse_duplicate_keys(body)
    return request


def _parse_one(document: dict[str, Any], explain: bool) -> Request:
    is_plain = _PLAIN_SET.issuperset(document)
    if not is_plain and not _FIELD_SET.issuperset(document):
        raise _unknown_field(document)
    customer_id = _aliased(document, "customer_id", "user_id")
    if customer_id is not None:
        if type(customer_id) is not str:
            raise invalid(f"customer_id is {type_name(customer_id)}, expected a string")
        check_length("customer_id", customer_id)
    article_ids = _aliased(document, "article_ids", "item_ids")
    if article_ids is None:
        article_ids = ()
    else:
        check_ids("article_ids", article_ids, MAX_ARTICLE_IDS, "send the newest purchases only")
    top_k = document.get("top_k")
    if top_k is None:
        top_k = DEFAULT_TOP_K
    elif type(top_k) is not int or not 1 <= top_k <= MAX_TOP_K:
        shown = top_k if type(top_k) in (int, float) else type_name(top_k)
        raise invalid(f"top_k is {shown}, expected a whole number from 1 to {MAX_TOP_K}")
    exclude_purchased = document.get("exclude_purchased")
    if exclude_purchased is None:
        exclude_purchased = False
    elif type(exclude_purchased) is not bool:
        raise invalid(f"exclude_purchased is {type_name(exclude_purchased)}, expected true or false")
    if is_plain and not explain:
        return Request(customer_id, article_ids, top_k, exclude_purchased)
    return Request(customer_id, article_ids, top_k, exclude_purchased, read_filters(document), explain)


def _parse_bulk(document: dict[str, Any], explain: bool) -> Bulk:
    if len(document) > 1:
        name = min(set(document) - {"customers"})
        raise invalid(f"{name[:50]!r} stands beside customers; put it into each of them")
    customers = document["customers"]
    if type(customers) is not list or not customers:
        what = "an empty list" if customers == [] else type_name(customers)
        raise invalid(f"customers is {what}, expected a list of 1 to {MAX_CUSTOMERS} objects")
    if len(customers) > MAX_CUSTOMERS:
        raise invalid(f"customers has {len(customers):,} entries, at most {MAX_CUSTOMERS}; send several requests")
    return [_parse_entry(entry, explain) for entry in customers]


def _parse_entry(entry: Any, explain: bool) -> Request | RequestRefused:
    if type(entry) is not dict:
        return invalid(f"it is {type_name(entry)}, expected an object such as {{}}")
    try:
        return _parse_one(entry, explain)
    except RequestRefused as refusal:
        return refusal


def read_explain(query: bytes) -> bool:
    """Read `?explain=true`, the one parameter that a predict has."""
    if query in (b"explain=true", b"explain=1"):
        return True
    if query in (b"explain=false", b"explain=0"):
        return False
    raise invalid(f"the query is {query[:50].decode('ascii', 'replace')!r}, expected explain=true or explain=false")


def _aliased(document: dict[str, Any], name: str, alias: str) -> Any:
    if alias not in document:
        return document.get(name)
    if name in document:
        raise invalid(f"{name} and {alias} are two names of one thing; send one of them")
    return document[alias]


def _unknown_field(document: dict[str, Any]) -> RequestRefused:
    name = min(set(document) - _FIELD_SET)
    near = difflib.get_close_matches(name[:MAX_ID_LENGTH], FIELDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(FIELDS)}"
    return invalid(f"unknown field {name[:50]!r}{hint}")


def refuse_duplicate_keys(body: bytes) -> None:
    """Raise a 400 when an object of the JSON text names a key twice."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise RequestRefused(400, "duplicate_key", f"{name!r} is given twice")
            seen.add(name)

    try:
        json.loads(body, object_pairs_hook=check)
    except RecursionError as error:  # orjson goes a little deeper
        raise RequestRefused(400, "malformed_json", "the body is not JSON: it is nested too deeply") from error
