"""KServe's Python server, v1 protocol."""

import os

from answers import Answers
from kserve import Model, ModelServer


class Recommender(Model):
    def __init__(self) -> None:
        super().__init__("recommender")
        self.answers = Answers()
        self.ready = True

    def load(self) -> bool:
        return True

    async def predict(self, payload, headers=None, response_headers=None):  # noqa: ARG002
        return {"predictions": self.answers(payload["instances"])}


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    ModelServer(http_port=port, enable_grpc=False, workers=1, access_log_format=None).start([Recommender()])
