"""POST /predict on the shortest way: from a body to the bytes of its answer, without a task or a message between.

Plain requests go here, one answer to each; protocol.Connection leaves the rest to ASGI, which costs half as much again
as the answer itself: many customers in one body, a challenger beside the champion, pipelined requests, other methods.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import orjson

from inference.batching import Batcher
from inference.errors import INTERNAL, RequestRefused
from inference.parsing import parse_predict
from inference.predict import answer_document
from inference.request import Recommendation, Request
from inference.responses import CLIENT_GONE, error_body, headers_of, request_id_of
from inference.swap import Live
from inference.telemetry import Metrics, get_logger
from inference.tokens import Tokens

PATH = "/predict"

_NO_REQUEST = Request()

log = get_logger()

Headers = list[tuple[bytes, bytes]]
Account = Callable[[str, str, int, float, str, dict[str, Any]], None]
"""Takes method, path, status, perf_counter() at the start, request_id, and facts for the access log."""


class Replier(Protocol):
    """The connection that an answer goes to."""

    def reply(self, exchange: "Exchange", status: int, headers: Headers, payload: bytes) -> None:
        """Send it, and go on with what the client sends next."""
        ...


class _Event:
    def set(self) -> None:
        """Wake nobody: an exchange is no task."""


class Exchange:
    """One request and its answer. The parser fills it and asks after it as it does uvicorn's cycles, hence the names.

    The batcher tells it what became of the request.
    """

    __slots__ = (
        "_way",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "replier",
        "request",
        "request_id",
        "response_complete",
        "response_started",
        "started",
    )

    def __init__(self, way: "ShortWay", replier: Replier) -> None:
        self._way = way
        self.replier = replier
        self.started = time.perf_counter()
        self.request = _NO_REQUEST
        self.request_id = ""
        self.body = b""
        self.keep_alive = self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False

    message_event = _Event()

    def is_gone(self) -> bool:
        """Say whether nobody waits for the answer any more."""
        return self.disconnected

    def left(self) -> None:
        """Note that the client went."""
        self._way.left(self)

    def answered(self, answer: Recommendation, live: Live) -> None:
        """Send the answer."""
        self._way.send_answer(self, answer, live)

    def failed(self, error: Exception) -> None:
        """Send the refusal, or the failure."""
        self._way.send_error(self, error)


class ShortWay:
    """Answers exchanges; `account` counts and logs each."""

    def __init__(self, batcher: Batcher, metrics: Metrics, tokens: Tokens | None, account: Account) -> None:
        self._batcher = batcher
        self._metrics = metrics
        self._tokens = tokens
        self._account = account

    def take(self, exchange: Exchange, headers: Headers) -> bool:
        """Begin to answer a request that is there as a whole; False, with nothing done, for many customers."""
        if b'"customers"' in exchange.body:
            return False
        exchange.request_id = request_id_of(headers)
        try:
            if self._tokens is not None and (refusal := self._tokens.refusal(PATH, headers)) is not None:
                raise refusal
            self._batcher.require_room()
            request = parse_predict(exchange.body, False)
            if type(request) is not Request:
                return False
            exchange.request = request
            self._batcher.queue(request, exchange)
        except Exception as error:
            self.send_error(exchange, error)
        return True

    def left(self, exchange: Exchange) -> None:
        """Note that the client went before it had its answer."""
        request_id = exchange.request_id or request_id_of(())
        self._account("POST", PATH, CLIENT_GONE, exchange.started, request_id, {})

    def send_answer(self, exchange: Exchange, answer: Recommendation, live: Live) -> None:
        """Write the answer as JSON."""
        try:
            payload = orjson.dumps(answer_document(exchange.request, answer, live.manifest.version))
        except Exception as error:  # must not reach those who were answered in the same batch
            self.send_error(exchange, error)
            return
        self._metrics.recommended(exchange.request.customer_id, answer)
        self._send(exchange, 200, payload, {"source": answer.source})

    def send_error(self, exchange: Exchange, error: Exception) -> None:
        """Write a refusal in the envelope; what is none is a fault of ours, and logged."""
        if not isinstance(error, RequestRefused):
            log.error("predict_failed", request_id=exchange.request_id, exc_info=error)
            error = RequestRefused(*INTERNAL)
        payload = error_body(error.code, error.message, exchange.request_id)
        self._send(exchange, error.status, payload, {"code": error.code})

    def _send(self, exchange: Exchange, status: int, payload: bytes, facts: dict[str, Any]) -> None:
        exchange.replier.reply(exchange, status, headers_of(status, exchange.request_id, payload), payload)
        self._account("POST", PATH, status, exchange.started, exchange.request_id, facts)
