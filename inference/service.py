"""The outermost layer: request ids, the access log, and POST /predict on the shortest way.

A predict never passes FastAPI's middleware, routing and models, which would cost five times what the answer itself
costs; every other path does.
"""

import random
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.batching import Batcher
from inference.body import read_body
from inference.errors import RequestRefused
from inference.predict import Predictor
from inference.responses import CLIENT_GONE, error_body, headers_of, request_id_of
from inference.short_way import ShortWay
from inference.telemetry import AccessLog, Metrics, get_logger
from inference.tokens import Tokens
from inference.tracing import Tracing

# Routes by which metrics are counted; everything else is one, so that a scan of paths makes no series.
ROUTES = frozenset({"/predict", "/healthz", "/livez", "/metrics", "/shift", "/docs", "/openapi.json"})
ROUTES |= {"/", "/articles", "/customers/sample", "/customers/history", "/shop"}
METRICS_ROUTES = frozenset({"/healthz", "/livez", "/metrics"})
# Nothing here is for another site's frame, nor to be guessed at; pages set their own policy for scripts.
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]

log = get_logger()


class Service:
    """The ASGI application that uvicorn runs."""

    def __init__(
        self,
        app: ASGIApp,
        batcher: Batcher,
        predictor: Predictor,
        metrics: Metrics,
        *,
        access_log_share: float = 1.0,
        metrics_port: int | None = None,
        tokens: Tokens | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._app = app
        self._batcher = batcher
        self._predictor = predictor
        self._metrics = metrics
        self._share = access_log_share
        self._metrics_port = metrics_port
        self._tokens = tokens
        self._tracing = tracing
        self._rng = random.Random()
        self._access = AccessLog()
        self.is_draining = False
        self.refused_early = metrics.refused_early
        is_short = predictor.is_plain and tracing is None
        self.short_way = ShortWay(batcher, metrics, tokens, self._account) if is_short else None
        """None when a challenger takes part, or requests are traced."""

    def start_draining(self) -> None:
        """Say through /healthz that requests should go elsewhere."""
        self.is_draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and account for it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = scope["request_id"] = request_id_of(scope["headers"])
        path: str = scope["path"]
        facts: dict[str, Any] = {}
        if self._metrics_port is not None and self._is_elsewhere(scope, path):
            status = await self._refuse(send, 404, "not_found", "this port does not answer that", request_id)
        elif self._tokens is not None and (refusal := self._tokens.refusal(path, scope["headers"])) is not None:
            status = await self._refuse(send, refusal.status, refusal.code, refusal.message, request_id)
        elif path == "/predict":
            status = await self._predict(scope, receive, send, request_id, facts)
        elif path == "/healthz" and self.is_draining:
            status = await self._refuse(send, 503, "draining", "this server is about to end", request_id)
        else:
            status = await self._pass_on(scope, receive, send, request_id)
        self._account(scope["method"], path, status, started, request_id, facts)
        if self._tracing is not None:
            route, seconds = path if path in ROUTES else "other", time.perf_counter() - started
            self._tracing.request_done(scope["headers"], scope["method"], route, status, seconds, request_id, facts)

    def _account(
        self, method: str, path: str, status: int, started: float, request_id: str, facts: dict[str, Any]
    ) -> None:
        seconds = time.perf_counter() - started
        route = path if path in ROUTES else "other"
        self._metrics.request_done(route, status, seconds)
        if status >= 400 or self._share >= 1.0 or self._rng.random() < self._share:
            self._access.write(
                {
                    "request_id": request_id,
                    "method": method,
                    "route": route,
                    "status": status,
                    "duration_ms": round(seconds * 1000, 3),
                    **facts,
                }
            )

    def _is_elsewhere(self, scope: Scope, path: str) -> bool:
        server = scope.get("server")
        is_metrics_port = server is not None and server[1] == self._metrics_port
        return path not in METRICS_ROUTES if is_metrics_port else path == "/metrics"

    async def _refuse(self, send: Send, status: int, code: str, message: str, request_id: str) -> int:
        payload = error_body(code, message, request_id)
        headers = headers_of(status, request_id, payload)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})
        return status

    async def _predict(self, scope: Scope, receive: Receive, send: Send, request_id: str, facts: dict[str, Any]) -> int:
        status = 200
        try:
            if scope["method"] != "POST":
                raise RequestRefused(405, "method_not_allowed", f"{scope['method']} /predict; send a POST")
            self._batcher.require_room()
            body = await read_body(scope, receive)
            if body is None:
                return CLIENT_GONE
            payload = await self._predictor.answer(body, scope["query_string"], request_id, facts)
        except RequestRefused as refusal:
            status = refusal.status
            payload = error_body(refusal.code, refusal.message, request_id)
            facts["code"] = refusal.code
        except Exception:
            log.exception("predict_failed", request_id=request_id)
            status = 500
            payload = error_body("internal", "the request failed; the log has it under this request_id", request_id)
        headers = headers_of(status, request_id, payload)
        if status == 405:
            headers.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})
        return status

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> int:
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = message.get("headers", ())
                named = {name for name, _ in sent}
                message["headers"] = [
                    *sent,
                    *(header for header in _SECURITY if header[0] not in named),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        # HEAD is GET without the body, which the protocol leaves out; FastAPI's routes know only what they name.
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            await self._app(asked, receive, send_with_id)
        except Exception:  # answered with 500 already; raised on, nobody would count it
            log.exception("request_failed", request_id=request_id)
            return 500
        return status
