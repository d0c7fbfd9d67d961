"""Run the graph once for all requests that wait.

Requests that arrive in the same turn of the event loop are answered together; nothing waits for a timer, so at low
load a request is run alone at once and at high load batches grow by themselves.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from inference.engine import Recommendation, Request
from inference.errors import RequestRefused
from inference.swap import Live

MAX_BATCH = 32
# About a quarter of a second of work on the smallest machine; beyond it an answer comes too late to be wanted.
MAX_WAITING = 512

Answer = tuple[Recommendation, Live]


class Batcher:
    """Queue of one event loop; `live` gives the model of the moment, `observe` takes the size of each batch."""

    def __init__(self, live: Callable[[], Live], observe: Callable[[float], None]) -> None:
        self._live = live
        self._observe = observe
        self._waiting: deque[tuple[Request, asyncio.Future[Answer]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, request: Request) -> "asyncio.Future[Answer]":
        """Queue a request; refused with 429 when too many wait."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if len(self._waiting) >= MAX_WAITING:
            raise RequestRefused(429, "overloaded", f"{MAX_WAITING} requests wait already; try again in a second")
        if not self._waiting:
            self._loop.call_soon(self._flush)
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append((request, future))
        return future

    def _flush(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        if self._waiting and self._loop is not None:
            self._loop.call_soon(self._flush)
        try:
            live = self._live()
            answers = live.engine.recommend_batch([request for request, _ in batch])
        except Exception as error:
            self._answer_alone(batch, error)
            return
        self._observe(len(batch))
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result((answer, live))

    def _answer_alone(self, batch: list[tuple[Request, "asyncio.Future[Answer]"]], fault: Exception) -> None:
        """Keep one request that breaks the graph from failing those beside it."""
        for request, future in batch:
            if future.done():
                continue
            if len(batch) == 1:
                future.set_exception(fault)
                continue
            try:
                live = self._live()
                future.set_result((live.engine.recommend(request), live))
            except Exception as error:
                future.set_exception(error)
