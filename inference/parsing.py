"""Turn the body of a predict request into a Request, by hand: a model class costs ten times as much.

What is accepted is exactly what api.PredictRequest describes; a test holds the two together.
"""

import difflib
import json
from typing import Any

import orjson

from inference.engine import Request
from inference.errors import RequestRefused

MAX_TOP_K = 100
DEFAULT_TOP_K = 12
MAX_ARTICLE_IDS = 1000
MAX_ID_LENGTH = 256
FIELDS = ("customer_id", "article_ids", "top_k", "exclude_purchased", "user_id", "item_ids")
_FIELD_SET = frozenset(FIELDS)
_TYPE_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def parse_predict(body: bytes) -> Request:
    """Check one body; RequestRefused with 400 when it is not JSON, with 422 when it says what cannot be."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRefused(400, "malformed_json", f"the body is not JSON: {error}") from error
    if type(document) is not dict:
        raise _invalid(f"the body is {_type_name(document)}, expected an object such as {{}}")
    if not _FIELD_SET.issuperset(document):
        raise _unknown_field(document)

    customer_id = _aliased(document, "customer_id", "user_id")
    if customer_id is not None:
        if type(customer_id) is not str:
            raise _invalid(f"customer_id is {_type_name(customer_id)}, expected a string")
        _check_length("customer_id", customer_id)
    article_ids = _aliased(document, "article_ids", "item_ids")
    n_strings = len(document) + (customer_id is not None)
    if article_ids is None:
        article_ids = ()
    else:
        _check_article_ids(article_ids)
        n_strings += len(article_ids)
    top_k = document.get("top_k")
    if top_k is None:
        top_k = DEFAULT_TOP_K
    elif type(top_k) is not int or not 1 <= top_k <= MAX_TOP_K:
        shown = top_k if type(top_k) in (int, float) else _type_name(top_k)
        raise _invalid(f"top_k is {shown}, expected a whole number from 1 to {MAX_TOP_K}")
    exclude_purchased = document.get("exclude_purchased")
    if exclude_purchased is None:
        exclude_purchased = False
    elif type(exclude_purchased) is not bool:
        raise _invalid(f"exclude_purchased is {_type_name(exclude_purchased)}, expected true or false")

    # orjson keeps the last of two equal keys silently. Every string has two quotes, so a dropped one shows in their
    # number; an escaped quote does too, and then the slower parser decides.
    if body.count(b'"') != 2 * n_strings:
        _refuse_duplicate_keys(body)
    return Request(customer_id, article_ids, top_k, exclude_purchased)


def _aliased(document: dict[str, Any], name: str, alias: str) -> Any:
    if alias not in document:
        return document.get(name)
    if name in document:
        raise _invalid(f"{name} and {alias} are two names of one thing; send one of them")
    return document[alias]


def _check_article_ids(article_ids: Any) -> None:
    if type(article_ids) is not list:
        raise _invalid(f"article_ids is {_type_name(article_ids)}, expected a list of strings")
    if len(article_ids) > MAX_ARTICLE_IDS:
        raise _invalid(
            f"article_ids has {len(article_ids):,} entries, at most {MAX_ARTICLE_IDS:,}; send the newest purchases only"
        )
    for position, article_id in enumerate(article_ids):
        if type(article_id) is not str:
            hint = "; a string keeps the leading zero" if type(article_id) is int else ""
            raise _invalid(f"article_ids[{position}] is {_type_name(article_id)}, expected a string{hint}")
        if not 0 < len(article_id) <= MAX_ID_LENGTH:
            _check_length(f"article_ids[{position}]", article_id)


def _check_length(name: str, text: str) -> None:
    if not text:
        raise _invalid(f"{name} is empty; leave it out instead")
    if len(text) > MAX_ID_LENGTH:
        raise _invalid(f"{name} has {len(text):,} characters, at most {MAX_ID_LENGTH}")


def _unknown_field(document: dict[str, Any]) -> RequestRefused:
    name = min(set(document) - _FIELD_SET)
    near = difflib.get_close_matches(name[:MAX_ID_LENGTH], FIELDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(FIELDS)}"
    return _invalid(f"unknown field {name[:50]!r}{hint}")


def _refuse_duplicate_keys(body: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise RequestRefused(400, "duplicate_key", f"{name!r} is given twice")
            seen.add(name)

    json.loads(body, object_pairs_hook=check)


def _invalid(message: str) -> RequestRefused:
    return RequestRefused(422, "invalid_request", message)


def _type_name(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), "a number")
