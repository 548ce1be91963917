"""MLServer with its own scikit-learn runtime, in one process. Usage: PORT FOLDER "batching"|"not batching"."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import joblib

from benchmarks.harness import free_port
from benchmarks.model import trained


def main(port: int, folder: Path, mode: str) -> None:
    joblib.dump(trained()[0], folder / "model.joblib")
    batches = {"max_batch_size": 32, "max_batch_time": 0.001} if mode == "batching" else {}
    model = {
        "name": "lr",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(folder / "model.joblib"), "version": "1"},
    }
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False} | ports
    (folder / "model-settings.json").write_text(json.dumps(model | batches))
    (folder / "settings.json").write_text(json.dumps(settings))
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(folder)])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
