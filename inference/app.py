"""Put the service together: FastAPI for health, metrics and documentation, the short way for predictions."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from inference.api import HealthResponse, LiveResponse, documented, fault
from inference.batching import Batcher
from inference.challenge import Challenge, open_challenge
from inference.champion import open_source
from inference.errors import RequestRefused
from inference.limits import yield_processor
from inference.page import documentation_policy, examples_of, page_routes
from inference.predict import Predictor
from inference.responses import RETRY_AFTER_SECONDS, error_body
from inference.rules_file import RulesBook, kept_rules, open_rules
from inference.service import Service
from inference.settings import Settings
from inference.shift import Shift, shift_route
from inference.swap import Live, Swap
from inference.telemetry import Metrics
from inference.tokens import OPEN_PATHS, Tokens
from inference.tracing import Tracing

API_VERSION = "1"  # of the HTTP interface; a model's own is in every answer
TITLE = "Fashion recommendations"
DESCRIPTION = """What a customer is likely to buy next, from purchases or from what customers alike buy.

Ask `/predict`; `/healthz` says which model answers. Every error has the same envelope with a `request_id`, which is
also in `X-Request-ID` and in the log.
"""
RULES_REFUSED = ("rules_refused", "Rules files that were not taken.")
N_THREADS_BESIDE = 3
CODES = {404: "not_found", 405: "method_not_allowed"}


def create_service(settings: Settings, *, metrics_port: int | None = None) -> Service:
    """Build the ASGI application; following the champion begins with its lifespan."""
    metrics = Metrics()
    book = RulesBook(
        open_rules(settings.rules_uri, settings.model_uri),
        kept=kept_rules(settings.model_cache, settings.rules_uri, settings.model_uri),
        refused=metrics.counter(*RULES_REFUSED),
    )
    source = open_source(settings.model_uri, settings.model_cache)
    swap = Swap(source, metrics, poll_seconds=settings.model_poll_seconds, prepare=book.prepare)
    batcher = Batcher(swap.live, metrics.batch_size.observe, swap.failed)
    metrics.watch("requests_waiting", "Requests in the queue for the graph.", lambda: len(batcher))
    challenge = open_challenge(settings, metrics, book)
    predictor = Predictor(
        batcher, metrics, challenge.challenger if challenge else None, challenge.batcher if challenge else None
    )
    shift = Shift(swap.live)
    metrics.registry.register(shift)
    tokens = None
    if settings.api_tokens_file is not None:
        # A port of its own for /metrics is closed by the network, not by tokens.
        tokens = Tokens(settings.api_tokens_file, ("/metrics",) if metrics_port is not None else ())
    app = create_app(swap, metrics, book, challenge, tokens, model_poll_seconds=settings.model_poll_seconds)
    app.include_router(shift_route(shift))
    if settings.page:
        app.include_router(page_routes(swap.live))
    return Service(
        app,
        batcher,
        predictor,
        metrics,
        access_log_share=settings.access_log_share,
        metrics_port=metrics_port,
        tokens=tokens,
        tracing=Tracing() if settings.otel_exporter_otlp_endpoint is not None else None,
    )


def create_app(
    swap: Swap,
    metrics: Metrics,
    book: RulesBook,
    challenge: Challenge | None,
    tokens: Tokens | None,
    *,
    model_poll_seconds: float,
) -> FastAPI:
    """Everything but predictions."""

    following: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal following
        # Loading a model, reading rules, asking a challenger: whatever is done beside the answers yields to them.
        beside = ThreadPoolExecutor(N_THREADS_BESIDE, "beside", initializer=yield_processor)
        asyncio.get_running_loop().set_default_executor(beside)
        following = asyncio.create_task(follow())
        yield
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

    async def follow() -> None:
        await book.try_check()  # before the first model: what is blocked is not answered even once
        async with asyncio.TaskGroup() as group:
            group.create_task(swap.follow())
            group.create_task(book.follow(model_poll_seconds))
            if challenge is not None:
                group.create_task(challenge.follow(swap))

    app = FastAPI(
        title=TITLE, version=API_VERSION, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )

    @app.get(
        "/healthz",
        response_model=HealthResponse,
        responses={503: fault(503)},
        tags=["operation"],
        summary="Say which model answers",
    )
    async def healthz() -> HealthResponse:
        """Answer 200 once a model is live, 503 before."""
        live = swap.live()
        return HealthResponse(
            model_version=live.manifest.version,
            cutoff_date=live.manifest.cutoff_date,
            trained_through=live.manifest.trained_through,
            age_days=(dt.datetime.now(dt.UTC).date() - live.manifest.trained_through).days,
            loaded_at=live.loaded_at,
            last_refusal=swap.reason or None,
            rules_version=book.current.version or None,
            rules_refusal=book.reason or None,
            rules_unknown_articles=book.n_unknown(),
            tokens_refusal=(tokens.reason or None) if tokens else None,
            challenger_version=challenge.version() if challenge else None,
            challenger_refusal=challenge.refusal() if challenge else None,
        )

    @app.get("/livez", tags=["operation"], summary="Say whether this process should be left alone")
    async def livez() -> LiveResponse:
        """Answer 200 while requests are answered and champions followed, with or without a model."""
        if following is None or following.done():
            raise RequestRefused(503, "not_following", "no champion is followed any more; start the server again")
        return LiveResponse()

    # Load balancers ask with HEAD; it is answered as GET is, without the body.
    app.add_api_route("/healthz", healthz, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/livez", livez, methods=["HEAD"], include_in_schema=False)

    @app.get("/metrics", response_class=Response, tags=["operation"], summary="Figures for Prometheus")
    async def read_metrics() -> Response:
        """Answer in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    _add_documentation(app, swap)
    _add_error_envelope(app)
    return app


