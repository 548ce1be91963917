"""ONNX through onnxruntime. Inputs and outputs are the file's own; a file is complete, it never refers to others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from crossfade.core.processors import thread_bound
from crossfade.core.tensors import Array, Label, Tensors, TensorSpec
from crossfade.errors import LoadFailedError
from crossfade.registry.flavors.answers import in_words, only_file, require, tidy
from crossfade.registry.flavors.port import Runnable, Trust, TrustPolicy
from crossfade.registry.placement import ANYWHERE, ON_CPU, Placement

MAX_THREADS = 4
"""Threads of one model that declares none, at most. They sleep rather than spin between predictions."""
_CPU, _GPU = "CPUExecutionProvider", "CUDAExecutionProvider"

_NOWHERE = os.devnull + "/none"
"""A folder that cannot exist: onnxruntime would otherwise read external weights from the working directory."""

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class Onnx:
    """ONNX files and `onnx.ModelProto`."""

    name: ClassVar[str] = "onnx"
    extra: ClassVar[str] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    trust: ClassVar[Trust] = Trust.DATA

    def recognises(self, model: object) -> bool:
        """Tell whether it is an `onnx.ModelProto`."""
        kind = type(model)
        return kind.__name__ == "ModelProto" and kind.__module__.partition(".")[0] == "onnx"

    def detects(self, path: str, head: bytes) -> bool:
        """Tell by the suffix; the format has no signature."""
        return path.endswith(".onnx") and bool(head)

    def wrap(self, model: object) -> Runnable:
        """Run the protobuf in memory."""
        return self.load(self.save(model), TrustPolicy(), ON_CPU)

    def save(self, model: object) -> dict[str, bytes]:
        """Return the serialised protobuf."""
        proto: Any = model
        return {"model.onnx": proto.SerializeToString(deterministic=True)}

    def inspect(self, files: Mapping[str, bytes], policy: TrustPolicy) -> None:  # noqa: ARG002 - nothing to trust in data
        """Check that there is one file. Whether it is ONNX shows when it is loaded, which runs no code of it.

        Raises:
            LoadFailedError: It is empty, or there are several.
        """
        if not only_file(files, self.name):
            raise LoadFailedError(ref=self.name, problem="the file is empty")

    def load(self, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ANYWHERE) -> Runnable:
        """Open a session.

        Raises:
            LoadFailedError: It is no ONNX model, refers to other files, has a fixed batch size, or wants a GPU.
            MissingExtraError: onnxruntime is not installed.
        """
        self.inspect(files, policy)
        runtime = require("onnxruntime", extra=self.extra, feature="flavor `onnx`")
        gpu = placement.on_gpu(lambda: _GPU in runtime.get_available_providers(), self.name)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = placement.threads or min(MAX_THREADS, thread_bound())
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
        try:
            data = only_file(files, self.name)
            session = runtime.InferenceSession(data, options, providers=[_GPU, _CPU] if gpu else [_CPU])
            placement.on_gpu(lambda: _GPU in session.get_providers(), self.name)  # onnxruntime gives up on it silently
            return Session(session)
        except _refusals(runtime) as error:
            raise LoadFailedError(ref=self.name, problem=f"onnxruntime refuses it ({in_words(error)})") from error


class Session:
    """An open session. Its outputs keep the names that the file gives them."""

    classes: tuple[Label, ...] = ()
    columns: tuple[str, ...] = ()
    matrix = False

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs: tuple[TensorSpec, ...] = tuple(_input(item) for item in session.get_inputs())
        self.outputs: tuple[TensorSpec, ...] = tuple(_output(item) for item in session.get_outputs())

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Compute the wanted outputs only. A bare array, as a preprocessor gives it, is the single input."""
        feed = inputs if isinstance(inputs, dict) else {self.inputs[0].name: _as_input(inputs, self.inputs[0])}
        names = [spec.name for spec in self.outputs if spec.name in wanted]
        return {name: _answer(value) for name, value in zip(names, self._session.run(names, feed), strict=True)}


def _as_input(value: object, spec: TensorSpec) -> Array:
    from crossfade.core.tensors import DTYPES

    return tidy(value).astype(DTYPES[spec.datatype], copy=False)


def _answer(value: Any) -> Array:
    """Return an output as an array; a list of dicts (class -> probability) becomes one row per dict."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([list(row.values()) for row in value], dtype=np.float32)
    return tidy(value)


def _input(item: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in item.shape)
    if item.type not in _DATATYPES or not shape or shape[0] != -1:
        problem = f"input `{item.name}` is {item.type} {list(item.shape)}; export it with a variable batch size"
        raise ValueError(problem)
    return TensorSpec(item.name, _DATATYPES[item.type], shape, missing=item.type in {"tensor(float)", "tensor(double)"})


def _output(item: Any) -> TensorSpec:
    if item.type.startswith("seq(map("):
        return TensorSpec(item.name, "FP32", (-1, -1))
    if item.type not in _DATATYPES:
        raise ValueError(f"output `{item.name}` is {item.type}, which is no tensor")
    shape = tuple(size if isinstance(size, int) else -1 for size in item.shape)
    return TensorSpec(item.name, _DATATYPES[item.type], (-1, *shape[1:]))


def _refusals(runtime: Any) -> tuple[type[Exception], ...]:
    state = runtime.capi.onnxruntime_pybind11_state
    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NotImplemented",
        "RuntimeException",
    )
    return (ValueError, *(getattr(state, name) for name in names))
