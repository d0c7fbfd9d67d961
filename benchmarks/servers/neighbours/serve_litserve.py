"""LitServe with its batching."""

import os

import litserve as ls
from answers import Answers


class Recommender(ls.LitAPI):
    def setup(self, device):  # noqa: ARG002
        self.answers = Answers()

    def decode_request(self, request):
        return request

    def batch(self, inputs):
        return inputs

    def predict(self, documents):
        return self.answers(documents)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    api = Recommender(max_batch_size=32, batch_timeout=0.001)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=30)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
