"""`make calibrate`: error rates, coverage and power by simulation, 2,500 experiments each; fails when a promise broke.

`ARGS="--experiments 500"` takes fewer, `ARGS="mean"` only what has this in its name. `ARGS="pipeline"` is the whole way
from units to reports, for an hour of one processor; `ARGS="rollouts"` is the whole way from reports of processes to
rollbacks, for another one; everything else takes minutes. `ARGS="thresholds"` prints a table: rollouts beside a loop
that holds the same traffic against fixed limits.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial

from tests.calibration import checks, pipeline, policies, rollouts
from tests.calibration.streams import KINDS


def campaign(experiments: int) -> dict[str, Callable[[], Iterable[checks.Figure]]]:
    """Everything that is measured."""
    found = {f"{name} A/A": partial(checks.false_positives, name, experiments) for name in KINDS}
    found |= {f"{name} A/B": partial(checks.coverage_and_power, name, experiments) for name in KINDS}
    found["many metrics"] = partial(checks.many_metrics, experiments)
    found["sample ratio"] = partial(checks.sample_ratio, 2 * experiments)
    found |= {
        f"canary healthy {rate}": partial(checks.healthy_canary, rate, experiments) for rate in (0.001, 0.01, 0.1)
    }
    sick = {10: 6, 3: 17, 2: 40, 1.5: 115}
    found |= {f"pipeline {name}": partial(pipeline.pipeline, name, experiments) for name in pipeline.METRICS}
    found |= {f"pipeline {name}": partial(pipeline.unequal, name, experiments // 2) for name in pipeline.RARE}
    found |= {
        "pipeline ramp": partial(pipeline.ramp, experiments),
        "pipeline guardrail": partial(pipeline.guardrail, experiments // 2),
        "pipeline sample ratio": partial(pipeline.arrivals_as_they_should, 2 * experiments),
    }
    found |= {f"canary x{by}": partial(checks.sick_canary, by, most, experiments // 10) for by, most in sick.items()}
    found |= {f"rollouts {name}": partial(rollouts.healthy, name, experiments) for name in rollouts.HEALTHY}
    found |= {f"rollouts {name}": partial(rollouts.sick, name, experiments // 10) for name in rollouts.SICK}
    found |= {
        f"rollouts shares {name}": partial(rollouts.shares, name, experiments // 25, (0.25, 0.1, 0.05))
        for name in ("x3", "25 % slower", "unsafe x10")
    }
    found["regret without context"] = partial(
        policies.regret, policies.bernoulli_regret, policies.CONTEXT_FREE, max(experiments // 100, 2), 100_000
    )
    found["regret with context"] = partial(
        policies.regret, policies.linear_regret, policies.LINEAR, max(experiments // 100, 2), 10_000
    )
    found["off-policy"] = partial(policies.coverage, experiments // 2)
    return found


def main() -> int:
    """Print one JSON line for each figure; return the exit status."""
    parser = argparse.ArgumentParser(prog="make calibrate")
    parser.add_argument("only", nargs="?", default="")
    parser.add_argument("--experiments", type=int, default=2500)
    options = parser.parse_args()
    broken = 0
    if "thresholds".startswith(options.only or "?"):
        for row in rollouts.beside_thresholds(options.experiments // 25):
            print(row, flush=True)
    for name, run in campaign(options.experiments).items():
        if options.only not in name:
            continue
        started = time.process_time()
        for figure in run():
            broken += not figure.kept
            limits = [round(figure.low, 5), round(figure.high, 5)]
            line = {"figure": figure.name, "value": round(figure.value, 5), "limits": limits, "kept": figure.kept}
            print(json.dumps(line), flush=True)
        print(f"{name}: {time.process_time() - started:.1f} s of CPU", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
