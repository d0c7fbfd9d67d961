"""What the HTTP interface takes and gives, as the documentation shows it."""

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from inference.fields import MAX_ID_LENGTH
from inference.filters import MAX_EXCLUDED, MAX_INDEX_GROUPS
from inference.parsing import DEFAULT_TOP_K, MAX_ARTICLE_IDS, MAX_CUSTOMERS, MAX_TOP_K

Identifier = Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID_LENGTH)]
Identifiers = Annotated[list[Identifier], Field(max_length=MAX_ARTICLE_IDS)]
IndexGroups = Annotated[list[Identifier], Field(min_length=1, max_length=MAX_INDEX_GROUPS)]
Price = Annotated[StrictInt | StrictFloat, Field(ge=0, lt=1e12)]

REQUEST_EXAMPLES: dict[str, Any] = {
    "nobody": {"summary": "Nothing known: what is popular", "value": {}},
    "several": {
        "summary": "Many customers at once, one answer for each",
        "value": {"customers": [{"customer_id": "somebody", "top_k": 3}, {"top_k": 5}]},
    },
}
"""Requests that every bundle answers; request_examples adds those that name what the loaded one knows."""


def request_examples(customer_id: str | None, article_ids: list[str], index_group: str | None) -> dict[str, Any]:
    """Write examples that run as they stand, with a customer, articles and a group of the model that answers."""
    examples: dict[str, Any] = {}
    if customer_id is not None:
        examples["customer"] = {"summary": "A customer of the shop", "value": {"customer_id": customer_id}}
    if article_ids:
        basket = {"article_ids": article_ids[:2], "top_k": 5, "exclude_purchased": True}
        examples["basket"] = {"summary": "Somebody unknown, from what was just bought", "value": basket}
    if index_group is not None:
        narrow = {"index_group": index_group, "exclude": article_ids[2:3], "price_min": 0, "top_k": 1}
        examples["filtered"] = {"summary": "Only from one part of the shop", "value": narrow}
    return examples | REQUEST_EXAMPLES


class PredictRequest(BaseModel):
    """Every field may be left out."""

    model_config = ConfigDict(extra="forbid")

    customer_id: Identifier | None = Field(None, description="A known customer is answered from past purchases.")
    article_ids: Identifiers | None = Field(
        None, description="Purchases newer than those known, newest last. Unknown ones are left out."
    )
    top_k: Annotated[StrictInt, Field(ge=1, le=MAX_TOP_K)] | None = Field(
        DEFAULT_TOP_K, description="How many distinct articles to answer."
    )
    exclude_purchased: StrictBool | None = Field(False, description="Leave out what the customer bought before.")
    user_id: Identifier | None = Field(None, description="Another name of customer_id; send one of them.")
    item_ids: Identifiers | None = Field(None, description="Another name of article_ids; send one of them.")
    exclude: Annotated[list[Identifier], Field(max_length=MAX_EXCLUDED)] | None = Field(
        None, description="article_ids not to answer, such as what is on the page already."
    )
    index_group: Identifier | IndexGroups | None = Field(
        None, description="Answer only from this index group, or from these; GET /shop names them."
    )
    price_min: Price | None = Field(None, description="In the prices of the shop's own data, this one included.")
    price_max: Price | None = Field(None, description="As price_min. Articles without a price are in no range.")


class BulkRequest(BaseModel):
    """Many requests in one; each is answered in its place."""

    model_config = ConfigDict(extra="forbid")

    customers: Annotated[list[PredictRequest], Field(min_length=1, max_length=MAX_CUSTOMERS)] = Field(
        description="An entry that is wrong gets an error in its place and fails no other."
    )


class ExplanationResponse(BaseModel):
    """Why an article is answered."""

    article_id: str
    name: str | None
    product_type: str | None
    colour: str | None
    reason: str = Field(description="For people: “bought 12 days ago; a best seller of late”.")
    signals: dict[str, float] = Field(
        description="What each signal added to the linear part of the score, relative to the mean candidate; empty for "
        "an article that the model did not rank: pinned by the shop, or filled in."
    )


