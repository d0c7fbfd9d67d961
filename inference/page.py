"""The page at `/` and the small routes behind it: articles by name, customers to try, what a customer bought."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from inference.api import fault, request_examples
from inference.body import read_body
from inference.engine import Engine
from inference.errors import RequestRefused
from inference.fields import MAX_ID_LENGTH
from inference.lookup import ids_of
from inference.parsing import refuse_duplicate_keys
from inference.reasons import days_ago, segment_words
from inference.swap import Live

PAGE = Path(__file__).parent / "static" / "page.html"
MAX_FOUND = 50
MAX_QUERY_LENGTH = 80
MAX_SAMPLES = 50
MAX_SEARCHING = 8  # each reads the whole file: some 25 ms of a processor
MAX_EXAMPLE_EXCLUDED = 1  # the example that filters leaves out one article, and its group must have another
PAGE_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache"}


class HistoryRequest(BaseModel):
    """A customer_id travels in a body, so that no log or proxy keeps it as part of an address."""

    model_config = ConfigDict(extra="forbid")

    customer_id: Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID_LENGTH)]


class ArticleFacts(BaseModel):
    """An article as training knew it; what the shop's data does not say is left out."""

    model_config = ConfigDict(extra="allow")

    article_id: str
    name: str | None = None
    product_type: str | None = None
    colour: str | None = None
    index_group: str | None = None
    is_live: bool = Field(description="Whether it may be answered.")


class ArticlesFound(BaseModel):
    articles: list[ArticleFacts]


class Purchase(ArticleFacts):
    bought: str = Field(description="When, in words: “12 days ago”, from the day after trained_through.")
    age_days: int = Field(description="Days from the purchase to the day after trained_through, at least 1.")


class HistoryResponse(BaseModel):
    is_known: bool
    segment: str | None = Field(None, description="Whom the model counts the customer among, in words.")
    n_purchases: int = Field(description="All that the bundle holds of the customer.")
    purchases: list[Purchase] = Field(description="Newest first; as many as the model reads.")


class SampleResponse(BaseModel):
    customers: list[str] = Field(description="customer_ids that the bundle knows, of short and long histories.")


class ShopResponse(BaseModel):
    """What filters can be set to."""

    n_articles: int
    n_live: int
    n_customers: int
    index_groups: list[str]
    price_min: float | None
    price_max: float | None


def page_policy(html: bytes) -> str:
    """Write the page's Content-Security-Policy: its own script and style by their hashes, this server, nothing else.

    >>> page_policy(b"<style>a</style><script>b</script>").split("; ")[2]
    "style-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"
    """
    return (
        f"default-src 'none'; script-src {_hashes(b'script', html)}; style-src {_hashes(b'style', html)}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def documentation_policy(html: bytes) -> str:
    """Write the policy of /docs: Swagger UI comes from this server, and writes styles into its elements."""
    return (
        f"default-src 'none'; script-src 'self' {_hashes(b'script', html)}; style-src 'self' 'unsafe-inline'; "
        "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(tag: bytes, html: bytes) -> str:
    parts = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(part).digest()).decode()}'" for part in parts)


def examples_of(engine: Engine) -> dict[str, Any]:
    """Write requests for the documentation that run against this model as they stand."""
    bundle = engine.bundle
    customers = sample_customers(engine)
    groups = [names for code, names in enumerate(engine.attributes["index_group"]) if code and _is_live(engine, code)]
    article_ids = ids_of(bundle, np.array(engine.popular[:3], np.int64))
    return request_examples(customers[0] if customers else None, article_ids, groups[0] if groups else None)


def _is_live(engine: Engine, code: int) -> bool:
    live_N = engine.bundle.live_articles
    return bool(np.count_nonzero(engine.bundle.index_groups[live_N] == code) > MAX_EXAMPLE_EXCLUDED)


def sample_customers(engine: Engine) -> list[str]:
    """Name the customers whose answers training recorded: those with most purchases first."""
    try:
        requests = [case["request"] for case in engine.bundle.read_golden()]
    except OSError:  # somebody cleaned up under MODEL_CACHE; all that is answered from is open still
        return []
    ids = [request["customer_id"] for request in requests if isinstance(request.get("customer_id"), str)]
    return sorted(dict.fromkeys(ids), key=lambda customer_id: -_n_purchases(engine, customer_id))[:MAX_SAMPLES]


def _n_purchases(engine: Engine, customer_id: str) -> int:
    position = engine.customer_position(customer_id)
    if position is None:
        return 0
    return int(np.diff(engine.bundle.customer_offsets[position : position + 2])[0])


