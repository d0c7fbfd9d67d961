"""A BentoML service: `bentoml serve serve_bentoml:Recommender`."""

import bentoml
from answers import Answers


@bentoml.service(workers=1, traffic={"timeout": 30, "max_concurrency": 1000}, logging={"access": {"enabled": False}})
class Recommender:
    def __init__(self) -> None:
        self.answers = Answers()

    @bentoml.api
    async def predict(
        self, customer_id: str | None = None, article_ids: list[str] | None = None, top_k: int = 12
    ) -> dict:
        return self.answers([{"customer_id": customer_id, "article_ids": article_ids, "top_k": top_k}])[0]
