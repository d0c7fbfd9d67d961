"""Turn the body of POST /predict into the body of its answer: one customer, or many."""

import asyncio
from dataclasses import asdict
from typing import Any

import orjson

from inference.batching import Batcher
from inference.challenger import Challenger
from inference.errors import INTERNAL, RequestRefused
from inference.fields import invalid
from inference.parsing import Bulk, parse_predict, read_explain
from inference.request import Recommendation, Request
from inference.swap import Live
from inference.telemetry import Metrics, get_logger

# So many of a bulk wait for the graph at once, so that single requests get their turns between them.
BULK_STEP = 32
EXPLAINED_BULK_STEP = 4  # reasons cost some milliseconds each
MAX_EXPLAINED = 32  # a quarter of a second with top_k 100

log = get_logger()


class Predictor:
    """Answers with the champion or, for its share of the customers, with the challenger."""

    def __init__(
        self,
        batcher: Batcher,
        metrics: Metrics,
        challenger: Challenger | None = None,
        challenger_batcher: Batcher | None = None,
    ) -> None:
        self._batcher = batcher
        self._metrics = metrics
        self._challenger = challenger
        self._challenger_batcher = challenger_batcher
        self.is_plain = challenger is None
        """Whether the champion's queue answers all."""

    async def answer(self, body: bytes, query: bytes, request_id: str, facts: dict[str, Any]) -> bytes:
        """Give the answer as JSON; RequestRefused when there is none. `facts` takes what the access log may know."""
        request = parse_predict(body, bool(query) and read_explain(query))
        if type(request) is list:
            document = await self._answer_all(request, request_id)
            facts["n_customers"] = document["count"]
            return orjson.dumps(document)
        assert type(request) is Request
        answer, live = await self._ask(request)
        facts["source"] = answer.source
        return orjson.dumps(answer_document(request, answer, live.manifest.version))

    async def _ask(self, request: Request) -> tuple[Recommendation, Live]:
        batcher, challenger = self._batcher, self._challenger
        if challenger is None:
            answer, live = await batcher.submit(request)
        elif challenger.takes(request) and self._challenger_batcher is not None:
            answer, live = await self._challenger_batcher.submit(request)
        else:
            answer, live = await batcher.submit(request)
            challenger.offer(request, answer)
        self._metrics.recommended(request.customer_id, answer)
        return answer, live

    async def _answer_all(self, entries: Bulk, request_id: str) -> dict[str, Any]:
        """Answer each entry in its place; only what fails them all alike (no model, too much load) fails the whole."""
        answers: list[dict[str, Any]] = []
        refusals: list[RequestRefused] = []
        is_explained = any(type(entry) is Request and entry.explain for entry in entries)
        if is_explained and len(entries) > MAX_EXPLAINED:
            raise invalid(f"customers has {len(entries)} entries, at most {MAX_EXPLAINED} with explain=true")
        step = EXPLAINED_BULK_STEP if is_explained else BULK_STEP
        for start in range(0, len(entries), step):
            some = entries[start : start + step]
            waiting = [self._ask(entry) for entry in some if isinstance(entry, Request)]
            results = iter(await asyncio.gather(*waiting, return_exceptions=True))
            for entry in some:
                result = next(results) if isinstance(entry, Request) else entry
                if isinstance(entry, Request) and isinstance(result, tuple):
                    answers.append(answer_document(entry, result[0], result[1].manifest.version))
                    continue
                if not isinstance(result, RequestRefused):
                    log.error("predict_failed", request_id=request_id, exc_info=result)
                    result = RequestRefused(*INTERNAL)
                refusals.append(result)
                error = {"code": result.code, "message": result.message, "request_id": request_id}
                answers.append({"error": error})
        if len(refusals) == len(entries) and {refusal.status for refusal in refusals} <= {429, 500, 503}:
            raise refusals[0]
        return {"answers": answers, "count": len(answers), "n_errors": len(refusals)}


def answer_document(request: Request, answer: Recommendation, model_version: str) -> dict[str, Any]:
    """Write one answer as api.PredictResponse describes it."""
    document: dict[str, Any] = {
        "customer_id": request.customer_id,
        "recommendations": answer.article_ids,
        "scores": answer.scores,
        "count": len(answer.article_ids),
        "source": answer.source,
        "model_version": model_version,
    }
    if answer.unknown_article_ids:
        document["unknown_article_ids"] = answer.unknown_article_ids
    if request.customer_id is not None and not answer.is_known_customer:
        document["is_known_customer"] = False
    if request.explain:
        document["explanations"] = [asdict(explanation) for explanation in answer.explanations]
    return document
