"""Models that only their own code can load: `crossfade.Model` subclasses, and pickles of anything that predicts.

Whoever publishes such a file can run any code in every process that loads it, so the server's policy must allow it.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

from crossfade.core.tensors import Label, Tensors, TensorSpec
from crossfade.errors import CodeNotAllowedError, LoadFailedError
from crossfade.registry.flavors.answers import LABELS, Estimator, in_words, only_file, require, tidy
from crossfade.registry.flavors.port import Runnable, Trust, TrustPolicy
from crossfade.registry.model import Model
from crossfade.registry.placement import ANYWHERE, Placement

_SUFFIXES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle")
_PICKLE = b"\x80"
_PROTOCOLS = range(2, 6)
_NEVER_BY_VALUE = {"crossfade", "__main__"} | sys.stdlib_module_names  # cloudpickle takes `__main__` by value anyway
_REGISTERING = threading.Lock()
"""cloudpickle keeps the modules to take by value in one place per process."""


class Code:
    """Pickled models. cloudpickle saves them with the code of their own module, so that it need not be installed."""

    name: ClassVar[str] = "code"
    extra: ClassVar[str] = "code"
    packages: ClassVar[tuple[str, ...]] = ("cloudpickle", "numpy")
    trust: ClassVar[Trust] = Trust.CODE

    def recognises(self, model: object) -> bool:
        """Tell whether it is an object that predicts or transforms; this flavor is the last to be asked."""
        return not isinstance(model, type) and (hasattr(model, "predict") or hasattr(model, "transform"))

    def detects(self, path: str, head: bytes) -> bool:
        """Tell by the suffix or by the first bytes of a pickle."""
        return path.endswith(_SUFFIXES) or (head[:1] == _PICKLE and head[1:2] != b"" and head[1] in _PROTOCOLS)

    def wrap(self, model: object) -> Runnable:
        """Return the object as it is."""
        return OwnModel(model) if isinstance(model, Model) else Estimator(model)

    def save(self, model: object) -> dict[str, bytes]:
        """Return a pickle with the code of the class.

        Raises:
            MissingExtraError: cloudpickle is not installed.
        """
        cloudpickle = require("cloudpickle", extra=self.extra, feature="flavor `code`")
        module = _own_module(model)
        with _REGISTERING:
            if module is not None:
                cloudpickle.register_pickle_by_value(module)
            try:
                return {"model.pkl": cloudpickle.dumps(model)}
            finally:
                if module is not None:
                    cloudpickle.unregister_pickle_by_value(module)

    def inspect(self, files: Mapping[str, bytes], policy: TrustPolicy) -> None:
        """Refuse unless the policy allows code.

        Raises:
            CodeNotAllowedError: It does not.
        """
        only_file(files, self.name)
        if not policy.allow_code:
            raise CodeNotAllowedError(given="a pickle (flavor `code`)")

    def load(self, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ANYWHERE) -> Runnable:  # noqa: ARG002
        """Unpickle, which runs whatever code the file brings; that also chooses its device and threads.

        Raises:
            CodeNotAllowedError: The policy does not allow code.
            LoadFailedError: It cannot be unpickled here, or is no model.
        """
        self.inspect(files, policy)
        try:
            model = _unpickle(only_file(files, self.name))
        except Exception as error:  # unpickling runs foreign code, which may raise anything
            raise LoadFailedError(ref=self.name, problem=f"it cannot be unpickled here ({in_words(error)})") from error
        if not self.recognises(model):
            raise LoadFailedError(ref=self.name, problem=f"it holds a {type(model).__name__}, which cannot predict")
        return self.wrap(model)


class OwnModel:
    """A `crossfade.Model`. `validate` runs before `predict` unless a preprocessor stands between request and model."""

    classes: tuple[Label, ...] = ()
    columns: tuple[str, ...] = ()
    matrix = False

    def __init__(self, model: Model) -> None:
        self._model = model
        self.inputs = tuple(model.required_inputs())
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec(LABELS, "FP64", (-1,)),)

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:  # noqa: ARG002 - only the model knows its outputs
        """Return everything the model answers."""
        if isinstance(inputs, dict):
            inputs = self._model.validate(inputs)
        answer = self._model.predict(inputs)
        if isinstance(answer, Mapping):
            return {str(name): tidy(value) for name, value in answer.items()}
        return {LABELS: tidy(answer)}


def _own_module(model: object) -> ModuleType | None:
    """Return the top-level module of the class when it is the user's own code rather than an installed package."""
    root = type(model).__module__.partition(".")[0]
    module = sys.modules.get(root)
    path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
    installed = not path or "site-packages" in path or "dist-packages" in path
    return None if installed or root in _NEVER_BY_VALUE else module


def _unpickle(data: bytes) -> Any:
    if data[:1] == _PICKLE and b"joblib" not in data[:4096]:
        import pickle

        return pickle.loads(data)  # noqa: S301 - behind the policy
    return require("joblib", extra="sklearn", feature="a joblib file").load(io.BytesIO(data))
