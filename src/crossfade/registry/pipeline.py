"""A loaded version: fitted preprocessor and model run as one, from checked tensors to checked tensors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from crossfade.core.tensors import DTYPES, Array, Signature, Tensors, row_count
from crossfade.errors import CrossfadeError, MissingExtraError, PredictionError
from crossfade.registry.flavors.answers import in_words
from crossfade.registry.flavors.port import Runnable, Transformer

_NOBODY: Mapping[tuple[str, str], int] = {}


class Pipeline:
    """Preprocessor and model behind one signature. Called from one thread at a time.

    Args:
        signature: The typed schema; inputs must have passed `Signature.check`.
        model: The loaded model.
        preprocessor: The loaded preprocessor, when the version has one.
        ref: What errors call the version.

    Attributes:
        preprocess_seconds: How long the last call took until the model itself was called.
    """

    def __init__(
        self, signature: Signature, model: Runnable, preprocessor: Transformer | None = None, ref: str = "MODEL"
    ) -> None:
        self.signature = signature
        self.model = model
        self.preprocessor = preprocessor
        self.ref = ref
        self.preprocess_seconds = 0.0
        self._assemble = _assembly(signature)
        self._specs = {spec.name: spec for spec in signature.outputs}

    @property
    def member_rows(self) -> Mapping[tuple[str, str], int]:
        """What became of the rows of the last call with each member, where the model has members."""
        rows: Mapping[tuple[str, str], int] = getattr(self.model, "member_rows", _NOBODY)
        return rows

    def predict(self, tensors: Tensors, wanted: frozenset[str]) -> Tensors:
        """Return the wanted outputs, and only those.

        Args:
            tensors: Inputs that passed `signature.check`, n rows.
            wanted: Names of outputs in the signature.

        Returns:
            Arrays with n rows, in the order and the dtypes of the signature.

        Raises:
            PredictionError: The model failed, or its answer has another form than its signature says.
        """
        answers = self.answer(tensors, wanted)
        rows = row_count(tensors)
        return {name: self._checked(name, answers.get(name), rows) for name in self._specs if name in wanted}

    def answer(self, tensors: Tensors, wanted: frozenset[str]) -> Tensors:
        """Return what the model gives, without holding it to the signature's outputs.

        Raises:
            PredictionError: The preprocessor or the model failed.
        """
        started = time.perf_counter()
        try:
            inputs = self._assemble(tensors)
            if self.preprocessor is not None:
                inputs = self.preprocessor.transform(inputs)
            self.preprocess_seconds = time.perf_counter() - started
            return self.model.predict(inputs, wanted)
        except CrossfadeError:
            raise
        except Exception as error:  # a model is foreign code: whatever it raises is a failed prediction
            raise PredictionError(ref=self.ref, problem=in_words(error)) from error

    def _checked(self, name: str, answer: Array | None, rows: int) -> Array:
        spec = self._specs[name]
        if answer is None:
            raise PredictionError(ref=self.ref, problem=f"it gave no output `{name}`")
        shape = answer.shape
        if len(shape) != len(spec.shape) or shape[0] != rows or not _fits(spec.shape[1:], shape[1:]):
            expected = [rows, *spec.shape[1:]]
            raise PredictionError(ref=self.ref, problem=f"output `{name}` has shape {list(shape)}, expected {expected}")
        dtype = DTYPES[spec.datatype]
        if answer.dtype == dtype:
            return answer
        if answer.dtype.kind != dtype.kind and not np.can_cast(answer.dtype, dtype, "safe"):
            raise PredictionError(ref=self.ref, problem=f"output `{name}` is {answer.dtype}, expected {spec.datatype}")
        return answer.astype(dtype)


def _fits(declared: tuple[int, ...], actual: tuple[int, ...]) -> bool:
    return declared == actual or all(want in (-1, have) for want, have in zip(declared, actual, strict=True))


# --- layouts -------------------------------------------------------------------------------------------------------


def _assembly(signature: Signature) -> Callable[[Tensors], object]:
    """Return the function that puts checked tensors into the layout that the model wants."""
    if signature.layout == "matrix":
        return _matrix
    if signature.layout == "pandas":
        return _pandas(signature)
    if signature.layout == "polars":
        return _polars
    return _as_they_are


def _as_they_are(tensors: Tensors) -> object:
    return tensors


def _matrix(tensors: Tensors) -> object:
    matrix = np.empty((row_count(tensors), len(tensors)), dtype=np.float64)
    for position, column in enumerate(tensors.values()):
        matrix[:, position] = column
    return matrix


def _pandas(signature: Signature) -> Callable[[Tensors], object]:
    pandas = _frames("pandas")
    names = pandas.Index([spec.name for spec in signature.inputs])
    if len({spec.datatype for spec in signature.inputs}) == 1 and signature.inputs[0].datatype != "BYTES":
        return lambda tensors: pandas.DataFrame(np.stack(list(tensors.values()), axis=1), columns=names, copy=False)
    return lambda tensors: pandas.DataFrame(tensors, copy=False)


def _polars(tensors: Tensors) -> object:
    return _frames("polars").DataFrame(tensors)


def _frames(package: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature=f"this version's {package} frame", package=package, extra=package) from error
