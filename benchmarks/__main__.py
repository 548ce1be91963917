"""Run all benchmarks, or those named as arguments."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = {
    "predict": "benchmarks.predict",
    "predict_cached": "benchmarks.predict_cached",
    "latency": "benchmarks.latency",
    "binary": "benchmarks.binary",
    "workers": "benchmarks.workers",
    "process": "benchmarks.process",
    "hot_swap": "benchmarks.hot_swap",
    "deployments": "benchmarks.deployments",
    "registration": "benchmarks.registration",
    "switch": "benchmarks.switch",
    "listing": "benchmarks.listing",
    "startup": "benchmarks.startup",
    "assignment": "benchmarks.assignment",
    "bandits": "benchmarks.bandits",
    "experiments": "benchmarks.experiments",
    "safety": "benchmarks.safety",
    "analysis": "benchmarks.analysis",
    "outcomes": "benchmarks.outcomes",
    "configs": "benchmarks.configs",
}
"""name -> module with a `run()` that yields results."""


def main(names: list[str]) -> int:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        for result in import_module(BENCHMARKS[name]).run():
            print(result.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
