"""A flavor that needs no package, a linear model in JSON, so that tests are about the registry alone."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import CodeNotAllowedError, LoadFailedError
from crossfade.registry.flavors import backends
from crossfade.registry.flavors.port import Trust

OUTPUTS = (TensorSpec("predict", "FP64", (-1,)),)
FILE = "model.toy"


class Linear(msgspec.Struct, frozen=True):
    weights: tuple[float, ...]
    bias: float = 0.0
    runs_code: bool = False

    def signature(self):
        return columns(*(f"x{i}" for i in range(len(self.weights))))


def columns(*names):
    return Signature(tuple(TensorSpec(name, "FP64", (-1,)) for name in names), OUTPUTS, layout="matrix")


def _matrix(inputs):
    return np.column_stack(list(inputs.values())) if isinstance(inputs, dict) else np.asarray(inputs)


class Loaded:
    inputs: tuple[TensorSpec, ...] = ()
    outputs = OUTPUTS
    classes = ()
    columns = ()
    matrix = True

    def __init__(self, model):
        self.model = model

    def predict(self, inputs, wanted):
        return {"predict": _matrix(inputs) @ np.array(self.model.weights) + self.model.bias}

    def transform(self, inputs):
        return _matrix(inputs) * np.array(self.model.weights) + self.model.bias


class Toy:
    name: ClassVar[str] = "toy"
    extra: ClassVar[str] = "toy"
    packages: ClassVar[tuple[str, ...]] = ()
    trust: ClassVar[Trust] = Trust.DATA

    def recognises(self, model):
        return isinstance(model, Linear)

    def detects(self, path, head):
        return path.endswith(".toy")

    def wrap(self, model):
        return Loaded(model)

    def save(self, model):
        return {FILE: msgspec.json.encode(model)}

    def inspect(self, files, policy):
        if self._parse(files).runs_code and not policy.allow_code:
            raise CodeNotAllowedError(given="this toy")

    def load(self, files, policy, placement=None):
        self.inspect(files, policy)
        return Loaded(self._parse(files))

    def _parse(self, files):
        try:
            return msgspec.json.decode(files[FILE], type=Linear)
        except (KeyError, msgspec.DecodeError) as error:
            raise LoadFailedError(ref="the toy", problem=f"it is no toy: {error}") from error


def install():
    """Add the flavor to the table, once per process."""
    if "toy" not in backends.FLAVORS:
        backends.FLAVORS["toy"] = f"{__name__}:Toy"
        backends._targets.cache_clear()
