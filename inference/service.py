"""The outermost layer: request ids, the access log, and POST /predict on the shortest way.

A predict never passes FastAPI's middleware, routing and models, which would cost five times what the answer itself
costs; every other path does.
"""

import random
import re
import secrets
import time
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.batching import Batcher
from inference.body import read_body
from inference.errors import RequestRefused
from inference.predict import Predictor
from inference.telemetry import AccessLog, Metrics, get_logger
from inference.tokens import Tokens

# Routes by which metrics are counted; everything else is one, so that a scan of paths makes no series.
ROUTES = frozenset({"/predict", "/healthz", "/livez", "/metrics", "/shift", "/docs", "/openapi.json"})
ROUTES |= {"/", "/articles", "/customers/sample", "/customers/history", "/shop"}
METRICS_ROUTES = frozenset({"/healthz", "/livez", "/metrics"})
RETRY_AFTER_SECONDS = {429: b"1", 503: b"5"}
CLIENT_GONE = 499  # as nginx counts it; nothing is sent
_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_JSON = (b"content-type", b"application/json")
# Nothing here is for another site's frame, nor to be guessed at; pages set their own policy for scripts.
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]

log = get_logger()


def error_body(code: str, message: str, request_id: str) -> bytes:
    """Write the envelope that every error has."""
    return orjson.dumps({"error": {"code": code, "message": message, "request_id": request_id}})


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
    ) -> None:
        self._app = app
        self._batcher = batcher
        self._predictor = predictor
        self._metrics = metrics
        self._share = access_log_share
        self._metrics_port = metrics_port
        self._tokens = tokens
        self._rng = random.Random()
        self._access = AccessLog()
        self.is_draining = False
        self.refused_early = metrics.refused_early

    def start_draining(self) -> None:
        """Say through /healthz that requests should go elsewhere."""
        self.is_draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and account for it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = scope["request_id"] = _request_id(scope)
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
        seconds = time.perf_counter() - started
        route = path if path in ROUTES else "other"
        self._metrics.request_done(route, status, seconds)
        if status >= 400 or self._share >= 1.0 or self._rng.random() < self._share:
            self._access.write(
                {
                    "request_id": request_id,
                    "method": scope["method"],
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
        headers = [_JSON, (b"x-request-id", request_id.encode()), (b"content-length", b"%d" % len(payload))]
        if status in RETRY_AFTER_SECONDS:
            headers.append((b"retry-after", RETRY_AFTER_SECONDS[status]))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})
        return status

    async def _predict(self, scope: Scope, receive: Receive, send: Send, request_id: str, facts: dict[str, Any]) -> int:
        headers = [_JSON, (b"x-request-id", request_id.encode())]
        status = 200
        try:
            if scope["method"] != "POST":
                headers.append((b"allow", b"POST"))
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
            if status in RETRY_AFTER_SECONDS:
                headers.append((b"retry-after", RETRY_AFTER_SECONDS[status]))
        except Exception:
            log.exception("predict_failed", request_id=request_id)
            status = 500
            payload = error_body("internal", "the request failed; the log has it under this request_id", request_id)
        headers.append((b"content-length", b"%d" % len(payload)))
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
        await self._app(asked, receive, send_with_id)
        return status


def _request_id(scope: Scope) -> str:
    """Keep the client's X-Request-ID when it is short and plain, else make one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            sane: str = value.decode("ascii")
            return sane
    return secrets.token_hex(8)
