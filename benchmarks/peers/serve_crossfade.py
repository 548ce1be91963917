"""Crossfade as it comes, with one worker. Usage: PORT FOLDER."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.predict import register_logistic_regression


def main(port: str, home: Path) -> None:
    register_logistic_regression(home)
    command = [sys.executable, "-m", "crossfade", "serve", "--port", port]
    os.execve(sys.executable, command, os.environ | {"CROSSFADE_HOME": str(home)})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
