"""Eppo: its client, written in Rust, with a configuration that is given; it fetches none and logs only where asked."""

from __future__ import annotations

import json
from typing import Any

import eppo_client
from eppo_client.config import AssignmentLogger, Config

from benchmarks.peers.assign import COUNTRIES, SHARE, report

SHARDS = 10_000


def flag(key: str, *, log: bool = False, layer: bool = False) -> dict[str, Any]:
    shared = [{"salt": "checkout", "ranges": [{"start": 0, "end": round(SHARE * SHARDS)}]}] if layer else []
    within = [{"conditions": [{"attribute": "country", "operator": "ONE_OF", "value": COUNTRIES}]}] if layer else []
    halves = (("control", 0, SHARDS // 2), ("treatment", SHARDS // 2, SHARDS))
    splits = [
        {"variationKey": name, "shards": [*shared, {"salt": key, "ranges": [{"start": start, "end": end}]}]}
        for name, start, end in halves
    ]
    return {
        "key": key,
        "enabled": True,
        "variationType": "STRING",
        "variations": {name: {"key": name, "value": name} for name, *_ in halves},
        "allocations": [{"key": key, "rules": within, "splits": splits, "doLog": log}],
        "totalShards": SHARDS,
    }


FLAGS = {"late": flag("late"), "seg": flag("seg", layer=True), "logged": flag("logged", log=True)}
DOCUMENT = {"createdAt": "2026-01-01T00:00:00Z", "format": "SERVER", "environment": {"name": "x"}, "flags": FLAGS}


class Logger(AssignmentLogger):
    exposures = 0

    def log_assignment(self, event: dict[str, Any]) -> None:  # noqa: ARG002 - named by Eppo
        Logger.exposures += 1


def main() -> None:
    given = eppo_client.Configuration(flags_configuration=json.dumps(DOCUMENT).encode())
    nowhere = "http://127.0.0.1:9"
    config = Config(
        api_key="none",
        base_url=nowhere,
        assignment_logger=Logger(),
        poll_interval_seconds=None,
        initial_configuration=given,
    )
    ask = eppo_client.init(config).get_string_assignment
    report(
        lambda unit, context: ask("late", unit, context, "control"),
        lambda unit, context: ask("seg", unit, context, "control"),
        lambda unit, context: ask("logged", unit, context, "control"),
        lambda: Logger.exposures,
    )


if __name__ == "__main__":
    main()
