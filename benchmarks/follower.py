"""A process that follows snapshots, and says at the end when each was there: `python -m benchmarks.follower HOME URL`.

It says `ready` when it follows, and ends with its input.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import crossfade
from crossfade.settings import StorageSettings
from crossfade.traffic.follower import SnapshotFollower
from crossfade.traffic.snapshot import Snapshot


def follow(home: Path, url: str) -> dict[int, float]:
    """Follow until nobody listens; returns revision -> when it was there, by `time.perf_counter`."""
    seen: dict[int, float] = {}

    def note(snapshot: Snapshot) -> None:
        seen[snapshot.revision] = time.perf_counter()

    settings = crossfade.Settings(home=home, storage=StorageSettings(database_url=url))
    with crossfade.open_platform(settings) as platform:
        follower = SnapshotFollower(platform.registry.backend, platform.database, settings.serving)
        follower.subscribe(note)
        follower.start()
        print("ready", flush=True)
        sys.stdin.read()
        follower.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(follow(Path(sys.argv[1]), sys.argv[2])))
