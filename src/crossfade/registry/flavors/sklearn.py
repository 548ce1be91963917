"""scikit-learn through skops: a list of types decides what a file may build, and equal models give equal bytes."""

from __future__ import annotations

import binascii
import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

import numpy as np

from crossfade.core.tensors import Tensors
from crossfade.errors import CodeNotAllowedError, LoadFailedError, UntrustedTypesError
from crossfade.registry.flavors.answers import (
    LABELS,
    PROBABILITIES,
    Estimator,
    in_words,
    only_file,
    require,
    single,
    tidy,
)
from crossfade.registry.flavors.columns import forget_columns
from crossfade.registry.flavors.linear import compile_linear
from crossfade.registry.flavors.port import Runnable, Trust, TrustPolicy
from crossfade.registry.flavors.skops import TRUSTED_TYPES, canonical
from crossfade.registry.flavors.trees import check_trees
from crossfade.registry.placement import ANYWHERE, Placement, never

MAX_EXPANSION = 50
"""A file that unpacks to more than this many times its size is refused as a bomb."""

_BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    binascii.Error,
    struct.error,
)
"""What skops, numpy and zipfile raise on damaged files."""


class Sklearn:
    """Fitted scikit-learn estimators, pipelines and transformers."""

    name: ClassVar[str] = "sklearn"
    extra: ClassVar[str] = "sklearn"
    packages: ClassVar[tuple[str, ...]] = ("scikit-learn", "skops", "numpy", "scipy")
    trust: ClassVar[Trust] = Trust.CONSTRAINED

    def recognises(self, model: object) -> bool:
        """Tell whether it is a scikit-learn estimator, an instance rather than a class."""
        names = {(kind.__module__, kind.__name__) for kind in type(model).__mro__}
        return ("sklearn.base", "BaseEstimator") in names

    def detects(self, path: str, head: bytes) -> bool:
        """Tell by the suffix and the zip signature."""
        return path.endswith(".skops") and head.startswith(b"PK\x03\x04")

    def wrap(self, model: object) -> Runnable:
        """Return the estimator as a runnable model."""
        return FittedEstimator(model)

    def save(self, model: object) -> dict[str, bytes]:
        """Return one canonical skops file.

        Raises:
            CodeNotAllowedError: Something inside can only be pickled.
            MissingExtraError: skops is not installed.
        """
        skops = _skops()
        try:
            data: bytes = skops.dumps(model)
        except (AttributeError, RecursionError, TypeError, ValueError) as error:  # each is "cannot be saved" in skops
            kind = type(model)
            raise CodeNotAllowedError(given=f"`{kind.__module__}.{kind.__qualname__}` ({in_words(error)})") from error
        return {"model.skops": canonical(data)}

    def inspect(self, files: Mapping[str, bytes], policy: TrustPolicy) -> None:
        """Refuse files that are damaged, unpack to too much, or hold types that are not trusted.

        Raises:
            UntrustedTypesError: Names the types.
            LoadFailedError: It is no skops file.
        """
        data = only_file(files, self.name)
        _check_expansion(data)
        try:
            found = set(_skops().get_untrusted_types(data=data))
        except _BROKEN as error:
            raise _failed(error) from error
        unknown = found - TRUSTED_TYPES - policy.trusted_types
        if unknown:
            raise UntrustedTypesError(types=", ".join(sorted(unknown)))

    def load(self, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ANYWHERE) -> Runnable:
        """Build the estimator from trusted types only.

        Raises:
            UntrustedTypesError: Names the types.
            LoadFailedError: It is no skops file, or a tree in it points outside of itself.
        """
        self.inspect(files, policy)
        placement.on_gpu(never, self.name)
        data = only_file(files, self.name)
        try:
            estimator = _skops().loads(data, trusted=sorted(TRUSTED_TYPES | policy.trusted_types))
            check_trees(estimator)
            _limit_jobs(estimator, placement.threads or 1)
            return FittedEstimator(estimator, own=True)
        except _BROKEN as error:
            raise _failed(error) from error


