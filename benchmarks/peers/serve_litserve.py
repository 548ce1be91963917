"""LitServe with one worker. Usage: PORT FOLDER "batching"|"not batching"."""

from __future__ import annotations

import sys

import litserve
import numpy as np

from benchmarks.model import trained


class Api(litserve.LitAPI):
    def setup(self, device):  # noqa: ARG002 - named by LitServe
        self.model = trained()[0]

    def decode_request(self, request):
        return np.array(request["inputs"])

    def predict(self, x):
        return self.model.predict(x)

    def encode_response(self, output):
        return {"outputs": output.tolist()}


class BatchingApi(Api):
    def batch(self, inputs):
        return np.concatenate(inputs)

    def unbatch(self, output):
        return [output[row : row + 1] for row in range(len(output))]


if __name__ == "__main__":
    port, mode = int(sys.argv[1]), sys.argv[3]
    api = BatchingApi(max_batch_size=32, batch_timeout=0.001) if mode == "batching" else Api()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="error", generate_client_file=False)
