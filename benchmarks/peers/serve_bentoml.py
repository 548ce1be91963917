"""BentoML with one worker, without access log. Usage: PORT FOLDER "batching"|"not batching"."""

from __future__ import annotations

import os
import sys

import bentoml
import numpy as np

from benchmarks.model import trained

MODE = os.environ.get("PEER_MODE", "")


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, traffic={"timeout": 60, "max_concurrency": 1000})
class LogisticRegression:
    def __init__(self):
        self.model = trained()[0]

    @bentoml.api(batchable=MODE == "batching", max_batch_size=32, max_latency_ms=1000)
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        return self.model.predict(inputs)


if __name__ == "__main__":
    port, folder, mode = sys.argv[1:]
    target = "benchmarks.peers.serve_bentoml:LogisticRegression"
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", port]
    os.execve(sys.executable, command, os.environ | {"PEER_MODE": mode, "BENTOML_HOME": folder})
