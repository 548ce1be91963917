"""CPU per prediction over one picture of 150,528 numbers as a binary tensor, beside the same numbers as JSON."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import crossfade
from benchmarks.harness import Result, cpu_seconds, crossfade_server
from benchmarks.load import http_request, run_load

SHAPE = (3, 224, 224)
CONNECTIONS = 4
ROUNDS = 3
SECONDS = 3.0
GOAL_MILLISECONDS = 1.5
GOAL_RATIO = 1 / 15


def mean_of_pictures(path: Path) -> None:
    """Write a model that has next to nothing to do: the mean of every channel."""
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, SHAPE[0]])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def requests(port: int, picture: np.ndarray) -> dict[str, bytes]:
    """The same question both ways."""
    path = "/v2/models/mean/infer"
    tensor = {"name": "x", "shape": [1, *SHAPE], "datatype": "FP32"}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": picture.nbytes}}]}).encode()
    as_json = json.dumps({"inputs": [tensor | {"data": picture.ravel().tolist()}]}).encode()
    length = f"Inference-Header-Content-Length: {len(head)}\r\n"
    return {
        "binary": http_request(port, path, head + picture.tobytes(), length),
        "json": http_request(port, path, as_json),
    }


def milliseconds(port: int, pid: int, request: bytes) -> float:
    before = cpu_seconds(pid)
    load = run_load(port, request, connections=CONNECTIONS, seconds=SECONDS)
    if load.errors:
        raise RuntimeError(f"{load.errors} of {load.requests} requests failed")
    return (cpu_seconds(pid) - before) / load.requests * 1e3


def run() -> Iterator[Result]:
    picture = np.random.default_rng(7).standard_normal(SHAPE, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        mean_of_pictures(Path(folder, "mean.onnx"))
        home = Path(folder, "home")
        with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
            version = platform.registry.register("mean", Path(folder, "mean.onnx"))
            platform.switch.move("mean", "champion", version.version, reason="benchmark")
        with crossfade_server(home) as (port, pid):
            turns = [
                [milliseconds(port, pid, request) for request in requests(port, picture).values()]
                for _ in range(ROUNDS)
            ]
    binary, as_json = (statistics.median(times) for times in zip(*turns, strict=True))
    yield Result("binary_tensor_cpu", binary, "ms", goal=GOAL_MILLISECONDS)
    yield Result("binary_tensor_cpu_beside_json", binary, "ms", as_json, GOAL_RATIO)
