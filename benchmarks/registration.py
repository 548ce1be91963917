"""Registering a 200 MB model, beside SHA-256 and fsync of the same bytes."""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import crossfade
from benchmarks.harness import Result

MEGABYTES = 200
GOAL_RATIO = 3.0
"""Hash once while writing, hash once what was written, and little else."""


def onnx_model(path: Path) -> None:
    """Write a model that is nearly all weights: y = x @ W."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    side = int((MEGABYTES * 2**20 / 4) ** 0.5)
    weights = np.random.default_rng(7).standard_normal((side, side), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "big",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, side])],
        [numpy_helper.from_array(weights, "w")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def hash_and_fsync(source: Path, target: Path) -> float:
    started = time.perf_counter()
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(2**20):
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    seconds = time.perf_counter() - started
    target.unlink()
    return seconds


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "big.onnx")
        onnx_model(model)
        with crossfade.open_platform(crossfade.Settings(home=Path(folder, "home"))) as platform:
            ours, bare = [], []
            for patch in range(3):
                bare.append(hash_and_fsync(model, Path(folder, "copy")))
                with model.open("r+b") as file:  # other bytes every time, or there would be nothing to store
                    file.seek(model.stat().st_size // 2)
                    file.write(patch.to_bytes(4, "little"))
                started = time.perf_counter()
                platform.registry.register("big", model, version=f"1.0.{patch}")
                ours.append(time.perf_counter() - started)
    yield Result("register_200_mb", statistics.median(ours), "s", statistics.median(bare), GOAL_RATIO)
