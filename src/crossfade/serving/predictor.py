"""`Predictor`: one loaded version as a Python object, wherever its model runs.

`crossfade.load` gives one whose model runs in this process; with a server, one that asks it. Both check
inputs against the signature here, before anything is sent or computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from html import escape
from typing import Any

import msgspec
import numpy as np

from crossfade.core.conversion import to_tensors
from crossfade.core.tensors import Array, Signature, Tensors, row_count
from crossfade.errors import SignatureMismatchError
from crossfade.registry.versions import Card, Version

Answer = Callable[[Tensors, frozenset[str]], Tensors]

LABELS = "predict"
PROBABILITIES = "predict_proba"
_LONG_WORK_ROWS = 10_000


class PredictorInfo(msgspec.Struct, frozen=True):
    """What a predictor answers for: the version, its signature and its card."""

    version: Version
    signature: Signature
    card: Card = Card()

    @property
    def ref(self) -> str:
        """`name:1.2.0`."""
        return self.version.ref

    def check(self, inputs: object) -> Tensors:
        """Return inputs of any kind as the tensors that the version takes.

        Raises:
            SignatureMismatchError: Names the field, what is expected and what was given.
        """
        return checked_inputs(inputs, self.signature, self.ref)

    def _repr_html_(self) -> str:
        rows = [("version", self.ref), ("stage", self.version.stage), ("flavor", self.version.flavor)]
        rows += [(f"evaluation: {name}", f"{value:.6g}") for name, value in sorted(self.version.evaluation.items())]
        rows += [(f"input: {spec.name}", spec.describe()) for spec in self.signature.inputs]
        rows += [(f"output: {spec.name}", spec.describe()) for spec in self.signature.outputs]
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
        return f"<table>{cells}</table>"


class Predictor:
    """Predicts with one pinned version; moving an alias afterwards does not change it.

    Example:
        >>> predictor = crossfade.load("flight_delay@champion")  # doctest: +SKIP
        >>> predictor.predict(flights, probabilities=True).shape  # doctest: +SKIP
        (20, 2)
    """

    def __init__(self, info: PredictorInfo, answer: Answer) -> None:
        self.info = info
        self._answer = answer

    def predict(self, inputs: object, *, probabilities: bool = False) -> Array:
        """Predict all rows in one call.

        Args:
            inputs: A pandas or polars frame, a numpy array, a dict of arrays, or a list of row dicts.
            probabilities: Return the (n, k) float64 probabilities of `info.signature.classes` instead of labels.

        Returns:
            (n, ...) array, one entry per row of `inputs`; the first output when there is no `predict`.

        Raises:
            SignatureMismatchError: The inputs do not fit, or the version has no probabilities.
            PredictionError: The model failed.
        """
        output = wanted_output(self.info.signature, probabilities=probabilities)
        return self._answer(self.info.check(inputs), frozenset((output,)))[output]

    def predict_batch(
        self, inputs: object, *, batch_size: int = 1000, probabilities: bool = False, progress: bool | None = None
    ) -> Array:
        """Predict many rows in pieces, so that memory stays bounded.

        Args:
            inputs: As for `predict`.
            batch_size: Rows per piece.
            probabilities: As for `predict`.
            progress: Show a bar on stderr; by default for more than 10,000 rows on a terminal.
        """
        output = wanted_output(self.info.signature, probabilities=probabilities)
        return self.predict_outputs(inputs, (output,), batch_size=batch_size, progress=progress)[output]

    def predict_outputs(
        self, inputs: object, outputs: Iterable[str], *, batch_size: int = 1000, progress: bool | None = None
    ) -> Tensors:
        """Predict many rows in pieces, and return several outputs of one run of the model.

        Args:
            inputs: As for `predict`.
            outputs: Names of outputs of the signature.
            batch_size: Rows per piece.
            progress: As for `predict_batch`.
        """
        wanted = frozenset(self.info.signature.output(name).name for name in outputs)
        pieces = in_pieces(self.info.check(inputs), batch_size, progress=progress, title=self.info.ref)
        return joined([self._answer(piece, wanted) for piece in pieces])

    def validate(self, inputs: object) -> None:
        """Check inputs against the signature without predicting.

        Raises:
            SignatureMismatchError: Names the field, what is expected and what was given.
        """
        self.info.check(inputs)

    def __repr__(self) -> str:
        """Name the version."""
        return f"<Predictor {self.info.ref}>"

    def _repr_html_(self) -> str:
        return self.info._repr_html_()


def checked_inputs(inputs: object, signature: Signature, ref: str) -> Tensors:
    """Return inputs of any kind as the tensors of a signature; `ref` is whose, for errors.

    Raises:
        SignatureMismatchError: They do not fit.
    """
    try:
        return signature.check(to_tensors(inputs, signature.inputs))
    except SignatureMismatchError as error:
        facts: dict[str, Any] = error.facts | {"ref": ref}
        raise SignatureMismatchError(**facts) from error


def wanted_output(signature: Signature, *, probabilities: bool) -> str:
    """Return the output that people mean: the labels, or the first one when there are none.

    Raises:
        SignatureMismatchError: The version has no probabilities.
    """
    if probabilities:
        return signature.output(PROBABILITIES).name
    names = [spec.name for spec in signature.outputs]
    return LABELS if LABELS in names else names[0]


def in_pieces(tensors: Tensors, size: int, *, progress: bool | None, title: str) -> Iterator[Tensors]:
    """Yield the rows in pieces of at most `size`, at least one piece; see `Predictor.predict_batch` for `progress`."""
    if size < 1:
        raise SignatureMismatchError(field="batch_size", expected="at least 1", given=str(size))
    rows = row_count(tensors)
    for start in _with_progress(range(0, max(rows, 1), size), rows, progress, title):
        yield {name: value[start : start + size] for name, value in tensors.items()}


def joined(pieces: list[Tensors]) -> Tensors:
    """Return the answers to pieces as one."""
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _with_progress(starts: range, rows: int, progress: bool | None, title: str) -> Iterator[int] | range:
    if progress is False or (progress is None and rows <= _LONG_WORK_ROWS):
        return starts
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if progress is None and not console.is_terminal:
        return starts
    return iter(track(starts, description=title, console=console))
