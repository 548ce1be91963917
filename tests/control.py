"""What tests of the control plane share: a tiny model, a local client, a real server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crossfade.client import Client
from crossfade.platform import Platform, open_platform
from crossfade.registry.packaging import Draft, pack
from crossfade.registry.versions import Card, Version
from crossfade.settings import Settings
from crossfade.web.app import create_app
from crossfade.web.inprocess import InProcessTransport

READY = re.compile(r"crossfade is ready at (http://\S+)")
START_SECONDS = 90.0


def write_onnx(path: Path, factor: float) -> Path:
    """Write a model that answers `factor` times the sum of two numbers, under any of its inputs' names."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.full((2, 1), factor, np.float32), "w")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def tiny_draft(path: Path, factor: float, **card: object) -> Draft:
    """Pack a tiny model with an evaluation of its own."""
    return pack(
        write_onnx(path, factor), example=[[1.0, 2.0], [3.0, 4.0]], card=Card(evaluation={"factor": factor}, **card)
    )


def register(client: Client, folder: Path, *versions: str, name: str = "tiny") -> list[Version]:
    """Register versions whose factor is their position, from 1."""
    return [
        client.register_draft(name, tiny_draft(folder / f"model{factor}.onnx", float(factor)), version=version)
        for factor, version in enumerate(versions, start=1)
    ]


def registered_home(folder: Path, *versions: str) -> Path:
    """Return the home of a registry whose model `tiny` has these versions, the first of them champion."""
    with open_platform(Settings(home=folder / "home")) as platform, local_client(platform) as client:
        register(client, folder, *versions)
        client.move_alias("tiny", "champion", versions[0])
    return folder / "home"


def local_client(platform: Platform) -> Client:
    """Return a client of the application in this process."""
    return Client("http://localhost", transport=InProcessTransport(create_app(platform)), principal="tester")


@dataclass
class RunningServer:
    """A `crossfade serve` in a process of its own."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


def environment(home: Path, **settings: str) -> dict[str, str]:
    """Return an environment with these settings only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
    ours = {"CROSSFADE_HOME": str(home), "CROSSFADE_CONFIG": os.devnull, "CROSSFADE_SERVING__DRAIN_SECONDS": "0"}
    return kept | ours | settings


@contextmanager
def running_server(home: Path, *options: str, **settings: str) -> Iterator[RunningServer]:
    """Run a server on a free port until the block ends; it is ready when the block begins."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    output = home / "server.out"
    with log.open("w") as errors, output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "crossfade", "serve", "--port", "0", *options],
            env=environment(home, **settings),
            stdout=out,
            stderr=errors,
            text=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while (found := READY.search(output.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"the server did not become ready: {log.read_text()}"
            time.sleep(0.05)
        yield RunningServer(found[1], process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
