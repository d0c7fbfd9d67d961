"""An MLServer runtime with its adaptive batching, requests as JSON strings of the v2 protocol."""

import json

from answers import Answers
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Recommender(MLModel):
    async def load(self) -> bool:
        self.answers = Answers()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        documents = [json.loads(text) for text in StringCodec.decode_input(payload.inputs[0])]
        output = StringCodec.encode_output("answers", [json.dumps(answer) for answer in self.answers(documents)])
        return InferenceResponse(model_name=self.name, outputs=[output])
