"""Ray Serve with one replica on a Ray of its own, without dashboard. Usage: PORT FOLDER "batching"|"not batching"."""

from __future__ import annotations

import signal
import sys

import numpy as np
import ray
from ray import serve

from benchmarks.model import trained


@serve.deployment(num_replicas=1, max_ongoing_requests=1000)
class Plain:
    def __init__(self):
        self.model = trained()[0]

    async def __call__(self, request):
        x = np.array((await request.json())["inputs"])
        return {"outputs": self.model.predict(x).tolist()}


@serve.deployment(num_replicas=1, max_ongoing_requests=1000)
class Batching:
    def __init__(self):
        self.model = trained()[0]

    async def __call__(self, request):
        return {"outputs": [await self.predict((await request.json())["inputs"][0])]}

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001)
    async def predict(self, rows):
        return self.model.predict(np.array(rows)).tolist()


if __name__ == "__main__":
    port, folder, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    ray.init(include_dashboard=False, object_store_memory=100 * 2**20, _temp_dir=folder, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
    serve.run((Batching if mode == "batching" else Plain).bind(), route_prefix="/")
    while True:  # Ray ends its own processes when this one is told to end
        signal.pause()
