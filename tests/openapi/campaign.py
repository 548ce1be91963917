"""Schemathesis against a real server that has something to say: models, versions, aliases, a job, experiments."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from crossfade.client import Client
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger.metrics import MetricSpec
from crossfade.traffic.allocation.specs import LayerSpec
from tests import control

CONFIG = Path(__file__).with_name("schemathesis.toml")
JOB = "finished-job"
SECONDS = 60.0


class Outcome(NamedTuple):
    """What came of a campaign: how many requests were sent, and what Schemathesis says when something is wrong."""

    requests: int
    passed: bool
    report: str


@contextmanager
def prefilled_server(home: Path) -> Iterator[control.RunningServer]:
    """Run a server whose model `tiny` has a champion, a challenger, an experiment and a job; `spare` may be wrecked."""
    with control.running_server(home, CROSSFADE_JOBS__POLL_SECONDS="0.05") as server, Client(server.url) as client:
        control.register(client, home, "1.0.0", "1.0.1")
        control.register(client, home, "1.0.0", "1.0.1", name="spare")
        for name in ("tiny", "spare"):
            client.move_alias(name, "champion", "1.0.1")
            client.move_alias(name, "champion", "1.0.0")
        client.move_alias("tiny", "challenger", "1.0.1")
        client.create_layer(LayerSpec("web", unit="session"))
        for name, model in (("late", "tiny"), ("button", "")):
            both = (Variant("old", 0.5, model and "1.0.0"), Variant("new", 0.5, model and "1.0.1"))
            client.create_experiment(ExperimentSpec(name, both, model=model, metrics=(MetricSpec("paid"),)))
            client.start_experiment(name)
        rows = home / "rows.jsonl"
        rows.write_text('{"x": [1, 2]}\n' * 3)
        client.submit_job("tiny", rows, id=JOB)
        deadline = time.monotonic() + SECONDS
        while not client.job(JOB).finished:
            assert time.monotonic() < deadline, "the job never ended"
            time.sleep(0.05)
        yield server


def run(server: control.RunningServer, folder: Path, *options: str) -> Outcome:
    """Run Schemathesis with these options of its command line."""
    cases = folder / "cases.ndjson"
    command = [
        *(
            sys.executable,
            "-c",
            "from schemathesis.cli import schemathesis; schemathesis()",
            "--config-file",
            str(CONFIG),
            "run",
        ),
        *(f"{server.url}/openapi.json", "--report", "ndjson", "--report-ndjson-path", str(cases), "--no-color"),
    ]
    env = os.environ | {"SCHEMATHESIS_HOOKS": "tests.openapi.hooks", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, cwd=folder, env=env)
    log = server.log.read_text()
    faults = [line for line in log.splitlines() if '"bug"' in line or line.startswith("Traceback")]
    report = done.stdout[-20_000:] + done.stderr[-2_000:] + "\n".join(faults[:10])
    return Outcome(_requests(done.stdout), done.returncode == 0 and not faults, report)


def _requests(report: str) -> int:
    found = re.search(r"(\d+) generated", report)
    return int(found[1]) if found else 0
