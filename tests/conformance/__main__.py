"""`make conformance`: serve a scikit-learn model and let other people's Open Inference Protocol clients drive it.

The script that drives it stands beside the project, in `../shared/tools`; its clients have an environment of their own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import free_port, server
from benchmarks.predict import register_logistic_regression

SCRIPT = Path(__file__).parents[3] / "shared" / "tools" / "conformance.py"


def main(python: str, *arguments: str) -> int:
    if not SCRIPT.exists():
        print("../shared/tools/conformance.py is not there: nothing was checked", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        register_logistic_regression(Path(folder, "home"))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = ["-m", "crossfade", "serve", "--port", str(port)]
        with server(command, f"{url}/readyz", env={"CROSSFADE_HOME": str(Path(folder, "home"))}):
            return subprocess.run([python, str(SCRIPT), url, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