class FittedEstimator(Estimator):
    """A scikit-learn estimator, called without repeating the checks that the signature has already made.

    scikit-learn's configuration belongs to a thread, so it is set around each call, in whichever thread predicts.

    Args:
        estimator: The fitted estimator.
        own: Whether it was loaded here, so that it may be changed.
    """

    def __init__(self, estimator: Any, *, own: bool = False) -> None:
        from sklearn import config_context

        super().__init__(estimator)
        self.matrix = not self.columns or (own and forget_columns(estimator))
        self._trusting: Callable[[], AbstractContextManager[None]] = partial(
            config_context, assume_finite=True, skip_parameter_validation=True
        )
        steps = getattr(estimator, "steps", None)
        several = steps and len(steps) > 1
        self._head: Any = estimator[:-1] if several else None
        self._last: Any = estimator[-1] if several else estimator
        self._shared = _shared_methods(self._last) if own else {}
        with self._trusting():
            self._compiled = compile_linear(estimator) if own and self.matrix else None

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Predict; for labels and probabilities together, rows are transformed once, and scored once."""
        rows = self._rows(inputs)
        if self._compiled is not None and self._compiled.takes(rows):
            return self._compiled.predict(rows, wanted)
        with self._trusting():
            if not (LABELS in wanted and PROBABILITIES in wanted):
                return super().predict(rows, wanted)
            if self._head is not None:
                rows = self._head.transform(rows)
            vars(self._last).update(self._shared)
            try:
                return {LABELS: tidy(self._last.predict(rows)), PROBABILITIES: tidy(self._last.predict_proba(rows))}
            finally:
                for name, method in self._shared.items():
                    delattr(self._last, name)
                    method.forget()

    def transform(self, inputs: object) -> object:
        """Return what the fitted preprocessor makes of the inputs."""
        rows = self._rows(inputs)
        with self._trusting():
            return super().transform(rows)

    def _rows(self, inputs: object) -> Any:
        """Bridge frames and arrays: columns that were forgotten are not given, columns that are known are."""
        rows: Any = single(inputs)
        if not self.columns:
            return rows
        if self.matrix:
            return rows[list(self.columns)].to_numpy() if hasattr(rows, "columns") else rows
        if isinstance(rows, np.ndarray):
            return require("pandas", extra="pandas", feature="this model").DataFrame(rows, columns=list(self.columns))
        return rows


class _Shared:
    """A method of an estimator that is computed once for the same rows: `predict` and `predict_proba` both call it.

    Most of what a linear model costs for a few rows is getting to its scores, and a forest's labels are made of its
    probabilities. The probabilities have to be asked for last: they may be written where the scores were.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self._rows: Any = None
        self._answer: Any = None

    def __call__(self, rows: Any, *args: Any, **options: Any) -> Any:
        """Answer as the method does."""
        if args or options:
            return self._method(rows, *args, **options)
        if self._rows is not rows:
            self._rows, self._answer = rows, self._method(rows)
        return self._answer

    def forget(self) -> None:
        """Keep nothing of the last call."""
        self._rows = self._answer = None


def _shared_methods(estimator: Any) -> dict[str, _Shared]:
    """Return what may stand in the place of an estimator's methods for as long as one call takes."""
    names = [name for name in ("decision_function", PROBABILITIES) if hasattr(estimator, name)]
    return {name: _Shared(getattr(estimator, name)) for name in names} if hasattr(estimator, "__dict__") else {}


def _limit_jobs(estimator: Any, threads: int) -> None:
    """Let no part of an estimator start more threads; it was told how many at training time, on another machine."""
    if hasattr(estimator, "get_params"):
        jobs = {key: value for key, value in estimator.get_params().items() if key.rpartition("__")[2] == "n_jobs"}
        estimator.set_params(**{key: threads for key, value in jobs.items() if value not in (None, 1)})


def _skops() -> Any:
    return require("skops.io", extra="sklearn", feature="flavor `sklearn`")


def _check_expansion(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except _BROKEN as error:
        raise _failed(error) from error
    if size > MAX_EXPANSION * len(data):
        raise LoadFailedError(ref="sklearn", problem=f"it unpacks to {size} bytes, over {MAX_EXPANSION} times its size")


def _failed(error: BaseException) -> LoadFailedError:
    return LoadFailedError(ref="sklearn", problem=f"it is no intact skops file ({in_words(error)})")
