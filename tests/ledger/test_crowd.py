"""Processes that fold at once lose nothing: neither updates of the same units nor outcomes that wait for each other."""

import json
import subprocess
import sys
from pathlib import Path

from crossfade.ledger.metrics import MetricSpec
from tests.ledger.crowd import events
from tests.ledger.support import Ledger, compare, expect, measures

METRICS = (MetricSpec("delay", covariate="delay"), MetricSpec("latency_seconds", window_seconds=25.0))


def test_processes_that_fold_at_once_lose_nothing(database, database_url):
    ledger = Ledger(database)
    ledger.declare(*METRICS)
    command = [sys.executable, "-m", "tests.ledger.crowd", database_url, "3"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=110)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    compare(ledger.evidence(), expect(measures(*METRICS), *events()))
    assert ledger.evidence().orphans == 0