def _add_documentation(app: FastAPI, swap: Swap) -> None:
    # Swagger UI from the package's own files: no page of this service asks another host for anything.
    static = Path(fastapi_offline.__file__).parent / "static"
    app.mount("/docs/assets", StaticFiles(directory=static), name="assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=TITLE,
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon.png",
            swagger_ui_parameters={"defaultModelsExpandDepth": -1},  # at the width of a telephone they overflow
        )
        page.headers["content-security-policy"] = documentation_policy(bytes(page.body))
        return page

    described: Live | None = None

    def openapi() -> dict[str, Any]:
        nonlocal described
        if app.openapi_schema is None or described is not swap.current:
            routes = [*documented.routes, *app.routes]
            schema = get_openapi(title=TITLE, version=API_VERSION, description=DESCRIPTION, routes=routes)
            if swap.current is not None:
                content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
                content["examples"] = examples_of(swap.current.engine)
            _declare_tokens(schema)
            app.openapi_schema, described = schema, swap.current
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema


def _declare_tokens(schema: dict[str, Any]) -> None:
    """Say of every path that is not open to all that it may need a token, so that /docs has a field for one."""
    schema["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        if path not in OPEN_PATHS:
            for operation in operations.values():
                operation["security"] = [{"bearer": []}, {}]


def _add_error_envelope(app: FastAPI) -> None:
    @app.exception_handler(RequestRefused)
    async def refused(request: Request, error: RequestRefused) -> Response:
        after = RETRY_AFTER_SECONDS.get(error.status)
        headers = {"retry-after": after.decode()} if after is not None else None
        return _error(request, error.status, error.code, error.message, headers)

    @app.exception_handler(RequestValidationError)
    async def refused_by_schema(request: Request, error: RequestValidationError) -> Response:
        faults = [f"{'.'.join(map(str, e['loc'][1:])) or 'the body'}: {e['msg']}" for e in error.errors()[:5]]
        return _error(request, 422, "invalid_request", "; ".join(faults)[:500], None)

    @app.exception_handler(HTTPException)
    async def refused_by_framework(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path[:200]}: {error.detail}; /docs shows what there is"
        code = CODES.get(error.status_code, "refused")
        return _error(request, error.status_code, code, message, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(request: Request, _: Exception) -> Response:
        return _error(request, 500, "internal", "the request failed; the log has it under this request_id", None)


def _error(request: Request, status: int, code: str, message: str, headers: dict[str, str] | None) -> Response:
    body = error_body(code, message, request.scope["request_id"])
    return Response(body, status, headers, media_type="application/json")
