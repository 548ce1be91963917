"""What the flavors share: turning what a library returns into arrays, and calling objects that predict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from crossfade.core.tensors import Array, Label, Tensors, TensorSpec, datatype_of
from crossfade.errors import LoadFailedError, MissingExtraError

LABELS = "predict"
PROBABILITIES = "predict_proba"


def require(module: str, *, extra: str, feature: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).partition(".")[0]
        raise MissingExtraError(feature=feature, package=package, extra=extra) from error


def in_words(error: BaseException) -> str:
    """Return the kind and the first line of a foreign error; native libraries append stack traces and more."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def only_file(files: Mapping[str, bytes], flavor: str) -> bytes:
    """Return the content of the single file that a format consists of.

    Raises:
        LoadFailedError: There is none, or there are several.
    """
    if len(files) != 1:
        raise LoadFailedError(ref=flavor, problem=f"a model in this format is one file, not {len(files)}")
    return next(iter(files.values()))


def single(inputs: object) -> object:
    """Return the array itself when the inputs are a dict of just one; most libraries want it bare."""
    if isinstance(inputs, dict) and len(inputs) == 1:
        return next(iter(inputs.values()))
    return inputs


def tidy(value: Any) -> Array:
    """Return an answer as an array in one of our dtypes.

    Raises:
        TypeError: The protocol has no datatype for it.
    """
    if hasattr(value, "toarray"):  # a scipy sparse matrix
        value = value.toarray()
    array = value if type(value) is np.ndarray else np.asarray(value)
    kind = array.dtype.kind
    if kind in "US":
        return array.astype(object)
    if kind not in "biufO" or array.dtype.itemsize > 8:
        raise TypeError(f"it answers with {array.dtype}, which is neither numbers, booleans nor text")
    return array


def labels_of(classes: Iterable[Any]) -> tuple[Label, ...]:
    """Return the labels of a classifier as plain Python values."""
    plain = (value.item() if isinstance(value, np.generic) else value for value in classes)
    return tuple(value if isinstance(value, (bool, int, float, str)) else str(value) for value in plain)


def classifier_outputs(classes: tuple[Label, ...], *, labels: str, width: str = "FP64") -> tuple[TensorSpec, ...]:
    """Return the outputs of a classifier: `predict` in the datatype `labels`, `predict_proba` in `width`."""
    return TensorSpec(LABELS, labels, (-1,)), TensorSpec(PROBABILITIES, width, (-1, len(classes)))


def label_datatype(classes: tuple[Label, ...]) -> str:
    """Return the datatype of these labels."""
    return datatype_of(np.asarray(classes).dtype)


class Estimator:
    """Runs an object with scikit-learn's methods `predict`, `predict_proba` and `transform`, through those methods."""

    inputs: tuple[TensorSpec, ...] = ()

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.columns = tuple(str(name) for name in getattr(estimator, "feature_names_in_", ()))
        self.matrix = not self.columns
        self.classes = labels_of(_classes(estimator))
        if self.classes and hasattr(estimator, "predict_proba"):
            self.outputs = classifier_outputs(self.classes, labels=label_datatype(self.classes))
        else:
            self.outputs = (TensorSpec(LABELS, label_datatype(self.classes) if self.classes else "FP64", (-1,)),)

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Call exactly the methods that are wanted."""
        rows = single(inputs)
        answers: Tensors = {}
        if LABELS in wanted:
            answers[LABELS] = tidy(self.estimator.predict(rows))
        if PROBABILITIES in wanted:
            answers[PROBABILITIES] = tidy(self.estimator.predict_proba(rows))
        return answers

    def transform(self, inputs: object) -> object:
        """Return what the fitted preprocessor makes of the inputs."""
        return self.estimator.transform(single(inputs))


def _classes(estimator: Any) -> Iterable[Any]:
    """Return `classes_`, unless there is one set per output (a list of arrays), which has no single set of labels."""
    classes = getattr(estimator, "classes_", None)
    if classes is None or not hasattr(estimator, "predict"):
        return ()
    array = np.asarray(classes) if not isinstance(classes, list) or not _nested(classes) else np.empty(0)
    return array if array.ndim == 1 else ()


def _nested(classes: list[Any]) -> bool:
    return any(isinstance(item, (list, tuple, np.ndarray)) for item in classes)
