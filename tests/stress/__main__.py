"""`make stress`: 200 hot swaps under load, 20 of them to broken or slow versions; fails when a promise was broken."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import crossfade
from benchmarks.harness import free_port, server
from tests.stress.swaps import campaign, register, settings


def main(swaps: int = 200, broken: int = 20, rate: float = 200.0, workers: int = 1) -> int:
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder, "home"), free_port()
        env = {"CROSSFADE_HOME": str(home), "CROSSFADE_REGISTRY__ALLOW_CODE_MODELS": "true"}
        with crossfade.open_platform(settings(home)) as platform:
            register(platform, 0)
            platform.switch.move("m", "champion", "1.0.0", reason="start")
            command = ["-m", "crossfade", "serve", "--port", str(port), "--workers", str(workers)]
            url = f"http://127.0.0.1:{port}"
            with server(command, f"{url}/readyz", env=env):
                outcome = campaign(platform, url, swaps=swaps, broken=broken, rate=rate)
    print(json.dumps(asdict(outcome) | {"moved": len(outcome.moved), "refused": len(outcome.refused)}))
    return bool(outcome.violations)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
