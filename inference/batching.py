"""Run the graph once for all requests that wait.

Requests that arrive in the same turn of the event loop are answered together; nothing waits for a timer, so at low
load a request is run alone at once and at high load batches grow by themselves.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from inference.engine import Recommendation, Request
from inference.errors import RequestRefused
from inference.swap import Live

MAX_BATCH = 32
# About a quarter of a second of work on the smallest machine; beyond it an answer comes too late to be wanted.
MAX_WAITING = 512
# What waited longer, because the processor was taken away, is not worth its run.
DEADLINE_S = 0.4
# As far as full batches tell how long it will take, no more is queued than is answered in this time.
MAX_WAIT_S = 0.2
# So long is believed what batches told: the processor may be there again.
PACE_HOLDS_S = 1.0

Answer = tuple[Recommendation, Live]


class Asker(Protocol):
    """Who waits for an answer: one of the two is called, once."""

    def is_gone(self) -> bool:
        """Say whether nobody waits any more."""
        ...

    def answered(self, answer: Recommendation, live: Live) -> None:
        """Take the answer, and the model that gave it; must not raise."""
        ...

    def failed(self, error: Exception) -> None:
        """Take a RequestRefused, or the fault; must not raise."""
        ...


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
        self._waiting: deque[tuple[Request, Asker, float]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._max_waiting = MAX_WAITING
        self._paced_until_s = 0.0
        self._backlog_since_s: float | None = None
        """When the last batch was taken, if it was full and left others waiting."""

    def __len__(self) -> int:
        """Count the requests that wait."""
        return len(self._waiting)

    def require_room(self) -> None:
        """Refuse with 429 when too many wait, before anything is spent on a request."""
        n_waiting = len(self._waiting)
        if n_waiting < MAX_BATCH:
            return
        if n_waiting >= self._max_waiting:
            raise RequestRefused(429, "overloaded", f"{n_waiting} requests wait already; try again in a second")

    def queue(self, request: Request, asker: Asker) -> None:
        """Queue a request; RequestRefused with 429 when too many wait."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self.require_room()
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append((request, asker, self._clock()))

    def submit(self, request: Request) -> "asyncio.Future[Answer]":
        """Queue a request; refused with 429 when too many wait, or when it waited too long."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.queue(request, _Awaited(future))
        return future

    def _take(self) -> list[tuple[Request, Asker]]:
        batch: list[tuple[Request, Asker]] = []
        too_old_s = self._clock() - DEADLINE_S
        while self._waiting and len(batch) < MAX_BATCH:
            request, asker, since_s = self._waiting.popleft()
            if asker.is_gone():
                continue
            if since_s < too_old_s:
                message = f"the request waited longer than {DEADLINE_S} s; try again in a second"
                asker.failed(RequestRefused(429, "deadline_passed", message))
                continue
            batch.append((request, asker))
        return batch

    def _flush(self) -> None:
        batch = self._take()
        self._keep_pace(len(batch))
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
        for (_, asker), answer in zip(batch, answers, strict=True):
            if isinstance(answer, RequestRefused):
                asker.failed(answer)
            else:
                asker.answered(answer, live)

    def _keep_pace(self, n_taken: int) -> None:
        """Bound the queue by how long the batch before took, with all that was done between the two.

        Under a quota most of that time is spent waiting for the processor, which no count of requests could tell.
        """
        now_s = self._clock()
        if self._backlog_since_s is not None:
            wanted = int(MAX_BATCH * MAX_WAIT_S / max(now_s - self._backlog_since_s, 1e-6))
            # Halfway each time, for one batch is not the next.
            self._max_waiting = min(MAX_WAITING, max(MAX_BATCH, (self._max_waiting + wanted) // 2))
            self._paced_until_s = now_s + PACE_HOLDS_S
        elif now_s > self._paced_until_s:
            self._max_waiting = MAX_WAITING
        self._backlog_since_s = now_s if n_taken == MAX_BATCH and self._waiting else None

    def _answer_alone(self, batch: list[tuple[Request, Asker]], fault: Exception) -> None:
        """Keep one request that breaks the graph from failing those beside it."""
        for request, asker in batch:
            try:
                live = self._live()
            except RequestRefused as refusal:
                asker.failed(refusal)
                continue
            try:
                if len(batch) == 1:
                    raise fault
                answer = live.engine.recommend(request)
            except RequestRefused as refusal:
                asker.failed(refusal)
            except Exception as error:
                asker.failed(error)
                self._failed(live)
            else:
                live.tally.n_answered += 1
                asker.answered(answer, live)


class _Awaited:
    """An asker that is a task."""

    __slots__ = ("_future",)

    def __init__(self, future: "asyncio.Future[Answer]") -> None:
        self._future = future

    def is_gone(self) -> bool:
        return self._future.done()  # cancelled

    def answered(self, answer: Recommendation, live: Live) -> None:
        if not self._future.done():
            self._future.set_result((answer, live))

    def failed(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)
