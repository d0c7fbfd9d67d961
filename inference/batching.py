"""Run the graph once for all requests that wait.

Requests that arrive in the same turn of the event loop are answered together; nothing waits for a timer, so at low
load a request is run alone at once and at high load batches grow by themselves.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from inference.engine import Recommendation, Request
from inference.errors import RequestRefused
from inference.swap import Live

MAX_BATCH = 32
# About a quarter of a second of work on the smallest machine; beyond it an answer comes too late to be wanted.
MAX_WAITING = 512
# What waited longer, because the processor was taken away, is not worth its run.
DEADLINE_S = 0.5

Answer = tuple[Recommendation, Live]


class Batcher:
    """Queue of one event loop.

    `live` gives the model of the moment, `observe` takes the size of each batch, `failed` is told of each request that
    the model could not answer.
    """

    def __init__(
        self,
        live: Callable[[], Live],
        observe: Callable[[float], None],
        failed: Callable[[Live], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live = live
        self._observe = observe
        self._failed = failed
        self._clock = clock
        self._waiting: deque[tuple[Request, asyncio.Future[Answer], float]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """Count the requests that wait."""
        return len(self._waiting)

    def require_room(self) -> None:
        """Refuse with 429 when too many wait, before anything is spent on a request."""
        if len(self._waiting) >= MAX_WAITING:
            raise RequestRefused(429, "overloaded", f"{MAX_WAITING} requests wait already; try again in a second")

    def submit(self, request: Request) -> "asyncio.Future[Answer]":
        """Queue a request; refused with 429 when too many wait, or when it waited too long."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self.require_room()
        if not self._waiting:
            self._loop.call_soon(self._flush)
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append((request, future, self._clock()))
        return future

    def _take(self) -> "list[tuple[Request, asyncio.Future[Answer]]]":
        batch: list[tuple[Request, asyncio.Future[Answer]]] = []
        too_old_s = self._clock() - DEADLINE_S
        while self._waiting and len(batch) < MAX_BATCH:
            request, future, since_s = self._waiting.popleft()
            if future.done():
                continue
            if since_s < too_old_s:
                message = f"the request waited longer than {DEADLINE_S} s; try again in a second"
                future.set_exception(RequestRefused(429, "deadline_passed", message))
                continue
            batch.append((request, future))
        return batch

    def _flush(self) -> None:
        batch = self._take()
        if self._waiting and self._loop is not None:
            self._loop.call_soon(self._flush)
        if not batch:
            return
        try:
            live = self._live()
            answers = live.engine.answer_batch([request for request, _ in batch])
        except Exception as error:
            self._answer_alone(batch, error)
            return
        self._observe(len(batch))
        live.tally.n_answered += len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, RequestRefused):
                future.set_exception(answer)
            else:
                future.set_result((answer, live))

    def _answer_alone(self, batch: list[tuple[Request, "asyncio.Future[Answer]"]], fault: Exception) -> None:
        """Keep one request that breaks the graph from failing those beside it."""
        for request, future in batch:
            if future.done():
                continue
            try:
                live = self._live()
            except RequestRefused as refusal:
                future.set_exception(refusal)
                continue
            try:
                if len(batch) == 1:
                    raise fault
                future.set_result((live.engine.recommend(request), live))
                live.tally.n_answered += 1
            except RequestRefused as refusal:
                future.set_exception(refusal)
            except Exception as error:
                future.set_exception(error)
                self._failed(live)
