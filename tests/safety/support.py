"""Signatures, answers and policies that tests of safety share."""

from __future__ import annotations

import numpy as np

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.safety.checks import Bench, compile_check
from crossfade.safety.inspection import Inspector

WIDE = Signature(
    (
        TensorSpec("x", "FP64", (-1,), missing=True),
        TensorSpec("host", "BYTES", (-1,)),
        TensorSpec("dep delay", "FP32", (-1,)),
        TensorSpec("grid", "FP64", (-1, 3)),
        TensorSpec("urgent", "BOOL", (-1,)),
    ),
    (
        TensorSpec("predict", "FP64", (-1,)),
        TensorSpec("label", "BYTES", (-1,)),
        TensorSpec("predict_proba", "FP64", (-1, 2)),
        TensorSpec("count", "INT64", (-1,)),
        TensorSpec("approved", "BOOL", (-1,)),
        TensorSpec("raw", "BYTES", (-1,), text=False),
        TensorSpec("free", "FP64", (-1, -1)),
    ),
)
"""A version with an output of every kind."""


class Seconds:
    """A monotonic clock that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def rows_of(size, /, **columns):
    """Return (inputs, outputs) of `size` rows; columns that are not given have plain values."""
    inputs = {
        "x": np.ones(size),
        "host": np.array(["a"] * size, dtype=object),
        "dep delay": np.zeros(size, dtype=np.float32),
        "grid": np.zeros((size, 3)),
        "urgent": np.zeros(size, dtype=bool),
    }
    outputs = {
        "predict": np.ones(size),
        "label": np.array(["low"] * size, dtype=object),
        "predict_proba": np.tile([0.25, 0.75], (size, 1)),
        "count": np.ones(size, dtype=np.int64),
        "approved": np.zeros(size, dtype=bool),
        "raw": np.array([b""] * size, dtype=object),
        "free": np.zeros((size, 4)),
    }
    for name, values in columns.items():
        side = inputs if name in inputs else outputs
        side[name] = np.array(values, dtype=side[name].dtype)
    return inputs, outputs


def inspector(*checks, signature=WIDE, **bench):
    """Return what asks these checks of a version."""
    given = {"memories": {}} | bench
    return Inspector([compile_check(check, Bench(signature, **given)) for check in checks])


def judged(check, inputs, outputs, unit="", **bench):
    """Return whether each row is violated: asked together, and one after another; they have to agree."""
    compiled = compile_check(check, Bench(WIDE, **({"memories": {}} | bench)))
    assert not compiled.problem, compiled.problem
    count = len(outputs["predict"])
    many = np.broadcast_to(np.asarray(compiled.judge.many(inputs, outputs, unit)), (count,)).tolist()
    if compiled.judge.remembers:
        return many
    ones = [
        bool(
            compiled.judge.one(
                {name: value[row : row + 1] for name, value in inputs.items()},
                {name: value[row : row + 1] for name, value in outputs.items()},
                unit,
            )
        )
        for row in range(count)
    ]
    assert ones == many
    return ones
