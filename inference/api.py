"""What the HTTP interface takes and gives, as the documentation shows it."""

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from inference.parsing import DEFAULT_TOP_K, MAX_ARTICLE_IDS, MAX_ID_LENGTH, MAX_TOP_K

Identifier = Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID_LENGTH)]
Identifiers = Annotated[list[Identifier], Field(max_length=MAX_ARTICLE_IDS)]

EXAMPLE_CUSTOMER = "00000dbacae5abe5e23885899a1fa44253a17956c6d1c3d25f88aa139fdfc657"
REQUEST_EXAMPLES: dict[str, Any] = {
    "customer": {"summary": "A customer of the shop", "value": {"customer_id": EXAMPLE_CUSTOMER}},
    "basket": {
        "summary": "Somebody unknown, from what was just bought",
        "value": {"article_ids": ["0706016001", "0706016002"], "top_k": 5, "exclude_purchased": True},
    },
    "nobody": {"summary": "Nothing known: what is popular", "value": {}},
}


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


class PredictResponse(BaseModel):
    """Distinct articles, best first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "customer_id": EXAMPLE_CUSTOMER,
                "recommendations": ["0706016001", "0372860002"],
                "scores": [3.125, 2.5],
                "count": 2,
                "source": "personal",
                "model_version": "20200922-3f9c2a",
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
    model_version: str


class ErrorFacts(BaseModel):
    code: str = Field(description="For programs; it does not change.")
    message: str = Field(description="For people: what, the value, what to do.")
    request_id: str = Field(description="As in X-Request-ID and in the log.")


class ErrorResponse(BaseModel):
    error: ErrorFacts


class HealthResponse(BaseModel):
    """The model that answers now."""

    status: Literal["ok"] = "ok"
    model_version: str
    cutoff_date: dt.date = Field(description="First day that the evaluated model did not see.")
    trained_through: dt.date = Field(description="Last day that this model saw.")
    age_days: int = Field(description="Whole days since trained_through.")
    loaded_at: dt.datetime
    last_refusal: str | None = Field(description="Why the newest champion is not the one that answers, if so.")


class LiveResponse(BaseModel):
    """The process works."""

    status: Literal["ok"] = "ok"


# status → what it means, and the code and message of an example
_FAULTS = {
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
)
async def predict(request: PredictRequest) -> PredictResponse:
    """Answer always `top_k` distinct articles, best first.

    A known customer is answered from past purchases, with `article_ids` as newer ones behind them. Somebody without
    purchases gets what customers alike buy, and somebody unknown what is popular; `source` says which.
    """
    raise NotImplementedError  # never mounted: only the signature is read, for /openapi.json (see app.py)
