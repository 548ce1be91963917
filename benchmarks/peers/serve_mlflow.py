"""MLflow's scoring server with one worker. Usage: PORT FOLDER."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import mlflow.sklearn

from benchmarks.model import trained


def main(port: str, folder: Path) -> None:
    mlflow.sklearn.save_model(trained()[0], folder / "model")
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder / "model")]
    command += ["--host", "127.0.0.1", "--port", port, "--workers", "1", "--env-manager", "local"]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
