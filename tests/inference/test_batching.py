import asyncio
import datetime as dt
from pathlib import Path

import pytest

from inference.batching import MAX_BATCH, MAX_WAITING, Batcher
from inference.bundle import load_bundle
from inference.engine import Engine, Request
from inference.errors import RequestRefused
from inference.swap import Live
from tests.inference.tiny_bundle import customer_id


@pytest.fixture(scope="module")
def live(tiny_bundle: Path) -> Live:
    bundle = load_bundle(tiny_bundle)
    return Live(Engine(bundle), bundle.manifest, "v1", dt.datetime(2020, 9, 23, tzinfo=dt.UTC))


def test_requests_of_one_turn_share_runs_of_at_most_the_batch_size(live: Live) -> None:
    sizes: list[float] = []

    async def ask() -> list[int]:
        batcher = Batcher(lambda: live, sizes.append)
        waiting = [batcher.submit(Request(customer_id(1), top_k=1 + n)) for n in range(MAX_BATCH + 8)]
        return [len((await future)[0].article_ids) for future in waiting]

    assert asyncio.run(ask()) == [1 + n for n in range(MAX_BATCH)] + [MAX_BATCH + 1 + n for n in range(8)]
    assert sizes == [MAX_BATCH, 8]


def test_one_request_too_many_is_refused_at_once_and_the_queue_recovers(live: Live) -> None:
    async def ask() -> int:
        batcher = Batcher(lambda: live, lambda _: None)
        waiting = [batcher.submit(Request(top_k=1)) for _ in range(MAX_WAITING)]
        with pytest.raises(RequestRefused, match="512 requests wait already") as refused:
            batcher.submit(Request())
        assert refused.value.status == 429
        await asyncio.gather(*waiting)
        return len((await batcher.submit(Request()))[0].article_ids)

    assert asyncio.run(ask()) == 12


def test_a_request_that_breaks_the_engine_fails_alone(live: Live) -> None:
    async def ask() -> list[object]:
        batcher = Batcher(lambda: live, lambda _: None)
        broken = Request(article_ids=None)  # type: ignore[arg-type]
        waiting = [batcher.submit(request) for request in (Request(top_k=2), broken, Request(top_k=3))]
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    first, second, third = asyncio.run(ask())
    assert isinstance(second, TypeError)
    assert [len(answer[0].article_ids) for answer in (first, third)] == [2, 3]


def test_waiting_requests_learn_that_there_is_no_model() -> None:
    def none() -> Live:
        raise RequestRefused(503, "no_model", "no model is loaded")

    async def ask() -> None:
        batcher = Batcher(none, lambda _: None)
        waiting = [batcher.submit(Request()) for _ in range(2)]
        for answer in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(answer, RequestRefused)

    asyncio.run(ask())