class PredictResponse(BaseModel):
    """Distinct articles, best first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "customer_id": "a-customer",
                "recommendations": ["0100000001", "0100000002"],
                "scores": [3.125, 2.5],
                "count": 2,
                "source": "personal",
                "model_version": "20260922-3f9c2a7b10",
            }
        }
    )

    customer_id: str | None = Field(description="As it was sent.")
    recommendations: list[str] = Field(description="article_ids, best first.")
    scores: list[float] = Field(description="One for each article, not increasing; comparable within one answer only.")
    count: int = Field(description="top_k, or the size of a catalogue that is smaller.")
    source: Literal["personal", "segment", "popular"] = Field(
        description="personal: from purchases. segment: from customers alike. popular: nothing was known."
    )
    model_version: str = Field(description="The model that answered; with a challenger there are two.")
    unknown_article_ids: list[str] | None = Field(
        None, description="article_ids that the catalogue does not have; left out when there are none."
    )
    is_known_customer: Literal[False] | None = Field(
        None, description="false when the model does not know the customer_id; left out otherwise."
    )
    explanations: list[ExplanationResponse] | None = Field(
        None, description="With ?explain=true, one for each article, in order."
    )


class ErrorFacts(BaseModel):
    code: str = Field(description="For programs; it does not change.")
    message: str = Field(description="For people: what, the value, what to do.")
    request_id: str = Field(description="As in X-Request-ID and in the log.")


class ErrorResponse(BaseModel):
    error: ErrorFacts


class BulkResponse(BaseModel):
    """One entry for each of `customers`, in order."""

    answers: list[PredictResponse | ErrorResponse]
    count: int
    n_errors: int = Field(description="How many of them are errors.")


class HealthResponse(BaseModel):
    """The model that answers now."""

    status: Literal["ok"] = "ok"
    model_version: str
    cutoff_date: dt.date = Field(description="First day that the evaluated model did not see.")
    trained_through: dt.date = Field(description="Last day that this model saw.")
    age_days: int = Field(description="Whole days since trained_through.")
    loaded_at: dt.datetime
    last_refusal: str | None = Field(description="Why the newest champion is not the one that answers, if so.")
    rules_version: str | None = Field(None, description="Hash of the shop's rules that are obeyed, if there are any.")
    rules_refusal: str | None = Field(None, description="Why the newest rules file is not the one that is obeyed.")
    rules_unknown_articles: int | None = Field(
        None, description="How many article_ids of the rules the catalogue does not have; a slip, or long gone."
    )
    tokens_refusal: str | None = Field(None, description="What is wrong with the file of tokens, if anything.")
    challenger_version: str | None = Field(None, description="The second model, where one is loaded.")
    challenger_refusal: str | None = Field(None, description="Why there is no second model, or not the newest.")


class LiveResponse(BaseModel):
    """The process works."""

    status: Literal["ok"] = "ok"


# status → what it means, and the code and message of an example
_FAULTS = {
    401: (
        "Tokens are asked for, and none that is known was sent.",
        "no_token",
        "this needs a token: send Authorization: Bearer …",
    ),
    400: ("The body is not JSON, or a key is given twice.", "duplicate_key", "'top_k' is given twice"),
    413: ("The body is larger than 64 KiB.", "body_too_large", "the body is larger than 65,536 bytes"),
    422: (
        "A field is unknown, of the wrong type or out of range.",
        "invalid_request",
        "article_ids[0] is a number, expected a string; a string keeps the leading zero",
    ),
    429: (
        "Too many requests wait; Retry-After says when to come back.",
        "overloaded",
        "512 requests wait already; try again in a second",
    ),
    503: (
        "No model is loaded.",
        "no_model",
        "no model is loaded: lake/registry/champion.json: no champion (No such file or directory)",
    ),
}


def fault(status: int) -> dict[str, Any]:
    """Document one status with an example of its envelope."""
    meaning, code, message = _FAULTS[status]
    example = {"error": {"code": code, "message": message, "request_id": "84c8f7ab9116073f"}}
    return {"model": ErrorResponse, "description": meaning, "content": {"application/json": {"example": example}}}


# The route is answered by inference.predict before FastAPI is asked; this declares it for the documentation.
documented = APIRouter()


@documented.post(
    "/predict",
    summary="Recommend articles",
    tags=["recommendations"],
    response_description="Distinct articles, best first.",
    responses={status: fault(status) for status in _FAULTS},
    openapi_extra={"requestBody": {"content": {"application/json": {"examples": REQUEST_EXAMPLES}}}},
    response_model=PredictResponse | BulkResponse,
    response_model_exclude_none=True,
)
async def predict(
    request: PredictRequest | BulkRequest,
    explain: Annotated[bool, Query(description="Say of each article why it is answered.")] = False,
) -> None:
    """Answer always `top_k` distinct articles, best first.

    A known customer is answered from past purchases, with `article_ids` as newer ones behind them. Somebody without
    purchases gets what customers alike buy, and somebody unknown what is popular; `source` says which. Filters never
    shorten an answer: when fewer live articles match than `top_k`, the request is refused with their number.
    """