def page_routes(live: Callable[[], Live]) -> APIRouter:
    """Make the routes; `live` gives the model of the moment."""
    router = APIRouter(tags=["page"])
    one_search = asyncio.Semaphore(1)
    n_searching = 0

    @router.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        html = PAGE.read_bytes()  # 21 KB from the page cache; nothing of it stays in memory
        return HTMLResponse(html, headers={**PAGE_HEADERS, "content-security-policy": page_policy(html)})

    @router.get(
        "/articles",
        response_model_exclude_none=True,
        responses={status: fault(status) for status in (401, 422, 429, 503)},
        summary="Search articles by name",
    )
    async def articles(
        q: Annotated[str, Query(max_length=MAX_QUERY_LENGTH, description="Words, all of which must occur.")],
        limit: Annotated[int, Query(ge=1, le=MAX_FOUND)] = 20,
    ) -> ArticlesFound:
        """Find articles that have every word in their name, colour, kind or id; those on sale first."""
        nonlocal n_searching
        engine = live().engine
        if n_searching >= MAX_SEARCHING:
            raise RequestRefused(429, "overloaded", f"{MAX_SEARCHING} searches wait already; try again in a second")
        n_searching += 1
        try:
            async with one_search:
                found = await asyncio.to_thread(engine.names.search, q, limit, engine.bundle.is_live)
        finally:
            n_searching -= 1
        return ArticlesFound(articles=[ArticleFacts.model_validate(facts) for facts in found if "article_id" in facts])

    unanswered: dict[int | str, dict[str, Any]] = {status: fault(status) for status in (401, 503)}

    @router.get("/customers/sample", responses=unanswered, summary="Customers to try")
    async def sample() -> SampleResponse:
        """Give the customers whose answers training recorded: some with many purchases, some with few."""
        return SampleResponse(customers=sample_customers(live().engine))

    body = {"content": {"application/json": {"schema": HistoryRequest.model_json_schema()}}, "required": True}

    @router.post(
        "/customers/history",
        response_model_exclude_none=True,
        openapi_extra={"requestBody": body},
        responses={status: fault(status) for status in (400, 401, 413, 422, 503)},
        summary="What a customer bought",
    )
    async def history(request: Request) -> HistoryResponse:
        """Give the purchases that the bundle keeps of a customer."""
        text = await read_body(request.scope, request.receive)
        try:
            asked = HistoryRequest.model_validate_json(text or b"")
            refuse_duplicate_keys(text or b"")
        except ValidationError as error:
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error
        return _history(live().engine, asked.customer_id)

    @router.get("/shop", responses=unanswered, summary="What filters can be set to")
    async def shop() -> ShopResponse:
        """Count what the model knows, and name the index groups and the range of prices of what is on sale."""
        return await asyncio.to_thread(_shop, live().engine)

    return router


def _history(engine: Engine, customer_id: str) -> HistoryResponse:
    bundle = engine.bundle
    position = engine.customer_position(customer_id)
    if position is None:
        return HistoryResponse(is_known=False, segment=None, n_purchases=0, purchases=[])
    start, end = (int(offset) for offset in bundle.customer_offsets[position : position + 2])
    purchases = []
    for row in reversed(range(max(start, end - bundle.manifest.max_history), end)):  # what the model reads
        index, age_days = int(bundle.history_articles[row]), max(1, bundle.as_of_day - int(bundle.history_days[row]))
        facts = {
            "article_id": engine.article_id(index),
            **engine.names.at(index),
            "is_live": bool(bundle.is_live[index]),
        }
        purchases.append(Purchase(bought=days_ago(age_days), age_days=age_days, **facts))
    segment = segment_words(int(bundle.customer_segments[position]))
    return HistoryResponse(is_known=True, segment=segment, n_purchases=end - start, purchases=purchases)


def _shop(engine: Engine) -> ShopResponse:
    bundle = engine.bundle
    live_N = bundle.live_articles
    prices = bundle.article_prices[live_N]
    known = prices[np.isfinite(prices)]
    codes = np.unique(bundle.index_groups[live_N]).tolist()
    names = engine.attributes["index_group"]
    return ShopResponse(
        n_articles=bundle.manifest.n_articles,
        n_live=bundle.manifest.n_live,
        n_customers=bundle.manifest.n_customers,
        index_groups=sorted(names[code] for code in codes if code),
        price_min=float(f"{known.min():.4g}") if len(known) else None,
        price_max=float(f"{known.max():.4g}") if len(known) else None,
    )
