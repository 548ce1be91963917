"""Who gets which variant, by Crossfade and by the clients of experimentation platforms, each in its own environment.

Each is asked the same questions (`benchmarks.peers.assign`), in turns, in processes of their own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import rounded
from benchmarks.peers.environments import ROOT, python_of, version_of

CASES = ("one", "segment", "exposed")


@dataclass(frozen=True)
class Client:
    """A library. `module` is run as `python -m benchmarks.peers.MODULE`; see `Contender` for the rest."""

    name: str
    module: str
    package: str
    peer: str = ""


CLIENTS = [
    Client("Crossfade", "assign_crossfade", "crossfade"),
    Client("GrowthBook", "assign_growthbook", "growthbook", "growthbook"),
    Client("Eppo", "assign_eppo", "eppo-server-sdk", "eppo"),
]
HEAD = """| library | one experiment, us | in a layer and a segment, us | one, and its exposure, us |
|---|---|---|---|"""


@dataclass(frozen=True)
class Line:
    """What was measured of a library, medians of its rounds; `reason` is why there is nothing.

    `times` says how much longer it took than Crossfade.
    """

    library: str
    microseconds: dict[str, float | None] = field(default_factory=dict)
    times: dict[str, float | None] = field(default_factory=dict)
    reason: str = ""

    def cells(self) -> str:
        if self.reason:
            return f"| {self.library} | not measured: {self.reason} | | |"
        shown = [f"{self.microseconds[case]:.2f} ({self.times[case]:.1f} x)" for case in CASES]
        return "| " + " | ".join([self.library, *shown]) + " |"


def measured(client: Client, python: Path) -> dict[str, float]:
    """Ask a library once; microseconds for each case.

    Raises:
        RuntimeError: It does not assign as it should, or does not run.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    command = [python, "-m", f"benchmarks.peers.{client.module}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return json.loads(done.stdout)


def compare(clients: list[tuple[Client, Path | str]], rounds: int) -> Iterator[Line]:
    """Measure libraries in turns; each with the Python of its environment, or the reason why there is none."""
    found: dict[str, list[dict[str, float]]] = {client.name: [] for client, _ in clients}
    reasons = {client.name: python for client, python in clients if isinstance(python, str)}
    for _ in range(rounds):
        for client, python in clients:
            if client.name in reasons or isinstance(python, str):
                continue
            try:
                found[client.name].append(measured(client, python))
            except RuntimeError as error:
                reasons[client.name] = str(error)
    medians = {
        name: {case: statistics.median(each[case] for each in rounds_) for case in CASES}
        for name, rounds_ in found.items()
        if name not in reasons
    }
    ours = medians.get(clients[0][0].name)
    for client, python in clients:
        if client.name in reasons:
            yield Line(client.name, reason=reasons[client.name].replace("|", "/"))
            continue
        title = f"{client.name} {version_of(client.package, Path(python))}"
        values = medians[client.name]
        times = {case: rounded(values[case] / ours[case]) if ours else None for case in CASES}
        yield Line(title, {case: rounded(values[case]) for case in CASES}, times)


def prepared(client: Client) -> tuple[Client, Path | str]:
    """A library with the Python of its environment, or with the reason why it has none."""
    try:
        return client, python_of(client.peer)
    except RuntimeError as error:
        return client, str(error)
