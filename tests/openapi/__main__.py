"""`make schemathesis`: some twenty thousand requests that follow the OpenAPI document, or nearly.

`ARGS="--max-examples 50"` makes it shorter, `--seed N` repeats a run; see `schemathesis run --help`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.openapi.campaign import prefilled_server, run

CASES = "400"
"""For each operation; those that take next to nothing need fewer."""


def main(*options: str) -> int:
    """Run the campaign against a server of its own."""
    with tempfile.TemporaryDirectory() as folder, prefilled_server(Path(folder) / "home") as server:
        outcome = run(server, Path(folder), "--max-examples", CASES, "--continue-on-failure", *options)
    print(outcome.report)
    print(json.dumps({"requests": outcome.requests, "passed": outcome.passed}))
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
